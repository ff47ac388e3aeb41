//! Text to ids and ids to bytes.

use crate::config::TokenizerConfig;
use crate::file::{self, Kind, TokenizerFile, field};
use crate::frame::Frame;
use crate::split::Splits;
use crate::vocabulary::Vocabulary;
use crate::{Detokenizer, Error, Result, TokenId, alphabet};
use std::path::Path;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::BPE;
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::{
    AddedToken, Encoding, Model, NormalizerWrapper, PostProcessorWrapper, PreTokenizer,
    TokenizerImpl,
};

const FILE: &str = "tokenizer.json";

/// The library's pipeline. What it would do after the model is [`Frame`], and decoding is [`Vocabulary`].
type Library<M, P> = TokenizerImpl<M, NormalizerWrapper, P, PostProcessorWrapper, ByteLevel>;

#[derive(Debug)]
enum Pipeline {
    /// With our way of cutting.
    Bytes(Box<Library<BPE, Splits>>),
    Words(Box<Library<WordLevel, WhitespaceSplit>>),
}

impl Pipeline {
    fn encode(&self, text: &str) -> tokenizers::Result<Encoding> {
        match self {
            Self::Bytes(pipeline) => pipeline.encode_fast(text, false),
            Self::Words(pipeline) => pipeline.encode_fast(text, false),
        }
    }

    fn token_to_id(&self, token: &str) -> Option<TokenId> {
        match self {
            Self::Bytes(pipeline) => pipeline.token_to_id(token),
            Self::Words(pipeline) => pipeline.token_to_id(token),
        }
    }
}

/// A byte-level BPE tokenizer, as Qwen and Llama 3 have it; or one of whole words between white space, for tiny models.
///
/// It can be shared between threads; every method takes `&self`.
#[derive(Debug)]
pub struct Tokenizer {
    pipeline: Pipeline,
    frame: Frame,
    vocabulary: Vocabulary,
    text_limit: usize,
}

impl Tokenizer {
    /// The most bytes of a text that [`encode`](Self::encode) takes, unless [`with_text_limit`](Self::with_text_limit) says otherwise.
    pub const TEXT_LIMIT: usize = 4 << 20;

