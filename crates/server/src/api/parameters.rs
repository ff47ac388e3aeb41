//! What both endpoints take: how to sample, when to stop, what to report.

use serde_json::Value;

use super::error::Result;
use super::fields::{Fields, integer, token_id};
use crate::config::ServerConfig;
use crate::engine::{ModelCard, Sampling, TokenId, TopLogprobs};
use crate::grammar::Form;

/// Stop strings that a request may have, and the bytes of each.
const STOP_STRINGS: usize = 256;
const STOP_BYTES: usize = 1024;

/// A repetition penalty below it makes logits infinite.
const LEAST_PENALTY: f32 = 0.01;

/// Penalties and biases beyond these are mistakes.
const BIAS: f32 = 100.0;

/// The parameters of a request, checked, with the defaults filled in.
#[derive(Debug)]
pub(crate) struct Parameters {
    /// The model or adapter that is asked for.
    pub(crate) model: Option<String>,
    /// Choices for each prompt.
    pub(crate) n: u32,
    /// How tokens are chosen.
    pub(crate) sampling: Sampling,
    /// Tokens of a choice at most, if the request says so.
    pub(crate) max_tokens: Option<usize>,
    /// The field that said so.
    pub(crate) max_tokens_field: &'static str,
    /// Tokens before which nothing stops a choice.
    pub(crate) min_tokens: usize,
    /// Texts that end a choice.
    pub(crate) stop: Vec<String>,
    /// Tokens that end a choice.
    pub(crate) stop_token_ids: Vec<TokenId>,
    /// Whether the model's own end does not end a choice.
    pub(crate) ignore_eos: bool,
    /// Whether the text that ended a choice is part of it.
    pub(crate) include_stop: bool,
    /// Whether special tokens have no text.
    pub(crate) skip_special: bool,
    /// Logprobs of the prompt's tokens.
    pub(crate) prompt_logprobs: TopLogprobs,
    /// Whether answers carry token ids.
    pub(crate) return_token_ids: bool,
    /// Whether tokens in logprobs are written as `token_id:7`.
    pub(crate) tokens_as_ids: bool,
    /// What the text must be.
    pub(crate) form: Option<Form>,
    /// What was generated already.
    pub(crate) continuation: Option<Continuation>,
    /// How the answer is sent, if in pieces.
    pub(crate) stream: Option<Streaming>,
}

/// Where another server stopped.
#[derive(Debug, PartialEq)]
pub(crate) struct Continuation {
    /// The tokens that it generated.
    pub(crate) token_ids: Vec<TokenId>,
    /// Which of the request's choices it was.
    pub(crate) choice: u32,
}

/// What a stream reports besides the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Streaming {
    /// The last event has the usage.
    pub(crate) include_usage: bool,
    /// Every event has it.
    pub(crate) continuous_usage: bool,
}

impl Parameters {
    /// Takes everything but what is one endpoint's own; `max_tokens` and `logprobs` are.
    pub(crate) fn take(
        fields: &mut Fields,
        config: &ServerConfig,
        card: &ModelCard,
    ) -> Result<Self> {
        let stream = streaming(fields)?;
        let has_seed = fields.has("seed");
        let sampling = sampling(fields, config, card)?;
        let n = fields.count("n", 1..=config.max_choices)?.unwrap_or(1) as u32;
        let continuation = continuation(fields, card, n)?;
        if continuation.is_some() && sampling.temperature > 0.0 && !has_seed {
            return Err(fields.invalid(
                "continue_from",
                "needs the `seed` of the request that it goes on with",
            ));
        }
        let prompt_logprobs = top_logprobs(fields, "prompt_logprobs", config)?;
        if prompt_logprobs != TopLogprobs::None && stream.is_some() {
            return Err(fields.invalid("prompt_logprobs", "not in a stream"));
        }
        Ok(Self {
            model: fields.text("model")?,
            n: if continuation.is_some() { 1 } else { n },
            sampling,
            max_tokens: None,
            max_tokens_field: "max_tokens",
            min_tokens: fields
                .count("min_tokens", 0..=card.max_model_len)?
                .unwrap_or(0),
            stop: stop_strings(fields)?,
            stop_token_ids: stop_tokens(fields, card)?,
            ignore_eos: fields.flag("ignore_eos", false)?,
            include_stop: fields.flag("include_stop_str_in_output", false)?,
            skip_special: fields.flag("skip_special_tokens", true)?,
            prompt_logprobs,
            return_token_ids: fields.flag("return_token_ids", false)?,
            tokens_as_ids: fields.flag("return_tokens_as_token_ids", false)?,
            form: Form::take(fields)?,
            continuation,
            stream,
        })
    }
}

