//! What a request for a chat says.

use serde_json::{Map, Value};
use xgraft_tokenizer::{ChatTemplate, Conversation, TemplateError};

use super::Chat;
use crate::api::error::{ApiError, Result, quote};
use crate::api::fields::Fields;
use crate::api::neutral;
use crate::api::parameters::{Parameters, max_tokens, top_logprobs};
use crate::app::App;
use crate::chance::unix_time;
use crate::chat::{Calls, Opening, messages};
use crate::engine::{TokenId, TopLogprobs};
use crate::generate::{Job, Plan, Text};
use crate::grammar::{Thinking, Tool, ToolCalls};

impl Chat {
    /// Everything up to the engine's door; takes a while and must not run on an async worker.
    pub(crate) fn prepare(app: &App, id: &str, body: &[u8]) -> Result<(Self, Plan)> {
        let mut fields = Fields::parse(body)?;
        let card = app.engine.model();
        let mut parameters = Parameters::take(&mut fields, &app.config, card)?;
        let limit = max_tokens(&mut fields, "max_completion_tokens", card)?;
        parameters.max_tokens = max_tokens(&mut fields, "max_tokens", card)?;
        if parameters.max_tokens.is_none() && limit.is_some() {
            parameters.max_tokens = limit;
            parameters.max_tokens_field = "max_completion_tokens";
        }
        if limit.is_some() && parameters.max_tokens != limit {
            return Err(fields.invalid("max_tokens", "differs from `max_completion_tokens`"));
        }
        let logprobs = logprobs(&mut fields, app)?;
        let (tools, list, called) = tools(&mut fields, app)?;
        let include_reasoning = fields.flag("include_reasoning", true)?;
        let prompt = prompt(app, &mut fields, list.as_deref())?;
        fields.finish(neutral::CHAT)?;
        if called.is_some() && parameters.form.is_some() {
            return Err(ApiError::invalid(
                "tool_choice",
                "`tool_choice`: a call that must come leaves no room for a format",
            ));
        }
        let opening = opening(&prompt.text, app.config.split_reasoning);
        let thinking = match opening {
            Opening::Open => Thinking::Possible,
            Opening::Reasoning => Thinking::Begun,
            Opening::Content => Thinking::Over,
        };
        let form = called.map(|calls| calls.form());
        let continued = parameters.continuation.is_some();
        let ids = app.encode("messages", &prompt.text, prompt.add_special_tokens)?;
        let text = Text {
            form,
            thinking,
            default_max_tokens: None,
            prompt_only: false,
            prompt: "messages",
        };
        let job = Job::new(app, id, &parameters, vec![ids.into()], logprobs)?;
        let plan = Plan::new(app, &job, parameters, &text)?;
        Ok((
            Self {
                job,
                opening,
                tools,
                include_reasoning,
                continued,
            },
            plan,
        ))
    }
}

/// What may be called, by the model's own decision or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tools {
    /// Calls are text.
    Off,
    /// The model may call.
    Free { several: bool },
    /// It must, one of them.
    Required { several: bool },
    /// It must call this one, which clients do not take for its own decision.
    Named,
}

impl Tools {
    /// Which calls are looked for.
    pub(super) fn calls(self) -> Option<Calls> {
        let calls = |several, bound| Some(Calls { several, bound });
        match self {
            Self::Off => None,
            Self::Free { several } => calls(several, false),
            Self::Required { several } => calls(several, true),
            Self::Named => calls(false, true),
        }
    }
}

/// `logprobs` is a switch and `top_logprobs` the number, `-1` for all.
fn logprobs(fields: &mut Fields, app: &App) -> Result<TopLogprobs> {
    let top = top_logprobs(fields, "top_logprobs", &app.config)?;
    match (fields.flag("logprobs", false)?, top) {
        (true, TopLogprobs::None) => Ok(TopLogprobs::Best(0)),
        (true, top) => Ok(top),
        (false, TopLogprobs::None | TopLogprobs::Best(0)) => Ok(TopLogprobs::None),
        (false, _) => Err(fields.invalid("top_logprobs", "only with `logprobs`")),
    }
}

const NOT_READ: &str = "this model's chat template does not read them";

