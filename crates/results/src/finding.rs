//! The finding.

use crate::Record;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Something noticed about the data: bad content is data, not an error of the program.
///
/// Prints as `severity[code] subject: message`; the hint is left to whoever shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "schema", rename = "xgraft.finding/1")]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// A stable name for this kind of finding, in `kebab-case`: `dropped-norm`.
    pub code: String,
    /// The tensor, module or file it is about.
    pub subject: String,
    /// What was found, for a person.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The number behind the message, for example the dropped share of the energy. Finite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
}

/// How much a [`Finding`] matters, in rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// The result stands, but someone should look.
    Warning,
    /// The result should not be used as it is.
    Error,
}

impl Finding {
    /// A finding without hint or value.
    pub fn new(
        severity: Severity,
        code: impl Into<String>,
        subject: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            code: code.into(),
            subject: subject.into(),
            message: message.into(),
            hint: None,
            value: None,
        }
    }

    /// A finding of severity [`Severity::Info`].
    pub fn info(
        code: impl Into<String>,
        subject: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self::new(Severity::Info, code, subject, message)
    }

    /// A finding of severity [`Severity::Warning`].
    pub fn warning(
        code: impl Into<String>,
        subject: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self::new(Severity::Warning, code, subject, message)
    }

    /// A finding of severity [`Severity::Error`].
    pub fn error(
        code: impl Into<String>,
        subject: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self::new(Severity::Error, code, subject, message)
    }

    /// The finding with advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The finding with the number behind it.
    #[must_use]
    pub fn value(mut self, value: f64) -> Self {
        self.value = Some(value);
        self
    }
}

impl Record for Finding {
    const SCHEMA: &'static str = "xgraft.finding/1";

    fn not_finite(&self) -> Option<&'static str> {
        self.value
            .is_some_and(|x| !x.is_finite())
            .then_some("value")
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            severity,
            code,
            subject,
            message,
            ..
        } = self;
        write!(f, "{severity}[{code}] {subject}: {message}")
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}