/// A count of logprobs, `-1` for the whole vocabulary; the field `name` is the token's own with 0.
pub(crate) fn top_logprobs(
    fields: &mut Fields,
    name: &str,
    config: &ServerConfig,
) -> Result<TopLogprobs> {
    let most = config
        .max_logprobs
        .map_or(i64::MAX, |most| i64::try_from(most).unwrap_or(i64::MAX));
    let Some(count) = fields.integer(name, -1..=i64::MAX)? else {
        return Ok(TopLogprobs::None);
    };
    match usize::try_from(count) {
        Ok(best) if count <= most => Ok(TopLogprobs::Best(best)),
        Err(_) if config.max_logprobs.is_none() => Ok(TopLogprobs::All),
        _ => Err(fields.invalid(
            name,
            format!("this server gives at most {most} logprobs of a token"),
        )),
    }
}

/// How many tokens an answer may have. 0 is left to [`Plan`](crate::generate::Plan): a prompt alone may be all that is wanted.
pub(crate) fn max_tokens(
    fields: &mut Fields,
    name: &str,
    card: &ModelCard,
) -> Result<Option<usize>> {
    let most = card.max_model_len;
    fields.count(name, 0..=most).map_err(|_| {
        let message = format!("expected an integer from 1 to {most}, or none for the default");
        fields.invalid(name, message)
    })
}

fn streaming(fields: &mut Fields) -> Result<Option<Streaming>> {
    let stream = fields.flag("stream", false)?;
    let options = fields.object("stream_options")?;
    let Some(mut options) = options else {
        let none = Streaming {
            include_usage: false,
            continuous_usage: false,
        };
        return Ok(stream.then_some(none));
    };
    if !stream {
        return Err(fields.invalid("stream_options", "only with `stream`"));
    }
    let include_usage = options.flag("include_usage", false)?;
    let continuous = options.flag("continuous_usage_stats", false)?;
    if continuous && !include_usage {
        return Err(options.invalid("continuous_usage_stats", "only with `include_usage`"));
    }
    options.finish(&[("include_obfuscation", "[false]")])?;
    Ok(Some(Streaming {
        include_usage,
        continuous_usage: continuous,
    }))
}

fn sampling(fields: &mut Fields, config: &ServerConfig, card: &ModelCard) -> Result<Sampling> {
    let defaults = &config.defaults;
    let top_p = top_p(fields)?.or(defaults.top_p).unwrap_or(1.0);
    let repetition_penalty = fields
        .number("repetition_penalty", LEAST_PENALTY..=100.0)?
        .or(defaults.repetition_penalty)
        .unwrap_or(1.0);
    let temperature = fields.number("temperature", 0.0..=100.0)?;
    let top_k = fields.integer("top_k", -1..=i64::from(u32::MAX))?;
    Ok(Sampling {
        temperature: greedy_below(temperature.or(defaults.temperature).unwrap_or(1.0)),
        top_p,
        top_k: match top_k {
            Some(count) => u32::try_from(count).unwrap_or(0),
            None => defaults.top_k.unwrap_or(0),
        },
        min_p: fields
            .number("min_p", 0.0..=1.0)?
            .or(defaults.min_p)
            .unwrap_or(0.0),
        presence_penalty: fields
            .number("presence_penalty", -2.0..=2.0)?
            .unwrap_or(0.0),
        frequency_penalty: fields
            .number("frequency_penalty", -2.0..=2.0)?
            .unwrap_or(0.0),
        repetition_penalty,
        logit_bias: logit_bias(fields, card)?,
        seed: seed(fields)?,
    })
}

/// Every number above 0 keeps at least one token, however small it is.
fn top_p(fields: &mut Fields) -> Result<Option<f32>> {
    let Some(value) = fields.take("top_p") else {
        return Ok(None);
    };
    let share = value.as_f64().filter(|share| *share > 0.0 && *share <= 1.0);
    let share = share.map(|share| (share as f32).max(f32::MIN_POSITIVE));
    share
        .map(Some)
        .ok_or_else(|| fields.invalid("top_p", "expected a number above 0, up to 1"))
}

