//! How far a model is from another on one question.

use serde::Serialize;

use crate::{Object, Record, Result};

/// The divergence of two models' next-token distributions over the answer to one question.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "schema", rename = "xgraft.distance/1")]
pub struct Distance {
    /// The id of the question.
    pub question: String,
    /// Positions that were compared.
    pub tokens: u64,
    /// The sum of KL(reference ‖ arm) over them, in nats.
    pub kl: f64,
}

impl Record for Distance {
    const SCHEMA: &'static str = "xgraft.distance/1";
    const NEEDS_SCHEMA: bool = true;

    fn from_object(object: &mut Object) -> Result<Self> {
        Ok(Self {
            question: object.text("question")?,
            tokens: object.number("tokens")?,
            kl: object.decode("kl", "a number of nats")?,
        })
    }
}
