//! `tokenizer.json`: its form, and what of it is supported. Everything is checked here before the library sees it.

use crate::split::{Splits, Unsupported};
use crate::{Error, Result, TokenId, alphabet, json};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use tokenizers::NormalizerWrapper;

/// Larger than any real file (Qwen3's has 11 MB, Gemma's 33 MB).
const LARGEST_FILE: u64 = 128 << 20;

/// Above all real vocabularies (about 2^18), so that no id makes a table of gigabytes.
const LARGEST_ID: TokenId = 1 << 22;

/// The largest number of merges or added tokens; more would only be slow.
const MOST_ENTRIES: usize = 1 << 22;

/// The file, checked.
#[derive(Debug)]
pub(crate) struct TokenizerFile {
    pub(crate) added: Vec<AddedToken>,
    pub(crate) normalizer: Option<NormalizerWrapper>,
    pub(crate) post_processor: Value,
    /// Token and id, in the file's order.
    pub(crate) vocab: Vec<(String, TokenId)>,
    pub(crate) kind: Kind,
}

/// How a text becomes tokens of the vocabulary.
#[derive(Debug)]
pub(crate) enum Kind {
    /// Bytes that are merged within pieces.
    Bytes {
        splits: Splits,
        merges: Vec<(String, String)>,
        ignore_merges: bool,
    },
    /// Whole words between white space, and this one for all others.
    Words { unknown: String },
}

/// An entry of `added_tokens`, or of `added_tokens_decoder` in `tokenizer_config.json`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct AddedToken {
    #[serde(default)]
    pub(crate) id: TokenId,
    pub(crate) content: String,
    #[serde(default)]
    pub(crate) single_word: bool,
    #[serde(default)]
    pub(crate) lstrip: bool,
    #[serde(default)]
    pub(crate) rstrip: bool,
    #[serde(default)]
    pub(crate) normalized: bool,
    #[serde(default)]
    pub(crate) special: bool,
}

/// What the file says of its kinds, read before the rest so that another kind is refused by name.
#[derive(Deserialize)]
struct Kinds {
    model: ModelKind,
    #[serde(default)]
    decoder: Value,
}

#[derive(Deserialize)]
struct ModelKind {
    #[serde(rename = "type", default)]
    kind: Value,
    #[serde(default)]
    dropout: Value,
    #[serde(default)]
    continuing_subword_prefix: Value,
    #[serde(default)]
    end_of_word_suffix: Value,
}

#[derive(Deserialize)]
struct Whole<M> {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    model: M,
}

#[derive(Deserialize)]
struct Bpe {
    vocab: Vocab,
    merges: Vec<Merge>,
    #[serde(default)]
    ignore_merges: bool,
}

#[derive(Deserialize)]
struct Words {
    vocab: Vocab,
    #[serde(default)]
    unk_token: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Words(String),
}

/// The entries of a JSON object in their order, repeated ones too.
struct Vocab(Vec<(String, TokenId)>);

impl<'de> Deserialize<'de> for Vocab {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Vocab;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tokens and their ids")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocab, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Vocab(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl TokenizerFile {
    /// Reads and checks `tokenizer.json`.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        Self::parse(&json::bytes(file, LARGEST_FILE)?, file)
    }

    /// Checks the text of a `tokenizer.json`. `file` is for messages.
    pub(crate) fn parse(text: &[u8], file: &Path) -> Result<Self> {
        let what = "a tokenizer";
        // A whole that is no JSON is said so, whatever field is looked at first.
        json::parse::<IgnoredAny>(text, file, what)?;
        let kinds: Kinds = json::parse(text, file, what)?;
        let checked = if kinds.model.kind == "WordLevel" {
            Self::words(json::parse(text, file, what)?, &kinds.decoder, file)?
        } else {
            check_kinds(&kinds, file)?;
            Self::bytes(json::parse(text, file, what)?, file)?
        };
        checked.check_vocab(file)?;
        checked.check_added(file)?;
        Ok(checked)
    }

    fn bytes(whole: Whole<Bpe>, file: &Path) -> Result<Self> {
        let refuse = |u: Unsupported| field(file, &u.field, u.expected, u.found);
        let kind = Kind::Bytes {
            splits: Splits::parse(&whole.pre_tokenizer).map_err(refuse)?,
            merges: merges(whole.model.merges, file)?,
            ignore_merges: whole.model.ignore_merges,
        };
        Ok(Self {
            added: whole.added_tokens,
            normalizer: normalizer_of(&whole.normalizer, file)?,
            post_processor: whole.post_processor,
            vocab: whole.model.vocab.0,
            kind,
        })
    }

    fn words(whole: Whole<Words>, decoder: &Value, file: &Path) -> Result<Self> {
        if whole.pre_tokenizer["type"] != "WhitespaceSplit" {
            let found = whole.pre_tokenizer["type"].to_string();
            let expected = "WhitespaceSplit, as the words of a WordLevel model are cut";
            return Err(field(file, "pre_tokenizer.type", expected, found));
        }
        if !decoder.is_null() {
            let found = decoder["type"].to_string();
            return Err(field(
                file,
                "decoder.type",
                "null: words with spaces between",
                found,
            ));
        }
        let unknown = whole.model.unk_token;
        let vocab = whole.model.vocab.0;
        if !vocab.iter().any(|(word, _)| *word == unknown) {
            let expected = "a word of the vocabulary";
            return Err(field(file, "model.unk_token", expected, unknown));
        }
        Ok(Self {
            added: whole.added_tokens,
            normalizer: normalizer_of(&whole.normalizer, file)?,
            post_processor: whole.post_processor,
            vocab,
            kind: Kind::Words { unknown },
        })
    }

    /// One id for each token, one token for each id, and for bytes a token for each byte, so that every text can be encoded.
    fn check_vocab(&self, file: &Path) -> Result<()> {
        let mut tokens = HashSet::with_capacity(self.vocab.len());
        let mut ids = HashSet::with_capacity(self.vocab.len());
        for (token, id) in &self.vocab {
            let name = format!("model.vocab.{token}");
            check_id(file, &name, *id)?;
            if !tokens.insert(token.as_str()) {
                return Err(field(file, &name, "one entry", "several"));
            }
            if !ids.insert(*id) {
                let found = format!("{id}, which another token has too");
                return Err(field(file, &name, "an id of its own", found));
            }
        }
        if matches!(self.kind, Kind::Words { .. }) {
            return Ok(());
        }
        let missing =
            (0..=255).find(|b| !tokens.contains(alphabet::character(*b).to_string().as_str()));
        missing.map_or(Ok(()), |byte| {
            let found = format!("none for byte 0x{byte:02x}");
            Err(field(
                file,
                "model.vocab",
                "a token for each of the 256 bytes",
                found,
            ))
        })
    }

    fn check_added(&self, file: &Path) -> Result<()> {
        let mut contents = HashSet::new();
        let mut ids = HashSet::new();
        for (at, token) in self.added.iter().enumerate() {
            let name = format!("added_tokens[{at}]");
            check_id(file, &format!("{name}.id"), token.id)?;
            if token.content.is_empty() {
                return Err(field(
                    file,
                    &format!("{name}.content"),
                    "a text",
                    "an empty one",
                ));
            }
            if !contents.insert(token.content.as_str()) || !ids.insert(token.id) {
                let found = format!("`{}` with id {} a second time", token.content, token.id);
                return Err(field(file, &name, "each token and each id once", found));
            }
        }
        count(file, "added_tokens", self.added.len())
    }
}