/// vLLM's own limit: below it, dividing by the temperature says nothing any more.
fn greedy_below(temperature: f32) -> f32 {
    if temperature < 1e-5 { 0.0 } else { temperature }
}

fn seed(fields: &mut Fields) -> Result<u64> {
    match fields.take("seed") {
        None => Ok(crate::chance::random()),
        Some(seed) => {
            let seed = seed
                .as_u64()
                .or_else(|| integer(&seed).map(i64::cast_unsigned));
            seed.ok_or_else(|| fields.invalid("seed", "expected an integer of 64 bits"))
        }
    }
}

fn logit_bias(fields: &mut Fields, card: &ModelCard) -> Result<Vec<(TokenId, f32)>> {
    let bias = match fields.take("logit_bias") {
        None => return Ok(Vec::new()),
        Some(Value::Object(bias)) => bias,
        Some(_) => {
            return Err(
                fields.invalid("logit_bias", "expected an object from token ids to numbers")
            );
        }
    };
    let pair = |(id, bias): (&String, &Value)| {
        let number = id.parse::<TokenId>().ok();
        let number = number.filter(|number| (*number as usize) < card.vocab_size);
        let id = number.filter(|number| number.to_string() == *id)?;
        let bias = bias.as_f64().map(|bias| bias as f32);
        Some((id, bias.filter(|bias| bias.abs() <= BIAS)?))
    };
    let pairs = bias.iter().map(pair).collect::<Option<Vec<_>>>();
    let expected = || {
        format!(
            "expected token ids below {} and numbers from -{BIAS} to {BIAS}",
            card.vocab_size
        )
    };
    pairs.ok_or_else(|| fields.invalid("logit_bias", expected()))
}

fn stop_strings(fields: &mut Fields) -> Result<Vec<String>> {
    let stop = fields.texts("stop", STOP_STRINGS)?;
    if stop
        .iter()
        .any(|text| text.is_empty() || text.len() > STOP_BYTES)
    {
        return Err(fields.invalid(
            "stop",
            format!("expected strings of 1 to {STOP_BYTES} bytes"),
        ));
    }
    Ok(stop)
}

fn stop_tokens(fields: &mut Fields, card: &ModelCard) -> Result<Vec<TokenId>> {
    let ids = fields.ids("stop_token_ids")?.unwrap_or_default();
    match ids.iter().find(|id| **id as usize >= card.vocab_size) {
        Some(id) => Err(fields.invalid("stop_token_ids", format!("no token has the id {id}"))),
        None => Ok(ids),
    }
}

/// `n`: choices of the request that it goes on with, of which it is one.
fn continuation(fields: &mut Fields, card: &ModelCard, n: u32) -> Result<Option<Continuation>> {
    let Some(mut inner) = fields.object("continue_from")? else {
        return Ok(None);
    };
    let Some(token_ids) = inner.ids("token_ids")? else {
        return Err(inner.invalid("token_ids", "expected the ids that were generated already"));
    };
    if let Some(id) = token_ids.iter().find(|id| **id as usize >= card.vocab_size) {
        return Err(inner.invalid("token_ids", format!("no token has the id {id}")));
    }
    let choice = inner.integer("choice", i64::MIN..=i64::MAX)?.unwrap_or(0);
    let Some(choice) = u32::try_from(choice).ok().filter(|choice| *choice < n) else {
        let message = format!("expected one of the `n` choices, from 0 to {}", n - 1);
        return Err(inner.invalid("choice", message));
    };
    inner.finish(&[])?;
    Ok(Some(Continuation { token_ids, choice }))
}

/// A prompt of ids, if the list is one.
pub(super) fn ids_of(list: &[Value]) -> Option<Vec<TokenId>> {
    list.iter().map(token_id).collect()
}

/// Takes everything that a body may have, whatever becomes of it.
pub(crate) fn fuzz(body: &[u8], config: &ServerConfig, card: &ModelCard) {
    let Ok(mut fields) = Fields::parse(body) else {
        return;
    };
    let parameters = Parameters::take(&mut fields, config, card);
    let messages = fields
        .list("messages")
        .ok()
        .flatten()
        .map(crate::chat::messages::normal);
    let tools = fields
        .list("tools")
        .ok()
        .flatten()
        .map(|list| crate::grammar::Tool::read_all(&list));
    drop((
        parameters,
        messages,
        tools,
        fields.finish(super::neutral::CHAT),
    ));
}
