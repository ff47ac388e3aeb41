//! Why there is no calibration set.

use std::path::PathBuf;

/// A calibration set that cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The rows cannot be read.
    #[error("cannot read the trajectories {}", path.display())]
    Rows {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: xgraft_dataset::Error,
    },
    /// Nothing may be taken.
    #[error(
        "{}: expected trajectories with right answers, found {rows} rows of which {right} are right, {leaking} of those were left out for what they have of the evaluation set, and {open} may be used",
        path.display()
    )]
    Nothing {
        /// The file.
        path: PathBuf,
        /// All rows.
        rows: u64,
        /// Those with a right answer.
        right: u64,
        /// Those that were left out for what they have of the evaluation set.
        leaking: u64,
        /// Those of questions that calibration may use, without secrets.
        open: u64,
    },
    /// Nobody said what must not be in it.
    #[error(
        "no evaluation set was given, so nobody can say that calibration does not see its questions"
    )]
    Unchecked,
    /// Something of the evaluation set is in it.
    #[error(
        "{count} of {samples} samples have something of the evaluation set in them: {examples}"
    )]
    Contaminated {
        /// How many samples.
        count: usize,
        /// All samples.
        samples: usize,
        /// The first of them.
        examples: String,
    },
    /// A conversation that the chat template refuses.
    #[error("the chat template cannot render the attempt at question {question}")]
    Template {
        /// The question.
        question: String,
        /// The cause.
        source: Box<xgraft_tokenizer::TemplateError>,
    },
    /// A text that the tokenizer refuses.
    #[error("cannot count the tokens of the attempt at question {question}")]
    Tokens {
        /// The question.
        question: String,
        /// The cause.
        source: Box<xgraft_tokenizer::Error>,
    },
    /// A file of samples that cannot be read.
    #[error("{}: line {line}: expected a sample of a calibration set, found: {found}", path.display())]
    Samples {
        /// The file.
        path: PathBuf,
        /// The line from 1; 0 for the whole file.
        line: u64,
        /// What is wrong.
        found: String,
    },
    /// A set without a token.
    #[error("the calibration set has no token to run")]
    NoTokens,
    /// Ids that the model has no embedding for.
    #[error(
        "sample {sample}: expected token ids below the model's vocabulary of {vocab}, found {id}"
    )]
    OtherTokenizer {
        /// The sample, from 1.
        sample: u64,
        /// The id.
        id: u32,
        /// Rows of the embedding.
        vocab: usize,
    },
    /// An input of a linear layer that is NaN or infinite.
    #[error(
        "{module}: input channel {channel} is not finite in one of the samples {first} to {last}, or its squares overflow"
    )]
    NotFinite {
        /// The first module that reads it.
        module: String,
        /// The channel.
        channel: usize,
        /// The first sample of the batch, from 1.
        first: u64,
        /// The last.
        last: u64,
    },
    /// Statistics of another model.
    #[error("the unfinished statistics do not fit this model at {module}")]
    OtherModel {
        /// The first module that is missing or has other channels.
        module: String,
    },
    /// A file of statistics that cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] xgraft_checkpoint::Error),
    /// A quantized checkpoint whose activations are rounded in a way that is not known here.
    #[error("{}: `{field}`: expected {expected}, found {found}", file.display())]
    ActivationScheme {
        /// Its configuration.
        file: PathBuf,
        /// The field.
        field: &'static str,
        /// What is known.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// Two models that do not speak of the same tokens.
    #[error("expected two models of one vocabulary, found {expected} and {found} tokens")]
    OtherVocabulary {
        /// The reference's.
        expected: usize,
        /// The candidate's.
        found: usize,
    },
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Contaminated { .. } => Some(
                "give --drop-leaks to leave such attempts out and take others in their place; \
                 --allow-contamination builds the set all the same, for a comparison with the published one",
            ),
            Self::Unchecked => {
                Some("give --evaluation FILE with the questions, or --allow-contamination")
            }
            Self::Nothing { leaking: 1.., .. } => Some(
                "calibrate on attempts at other questions, or give --split 0.3 to keep some of the evaluation's for calibration",
            ),
            Self::Nothing { .. } => Some(
                "only attempts with a right answer are taken: an attempt that ended without an error may still be wrong",
            ),
            Self::Samples { .. } => Some("pass the directory that `xgraft calibrate build` made"),
            Self::OtherTokenizer { .. } => {
                Some("the tokenizer beside the weights is another model's")
            }
            Self::NotFinite { .. } => {
                Some("the model overflows: `xgraft autopsy` looks at its weights")
            }
            Self::OtherModel { .. } => Some("use --force to begin anew"),
            Self::Interrupted => Some("run the same command again to go on from here"),
            Self::Checkpoint(error) => error.hint(),
            _ => None,
        }
    }

    /// Whether the same command may go on from the work that is on disk.
    #[must_use]
    pub fn can_be_resumed(&self) -> bool {
        matches!(self, Self::Interrupted | Self::Checkpoint(_))
    }
}

/// The result of building a calibration set.
pub type Result<T, E = Error> = std::result::Result<T, E>;