    /// Reads `tokenizer.json` of a model directory, and the tokens that only `tokenizer_config.json` has.
    ///
    /// # Errors
    /// A file is missing, too large, or no JSON; a part of it is of a kind that is neither byte-level BPE nor whole words; two
    /// tokens have one id.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let file = dir.join(FILE);
        let config = TokenizerConfig::read(dir)?;
        let parts = TokenizerFile::read(&file).map_err(|error| match error {
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                let dir = dir.to_owned();
                Error::Missing { dir }
            }
            other => other,
        })?;
        Self::build(parts, config.added, &file)
    }

    /// A tokenizer from the text of a `tokenizer.json`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_json(text: &[u8]) -> Result<Self> {
        let file = Path::new(FILE);
        Self::build(TokenizerFile::parse(text, file)?, Vec::new(), file)
    }

    fn build(parts: TokenizerFile, more: Vec<file::AddedToken>, file: &Path) -> Result<Self> {
        let frame = Frame::parse(&parts.post_processor, file)?;
        let added = with_more(parts.added, more);
        let vocabulary = match parts.kind {
            Kind::Bytes { .. } => vocabulary(&parts.vocab, &added),
            Kind::Words { .. } => vocabulary_of_words(&parts.vocab, &added),
        };
        let library = |part| {
            move |source| Error::Library {
                file: file.to_owned(),
                part,
                source,
            }
        };
        let pipeline = match parts.kind {
            Kind::Bytes {
                splits,
                merges,
                ignore_merges,
            } => {
                let model = BPE::builder()
                    .vocab_and_merges(
                        parts
                            .vocab
                            .into_iter()
                            .collect::<tokenizers::models::bpe::Vocab>(),
                        merges,
                    )
                    .ignore_merges(ignore_merges)
                    .build()
                    .map_err(library("model"))?;
                let pipeline = prepared(model, splits, parts.normalizer, &added);
                Pipeline::Bytes(Box::new(
                    pipeline.map_err(|(part, why)| library(part)(why))?,
                ))
            }
            Kind::Words { unknown } => {
                let model = WordLevel::builder()
                    .vocab(parts.vocab.into_iter().collect())
                    .unk_token(unknown)
                    .build()
                    .map_err(library("model"))?;
                let pipeline = prepared(model, WhitespaceSplit, parts.normalizer, &added);
                Pipeline::Words(Box::new(
                    pipeline.map_err(|(part, why)| library(part)(why))?,
                ))
            }
        };
        check_added_ids(&pipeline, &added, file)?;
        check_frame(&frame, &vocabulary, file)?;
        Ok(Self {
            pipeline,
            frame,
            vocabulary,
            text_limit: Self::TEXT_LIMIT,
        })
    }

    /// Another limit on the bytes of a text. Encoding takes about 200 bytes of memory for a byte of text.
    #[must_use]
    pub fn with_text_limit(self, text_limit: usize) -> Self {
        Self { text_limit, ..self }
    }

    /// The ids of a text. Added tokens, special ones too, are recognised in it; who must not be able to write one has to
    /// keep it out of the text.
    ///
    /// `add_special` puts the tokens of the `post_processor` around it (`<|begin_of_text|>` of Llama 3). The text of a
    /// chat template has them already.
    ///
    /// # Errors
    /// The text is longer than the limit.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<TokenId>> {
        if text.len() > self.text_limit {
            return Err(Error::TextTooLong {
                limit: self.text_limit,
                found: text.len(),
            });
        }
        let encoding = self.pipeline.encode(text).map_err(|source| Error::Encode {
            bytes: text.len(),
            source,
        })?;
        if !add_special {
            return Ok(encoding.get_ids().to_vec());
        }
        Ok([&self.frame.before, encoding.get_ids(), &self.frame.after].concat())
    }

    /// The text of ids, with U+FFFD where their bytes are not UTF-8. `skip_special` leaves the special tokens out.
    ///
    /// Nothing is added or removed between tokens (transformers' `clean_up_tokenization_spaces` is not done).
    ///
    /// # Errors
    /// No token has one of the ids.
    pub fn decode(&self, ids: &[TokenId], skip_special: bool) -> Result<String> {
        let mut bytes = Vec::new();
        for id in ids {
            let decoded = self.decoded(*id, skip_special)?;
            bytes.extend_from_slice(self.at(bytes.is_empty(), decoded));
        }
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// Decodes one id at a time.
    #[must_use]
    pub fn detokenizer(&self, skip_special: bool) -> Detokenizer<'_> {
        Detokenizer::new(self, skip_special)
    }

    pub(crate) fn decoded(&self, id: TokenId, skip_special: bool) -> Result<&[u8]> {
        self.vocabulary.decoded(id, skip_special)
    }

    /// What a token adds to a text: the first word of one has no space before it.
    pub(crate) fn at<'b>(&self, is_first: bool, bytes: &'b [u8]) -> &'b [u8] {
        match self.pipeline {
            Pipeline::Words(_) if is_first => bytes.strip_prefix(b" ").unwrap_or(bytes),
            _ => bytes,
        }
    }

    /// Whether its tokens are whole words, between which a decoded text has spaces, and not bytes that can make any text.
    #[must_use]
    pub fn is_of_words(&self) -> bool {
        matches!(self.pipeline, Pipeline::Words(_))
    }

    /// The bytes that a token stands for, often part of a character; those of an added token are its text. Those of a word
    /// begin with the space that stands before it. `None` if no token has the id.
    #[must_use]
    pub fn token_bytes(&self, id: TokenId) -> Option<&[u8]> {
        self.vocabulary.bytes(id)
    }

    /// One more than the largest id. There may be gaps below; a model may have more rows.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.vocabulary.size()
    }

    /// The id of a token as the files write it: an added token's text, any other in the byte-level alphabet (`Ġthe`).
    #[must_use]
    pub fn token_id(&self, token: &str) -> Option<TokenId> {
        self.pipeline.token_to_id(token)
    }

    /// Whether a token is special: decoding may skip it.
    #[must_use]
    pub fn is_special(&self, id: TokenId) -> bool {
        self.vocabulary.is_special(id)
    }
}

