//! A parser of JSON as Python reads it, and of Python's literals.

use super::literal::{Literal, NoLiteral, Parsed};

/// Lines with nothing but blanks and comments before the first one do not count.
pub(super) fn after_empty_lines(text: &str) -> &str {
    let mut rest = text;
    while let Some((line, more)) = rest.split_once('\n') {
        let line = line.trim_matches([' ', '\t', '\r', '\x0c']);
        if !(line.is_empty() || line.starts_with('#')) {
            break;
        }
        rest = more;
    }
    rest
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Json,
    Python,
}

/// Deeper values are refused; Python's own limits are near.
const DEEPEST: usize = 100;

pub(super) struct Parser<'a> {
    pub(super) rest: &'a str,
    dialect: Dialect,
    /// Inside brackets a line's end is a blank.
    pub(super) brackets: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn new(rest: &'a str, dialect: Dialect) -> Self {
        Self {
            rest,
            dialect,
            brackets: 0,
        }
    }

    pub(super) fn end(&self, value: Literal) -> Parsed<Literal> {
        if self.rest.is_empty() {
            Ok(value)
        } else {
            Err(NoLiteral)
        }
    }

    pub(super) fn eat(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn need(&mut self, token: &str) -> Parsed<()> {
        if self.eat(token) {
            Ok(())
        } else {
            Err(NoLiteral)
        }
    }

    pub(super) fn blanks(&mut self) {
        if self.dialect == Dialect::Json {
            self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
            return;
        }
        loop {
            let before = self.rest;
            self.rest = self.rest.trim_start_matches([' ', '\t', '\x0c']);
            if self.brackets > 0 {
                self.rest = self.rest.trim_start_matches(['\n', '\r']);
            }
            if self.rest.starts_with('#') {
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                self.rest = &self.rest[end..];
            }
            if !self.eat("\\\n") && self.rest == before {
                return;
            }
        }
    }

    /// A value, or several with commas between them, which are a tuple.
    pub(super) fn expression(&mut self, depth: usize) -> Parsed<Literal> {
        let first = self.value(depth)?;
        self.blanks();
        if !self.eat(",") {
            return Ok(first);
        }
        let mut items = vec![first];
        loop {
            self.blanks();
            if self.rest.is_empty() || self.rest.starts_with([')', '\n', '\r', '#']) {
                return Ok(Literal::Tuple(items));
            }
            items.push(self.value(depth)?);
            self.blanks();
            if !self.eat(",") {
                return Ok(Literal::Tuple(items));
            }
        }
    }

    pub(super) fn value(&mut self, depth: usize) -> Parsed<Literal> {
        if depth > DEEPEST {
            return Err(NoLiteral);
        }
        self.blanks();
        let first = self.rest.chars().next().ok_or(NoLiteral)?;
        match (first, self.dialect) {
            ('[', _) => {
                self.rest = &self.rest[1..];
                Ok(Literal::List(self.items("]", depth)?))
            }
            ('{', _) => self.braces(depth),
            ('"', Dialect::Json) => {
                self.rest = &self.rest[1..];
                self.json_text().map(Literal::Text)
            }
            ('(', Dialect::Python) => self.parentheses(depth),
            ('-' | '0'..='9', Dialect::Json) => self.json_number(),
            ('0'..='9' | '.' | '+' | '-', Dialect::Python) if !self.rest.starts_with("...") => {
                self.sum()
            }
            ('"' | '\'', Dialect::Python) => self.texts(),
            _ => self.word(),
        }
    }

    fn items(&mut self, close: &str, depth: usize) -> Parsed<Vec<Literal>> {
        let mut items = Vec::new();
        self.brackets += 1;
        self.blanks();
        while !self.rest.starts_with(close) {
            items.push(self.value(depth + 1)?);
            if !self.comma(close)? {
                break;
            }
        }
        self.close(close)?;
        Ok(items)
    }

    fn close(&mut self, close: &str) -> Parsed<()> {
        self.brackets -= 1;
        self.need(close)
    }

    /// A comma, and whether another item follows. JSON has none before a bracket.
    fn comma(&mut self, close: &str) -> Parsed<bool> {
        self.blanks();
        if !self.eat(",") {
            return Ok(false);
        }
        self.blanks();
        let last = self.rest.starts_with(close);
        if last && self.dialect == Dialect::Json {
            return Err(NoLiteral);
        }
        Ok(!last)
    }

    fn braces(&mut self, depth: usize) -> Parsed<Literal> {
        self.rest = &self.rest[1..];
        self.brackets += 1;
        self.blanks();
        let mut entries = Vec::new();
        let mut members = Vec::new();
        while !self.rest.starts_with('}') {
            let key = self.value(depth + 1)?;
            if self.dialect == Dialect::Json && !matches!(key, Literal::Text(_)) {
                return Err(NoLiteral);
            }
            self.blanks();
            if self.eat(":") {
                entries.push((key, self.value(depth + 1)?));
            } else {
                members.push(key);
            }
            if !self.comma("}")? {
                break;
            }
        }
        self.close("}")?;
        let hashable = members.iter().chain(entries.iter().map(|(key, _)| key));
        if !hashable.into_iter().all(Literal::is_hashable) {
            return Err(NoLiteral);
        }
        match (entries.is_empty(), members.is_empty()) {
            (_, true) => Ok(Literal::Dict(entries)),
            (true, false) if self.dialect == Dialect::Python => Ok(Literal::Set(members)),
            _ => Err(NoLiteral),
        }
    }

    fn parentheses(&mut self, depth: usize) -> Parsed<Literal> {
        self.rest = &self.rest[1..];
        self.brackets += 1;
        self.blanks();
        let value = if self.rest.starts_with(')') {
            Literal::Tuple(Vec::new())
        } else {
            self.expression(depth + 1)?
        };
        self.blanks();
        self.close(")")?;
        Ok(value)
    }

    fn word(&mut self) -> Parsed<Literal> {
        let json: &[(&str, Literal)] = &[
            ("true", Literal::Bool(true)),
            ("false", Literal::Bool(false)),
            ("null", Literal::None),
            ("NaN", Literal::Float(f64::NAN)),
            ("Infinity", Literal::Float(f64::INFINITY)),
        ];
        let python: &[(&str, Literal)] = &[
            ("True", Literal::Bool(true)),
            ("False", Literal::Bool(false)),
            ("None", Literal::None),
            ("...", Literal::Other("...".to_owned())),
            ("set()", Literal::Set(Vec::new())),
        ];
        if self.dialect == Dialect::Json {
            let word = json.iter().find(|(word, _)| self.rest.starts_with(word));
            let (word, value) = word.ok_or(NoLiteral)?;
            self.rest = &self.rest[word.len()..];
            return Ok(value.clone());
        }
        if let Some((word, value)) = python.iter().find(|(word, _)| self.rest.starts_with(word)) {
            let after = self.rest[word.len()..].chars().next();
            if !after.is_some_and(|c| c.is_alphanumeric() || "_\"'(".contains(c)) {
                self.rest = &self.rest[word.len()..];
                return Ok(value.clone());
            }
        }
        self.texts()
    }

    fn json_number(&mut self) -> Parsed<Literal> {
        let negative = self.eat("-");
        if negative && self.eat("Infinity") {
            return Ok(Literal::Float(f64::NEG_INFINITY));
        }
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_digit() || ".eE+-".contains(c)))
            .unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(end);
        let whole = number.bytes().all(|b| b.is_ascii_digit());
        let digits = number.bytes().take_while(u8::is_ascii_digit).count();
        let fraction = number[digits..].strip_prefix('.');
        let bare = fraction.is_some_and(|f| !f.starts_with(|c: char| c.is_ascii_digit()));
        if digits == 0 || bare || (digits > 1 && number.starts_with('0')) {
            return Err(NoLiteral);
        }
        self.rest = rest;
        number_of(number, whole, negative)
    }

    /// A number, with its sign, or a sum with a complex one.
    fn sum(&mut self) -> Parsed<Literal> {
        let left = self.signed()?;
        self.blanks();
        if !self.rest.starts_with(['+', '-']) {
            return Ok(left);
        }
        let operator = self.rest.starts_with('-');
        self.rest = &self.rest[1..];
        self.blanks();
        let start = self.rest;
        let right = self.signed()?;
        let complex = matches!(&right, Literal::Other(text) if text.ends_with('j'));
        if !complex || matches!(left, Literal::Bool(_)) || start.starts_with(['+', '-']) {
            return Err(NoLiteral);
        }
        Ok(Literal::Other(format!("{left:?} {operator} {right:?}")))
    }

    /// A number with at most one sign.
    fn signed(&mut self) -> Parsed<Literal> {
        let minus = self.rest.starts_with('-');
        if minus || self.rest.starts_with('+') {
            self.rest = &self.rest[1..];
            self.blanks();
        }
        Ok(match self.python_number()? {
            Literal::Int(x) if minus => Literal::Int(-x),
            Literal::Float(x) if minus => Literal::Float(-x),
            Literal::Other(x) if minus => Literal::Other(format!("-{x}")),
            other => other,
        })
    }

    fn python_number(&mut self) -> Parsed<Literal> {
        let mut end = 0;
        let bytes = self.rest.as_bytes();
        let hex = self.rest.len() > 1 && matches!(bytes[1], b'x' | b'X');
        while end < bytes.len() {
            let sign = matches!(bytes[end], b'+' | b'-');
            let after_e = end > 0 && matches!(bytes[end - 1], b'e' | b'E') && !hex;
            let part = bytes[end].is_ascii_alphanumeric() || matches!(bytes[end], b'_' | b'.');
            if !(part || (sign && after_e)) {
                break;
            }
            end += 1;
        }
        let (token, rest) = self.rest.split_at(end);
        if token.starts_with('_') || token.ends_with('_') || token.contains("__") {
            return Err(NoLiteral);
        }
        let token = token.replace('_', "").to_lowercase();
        self.rest = rest;
        for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
            if let Some(digits) = token.strip_prefix(prefix) {
                let value = i128::from_str_radix(digits, radix);
                return value.map(Literal::Int).map_err(|_| NoLiteral);
            }
        }
        if let Some(number) = token.strip_suffix('j') {
            return match number.parse::<f64>() {
                Ok(_) if number.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
                    Ok(Literal::Other(token))
                }
                _ => Err(NoLiteral),
            };
        }
        let whole = !token.is_empty() && token.bytes().all(|b| b.is_ascii_digit());
        if whole && token.len() > 1 && token.starts_with('0') && token.bytes().any(|b| b != b'0') {
            return Err(NoLiteral);
        }
        if !token.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return Err(NoLiteral);
        }
        number_of(&token, whole, false)
    }
}

fn number_of(number: &str, whole: bool, negative: bool) -> Parsed<Literal> {
    if whole {
        let sign = if negative { "-" } else { "" };
        let digits = number.trim_start_matches('0');
        let digits = if digits.is_empty() { "0" } else { digits };
        let text = format!("{sign}{digits}");
        return Ok(text.parse().map_or(Literal::Other(text), Literal::Int));
    }
    let value: f64 = number.parse().map_err(|_| NoLiteral)?;
    Ok(Literal::Float(if negative { -value } else { value }))
}