/// What may be called, the list for the template, and the calls that must come.
fn tools(fields: &mut Fields, app: &App) -> Result<(Tools, Option<Vec<Value>>, Option<ToolCalls>)> {
    let list = fields.list("tools")?.filter(|list| !list.is_empty());
    let known = Tool::read_all(list.as_deref().unwrap_or_default())?;
    let several = fields.flag("parallel_tool_calls", true)?;
    let choice = fields.take("tool_choice");
    if !matches!(choice, None | Some(Value::String(_) | Value::Object(_))) {
        return Err(fields.invalid("tool_choice", "expected none, auto, required or a function"));
    }
    let is_free = choice.as_ref().is_none_or(|choice| choice == "auto");
    let template = app.template.as_ref();
    if list.is_some() && is_free && template.is_some_and(|template| !template.reads("tools")) {
        let message = format!("{NOT_READ}; set `tool_choice` to `required` or a function");
        return Err(fields.invalid("tools", message));
    }
    if list.is_none()
        && !matches!(
            choice.as_ref().and_then(Value::as_str),
            None | Some("none" | "auto")
        )
    {
        return Err(fields.invalid("tool_choice", "needs `tools`"));
    }
    match choice {
        _ if list.is_none() && !matches!(choice, Some(Value::Object(_))) => {
            Ok((Tools::Off, None, None))
        }
        None => Ok((Tools::Free { several }, list, None)),
        Some(Value::String(choice)) => match choice.as_str() {
            "none" => Ok((Tools::Off, list, None)),
            "auto" => Ok((Tools::Free { several }, list, None)),
            "required" => Ok((
                Tools::Required { several },
                list,
                Some(ToolCalls {
                    tools: known,
                    several,
                }),
            )),
            _ => Err(fields.invalid("tool_choice", "expected none, auto, required or a function")),
        },
        Some(choice) => {
            let name = choice["function"]["name"].as_str().unwrap_or_default();
            let tools: Vec<Tool> = known
                .into_iter()
                .filter(|tool| tool.name() == name)
                .collect();
            if tools.is_empty() || choice["type"] != "function" {
                return Err(fields.invalid("tool_choice", "expected the name of one of `tools`"));
            }
            Ok((
                Tools::Named,
                list,
                Some(ToolCalls {
                    tools,
                    several: false,
                }),
            ))
        }
    }
}

struct Prompt {
    text: String,
    add_special_tokens: bool,
}

fn prompt(app: &App, fields: &mut Fields, tools: Option<&[Value]>) -> Result<Prompt> {
    let template = app.template.as_ref();
    let template =
        template.ok_or_else(|| ApiError::invalid("messages", "this model has no chat template"))?;
    let list = fields.list("messages")?.unwrap_or_default();
    let messages = messages::normal(list)?;
    let documents = fields.objects("documents")?;
    if documents.is_some() && !template.reads("documents") {
        return Err(fields.invalid("documents", NOT_READ));
    }
    let kwargs = template_kwargs(fields, template)?;
    let continue_final_message = fields.flag("continue_final_message", false)?;
    let add_generation_prompt = fields.flag("add_generation_prompt", true)?;
    if continue_final_message && add_generation_prompt {
        let message = "needs `add_generation_prompt` false";
        return Err(fields.invalid("continue_final_message", message));
    }
    let conversation = Conversation {
        tools,
        documents: documents.as_deref(),
        add_generation_prompt,
        continue_final_message,
        kwargs: kwargs.as_ref(),
        now: unix_time(),
        ..Conversation::new(&messages)
    };
    let rendered = template.render(&conversation);
    let text = rendered.map_err(|error| not_rendered(&error))?;
    Ok(Prompt {
        text,
        add_special_tokens: fields.flag("add_special_tokens", false)?,
    })
}

/// Switches that the template reads; others are mistakes, and would change nothing.
fn template_kwargs(
    fields: &mut Fields,
    template: &ChatTemplate,
) -> Result<Option<Map<String, Value>>> {
    let kwargs = fields.object("chat_template_kwargs")?.map(Fields::into_map);
    for (name, value) in kwargs.iter().flatten() {
        if !value.is_null() && !template.reads(name) {
            let name = format!("chat_template_kwargs.{name}");
            let message = format!(
                "`{}`: this model's chat template does not read it",
                quote(&name)
            );
            return Err(ApiError::invalid(&name, message));
        }
    }
    Ok(kwargs)
}

fn not_rendered(error: &TemplateError) -> ApiError {
    let message = error.to_string();
    match error {
        TemplateError::Reserved { name } => {
            ApiError::invalid(&format!("chat_template_kwargs.{name}"), message)
        }
        TemplateError::NotContinued => ApiError::invalid("continue_final_message", message),
        TemplateError::Thread { .. } => ApiError::internal(message),
        _ => ApiError::invalid("messages", message),
    }
}

/// What the prompt's end says about the answer's beginning.
fn opening(prompt: &str, split_reasoning: bool) -> Opening {
    let prompt = prompt.trim_end();
    if !split_reasoning || prompt.ends_with("</think>") {
        Opening::Content
    } else if prompt.ends_with("<think>") {
        Opening::Reasoning
    } else {
        Opening::Open
    }
}

/// The ids of a chat's prompt, for `/tokenize`.
pub(crate) fn tokenize(app: &App, fields: &mut Fields) -> Result<Vec<TokenId>> {
    let (_, list, _) = tools(fields, app)?;
    let prompt = prompt(app, fields, list.as_deref())?;
    app.encode("messages", &prompt.text, prompt.add_special_tokens)
}