/// The tokens of `tokenizer.json`, and those of `tokenizer_config.json` whose texts it does not have, by id.
fn with_more(
    mut added: Vec<file::AddedToken>,
    more: Vec<file::AddedToken>,
) -> Vec<file::AddedToken> {
    let new = |token: &file::AddedToken| {
        !token.content.is_empty() && !added.iter().any(|a| a.content == token.content)
    };
    let more: Vec<_> = more.into_iter().filter(new).collect();
    added.extend(more);
    added
}

fn library_token(token: &file::AddedToken) -> AddedToken {
    AddedToken::from(token.content.clone(), token.special)
        .single_word(token.single_word)
        .lstrip(token.lstrip)
        .rstrip(token.rstrip)
        .normalized(token.normalized)
}

fn vocabulary(vocab: &[(String, TokenId)], added: &[file::AddedToken]) -> Vocabulary {
    let ids = vocab
        .iter()
        .map(|(_, id)| *id)
        .chain(added.iter().map(|token| token.id));
    let mut vocabulary = Vocabulary::new(ids.max().map_or(0, |id| id as usize + 1));
    for (token, id) in vocab {
        let bytes = alphabet::bytes(token).unwrap_or_else(|| token.as_bytes().to_vec());
        vocabulary.set(*id, &bytes, false);
    }
    for token in added {
        vocabulary.set(token.id, token.content.as_bytes(), token.special);
    }
    vocabulary
}

/// The library's pipeline of a model; the part of it that is wrong, and why.
fn prepared<M: Model, P: PreTokenizer>(
    model: M,
    splits: P,
    normalizer: Option<NormalizerWrapper>,
    added: &[file::AddedToken],
) -> std::result::Result<Library<M, P>, (&'static str, tokenizers::Error)> {
    let mut pipeline = TokenizerImpl::new(model);
    pipeline
        .with_normalizer(normalizer)
        .map_err(|why| ("normalizer", why))?;
    pipeline.with_pre_tokenizer(Some(splits));
    pipeline
        .add_tokens(added.iter().map(library_token))
        .map_err(|why| ("added_tokens", why))?;
    Ok(pipeline)
}

/// Words, and added tokens too, with the space before them.
fn vocabulary_of_words(vocab: &[(String, TokenId)], added: &[file::AddedToken]) -> Vocabulary {
    let words = vocab.iter().map(|(word, id)| (word.as_str(), *id, false));
    let added = added
        .iter()
        .map(|token| (token.content.as_str(), token.id, token.special));
    let all: Vec<_> = words.chain(added).collect();
    let ids = all.iter().map(|(_, id, _)| *id as usize + 1);
    let mut vocabulary = Vocabulary::new(ids.max().unwrap_or(0));
    for (word, id, special) in all {
        vocabulary.set(id, format!(" {word}").as_bytes(), special);
    }
    vocabulary
}

/// The library numbers added tokens itself; a file with other numbers would be encoded wrongly.
fn check_added_ids(pipeline: &Pipeline, added: &[file::AddedToken], file: &Path) -> Result<()> {
    for token in added {
        let id = pipeline.token_to_id(&token.content);
        if id != Some(token.id) {
            let expected = id.map_or_else(
                || "an id".to_owned(),
                |id| format!("id {id}, the next after the vocabulary"),
            );
            return Err(field(
                file,
                &format!("added_tokens.{}", token.content),
                &expected,
                token.id.to_string(),
            ));
        }
    }
    Ok(())
}

fn check_frame(frame: &Frame, vocabulary: &Vocabulary, file: &Path) -> Result<()> {
    let unknown = frame
        .before
        .iter()
        .chain(&frame.after)
        .find(|id| vocabulary.bytes(**id).is_none());
    unknown.map_or(Ok(()), |id| {
        Err(field(
            file,
            "post_processor",
            "ids of the vocabulary",
            id.to_string(),
        ))
    })
}