/// An [`Error::Field`].
pub(crate) fn field(file: &Path, field: &str, expected: &str, found: impl Into<String>) -> Error {
    const LONGEST: usize = 200;
    let found: String = found.into();
    let shown = found.chars().take(LONGEST).collect::<String>();
    Error::Field {
        file: file.to_owned(),
        field: field.chars().take(LONGEST).collect(),
        expected: expected.to_owned(),
        found: if shown.len() < found.len() {
            format!("{shown} …")
        } else {
            found
        },
    }
}

/// Refuses an id above all real ones.
pub(crate) fn check_id(file: &Path, name: &str, id: TokenId) -> Result<()> {
    if id > LARGEST_ID {
        let expected = format!("an id of at most {LARGEST_ID}");
        return Err(field(file, name, &expected, id.to_string()));
    }
    Ok(())
}

fn count(file: &Path, name: &str, found: usize) -> Result<()> {
    if found > MOST_ENTRIES {
        let expected = format!("at most {MOST_ENTRIES} entries");
        return Err(field(file, name, &expected, found.to_string()));
    }
    Ok(())
}

fn check_kinds(Kinds { model, decoder }: &Kinds, file: &Path) -> Result<()> {
    if !(model.kind == "BPE" || model.kind.is_null()) {
        let expected = "BPE or WordLevel";
        return Err(field(file, "model.type", expected, model.kind.to_string()));
    }
    let byte_level = "ByteLevel (byte-level BPE, as Qwen and Llama 3 have it)";
    if decoder["type"] != "ByteLevel" {
        return Err(field(
            file,
            "decoder.type",
            byte_level,
            decoder["type"].to_string(),
        ));
    }
    if !(model.dropout.is_null() || model.dropout == 0.0) {
        return Err(field(
            file,
            "model.dropout",
            "null",
            model.dropout.to_string(),
        ));
    }
    for (name, value) in [
        (
            "model.continuing_subword_prefix",
            &model.continuing_subword_prefix,
        ),
        ("model.end_of_word_suffix", &model.end_of_word_suffix),
    ] {
        if !(value.is_null() || value == "") {
            return Err(field(file, name, "null", value.to_string()));
        }
    }
    Ok(())
}

/// A normalizer of Unicode's forms, or none: others change texts so that they cannot come back.
fn normalizer_of(value: &Value, file: &Path) -> Result<Option<NormalizerWrapper>> {
    fn is_supported(value: &Value) -> bool {
        match value["type"].as_str() {
            Some("NFC" | "NFD" | "NFKC" | "NFKD") => true,
            Some("Sequence") => value["normalizers"]
                .as_array()
                .is_some_and(|all| all.iter().all(is_leaf)),
            _ => false,
        }
    }
    fn is_leaf(value: &Value) -> bool {
        value["type"] != "Sequence" && is_supported(value)
    }
    if value.is_null() {
        return Ok(None);
    }
    let wrapper = is_supported(value)
        .then(|| NormalizerWrapper::deserialize(value).ok())
        .flatten();
    let expected = "null, NFC, NFD, NFKC, NFKD, or a Sequence of these";
    wrapper.map_or_else(
        || Err(field(file, "normalizer", expected, value.to_string())),
        |w| Ok(Some(w)),
    )
}

fn merges(merges: Vec<Merge>, file: &Path) -> Result<Vec<(String, String)>> {
    count(file, "model.merges", merges.len())?;
    let mut pairs = Vec::with_capacity(merges.len());
    for (at, merge) in merges.into_iter().enumerate() {
        pairs.push(match merge {
            Merge::Pair(a, b) => (a, b),
            Merge::Words(words) => match words.split_once(' ') {
                Some((a, b)) if !b.contains(' ') => (a.to_owned(), b.to_owned()),
                _ => {
                    return Err(field(
                        file,
                        &format!("model.merges[{at}]"),
                        "two tokens",
                        words,
                    ));
                }
            },
        });
    }
    Ok(pairs)
}
