//! Values as Python reads them from an answer: first as JSON, then as a literal of the language.
//!
//! The official scores are defined by Python's `json.loads` and `ast.literal_eval`; what these accept is accepted here, and
//! what they refuse is refused: `NaN` and a key that stands twice, quotes of either kind, trailing commas, comments,
//! neighbouring strings that become one.

use super::parser::{Dialect, Parser, after_empty_lines};

/// A value of Python.
#[derive(Clone, Debug)]
pub(crate) enum Literal {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    /// Bytes, complex numbers, the ellipsis, and whole numbers of more than 127 bits: equal only to themselves.
    Other(String),
    List(Vec<Literal>),
    Tuple(Vec<Literal>),
    Set(Vec<Literal>),
    /// Keys in the order in which they stand; of two equal ones the last counts.
    Dict(Vec<(Literal, Literal)>),
}

/// The text is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoLiteral;

pub(crate) type Parsed<T> = Result<T, NoLiteral>;

impl Literal {
    /// As JSON, or else as a literal of Python.
    pub(crate) fn read(text: &str) -> Parsed<Self> {
        Self::json(text).or_else(|_| Self::python(text))
    }

    /// What `json.loads` makes of a text.
    pub(crate) fn json(text: &str) -> Parsed<Self> {
        let mut parser = Parser::new(text, Dialect::Json);
        parser.blanks();
        let value = parser.value(0)?;
        parser.blanks();
        parser.end(value)
    }

    /// What `ast.literal_eval` makes of a text.
    fn python(text: &str) -> Parsed<Self> {
        let text = text.trim_start_matches([' ', '\t']);
        let text = after_empty_lines(text);
        if text.contains('\0') || text.starts_with([' ', '\t']) {
            return Err(NoLiteral);
        }
        let mut parser = Parser::new(text, Dialect::Python);
        let value = parser.expression(0)?;
        // Below the expression only comments and empty lines may stand.
        parser.brackets = 1;
        parser.blanks();
        parser.end(value)
    }

    /// The entry of a dictionary; nothing if this is none.
    pub(crate) fn get(&self, key: &str) -> Option<Option<&Self>> {
        let Self::Dict(entries) = self else {
            return None;
        };
        let is_key = |(name, _): &&(Self, Self)| matches!(name, Self::Text(name) if name == key);
        Some(entries.iter().rev().find(is_key).map(|(_, value)| value))
    }

    /// Whether it may be in a set.
    pub(crate) fn is_hashable(&self) -> bool {
        match self {
            Self::List(_) | Self::Set(_) | Self::Dict(_) => false,
            Self::Tuple(items) => items.iter().all(Self::is_hashable),
            _ => true,
        }
    }

    /// Python's `==`: numbers are equal by value, whatever their type.
    pub(crate) fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Text(a), Self::Text(b)) | (Self::Other(a), Self::Other(b)) => a == b,
            (Self::List(a), Self::List(b)) | (Self::Tuple(a), Self::Tuple(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.equals(b))
            }
            (Self::Set(a), Self::Set(b)) => subset(a, b) && subset(b, a),
            (Self::Dict(a), Self::Dict(b)) => sub_dict(a, b) && sub_dict(b, a),
            _ => match (self.as_int(), other.as_int()) {
                (Some(a), Some(b)) => a == b,
                _ => matches!((self.as_float(), other.as_float()), (Some(a), Some(b)) if a == b),
            },
        }
    }

    fn as_int(&self) -> Option<i128> {
        match self {
            Self::Bool(x) => Some(i128::from(*x)),
            Self::Int(x) => Some(*x),
            _ => None,
        }
    }

    fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(x) => Some(*x),
            _ => self.as_int().map(|x| x as f64),
        }
    }
}

fn subset(a: &[Literal], b: &[Literal]) -> bool {
    a.iter().all(|x| b.iter().any(|y| x.equals(y)))
}

fn sub_dict(a: &[(Literal, Literal)], b: &[(Literal, Literal)]) -> bool {
    let last = |entries: &[(Literal, Literal)], key: &Literal| {
        let entry = entries.iter().rev().find(|(name, _)| name.equals(key));
        entry.map(|(_, value)| value.clone())
    };
    a.iter()
        .all(|(key, _)| matches!((last(a, key), last(b, key)), (Some(x), Some(y)) if x.equals(&y)))
}
