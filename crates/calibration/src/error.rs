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
        "{}: expected trajectories with right answers, found {rows} rows of which {right} are right and {open} of those may be used",
        path.display()
    )]
    Nothing {
        /// The file.
        path: PathBuf,
        /// All rows.
        rows: u64,
        /// Those with a right answer.
        right: u64,
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
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Contaminated { .. } => Some(
                "give --split 0.3 to calibrate on a share of the questions and evaluate on the others; \
                 --allow-contamination builds the set all the same, for a comparison with the published one",
            ),
            Self::Unchecked => {
                Some("give --evaluation FILE with the questions, or --allow-contamination")
            }
            Self::Nothing { .. } => Some(
                "only attempts with a right answer are taken: an attempt that ended without an error may still be wrong",
            ),
            _ => None,
        }
    }
}

/// The result of building a calibration set.
pub type Result<T, E = Error> = std::result::Result<T, E>;
