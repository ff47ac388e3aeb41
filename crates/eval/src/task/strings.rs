//! Strings of JSON and of Python.

use super::literal::{Literal, NoLiteral, Parsed};
use super::parser::Parser;
use super::text::Units;

impl Parser<'_> {
    pub(super) fn json_text(&mut self) -> Parsed<String> {
        let mut text = Units::default();
        loop {
            let c = self.next_char()?;
            match c {
                '"' => return text.finish(),
                '\\' => match self.next_char()? {
                    'u' => {
                        let unit = self.hex(4)?;
                        text.push(unit)?;
                    }
                    c => text.push(match c {
                        '"' | '\\' | '/' => c as u32,
                        'b' => 8,
                        'f' => 12,
                        'n' => 10,
                        'r' => 13,
                        't' => 9,
                        _ => return Err(NoLiteral),
                    })?,
                },
                c if (c as u32) < 0x20 => return Err(NoLiteral),
                c => text.push(c as u32)?,
            }
        }
    }

    /// Strings that stand beside each other are one.
    pub(super) fn texts(&mut self) -> Parsed<Literal> {
        let mut all = String::new();
        let mut bytes = None;
        while let Some((text, is_bytes)) = self.text()? {
            if *bytes.get_or_insert(is_bytes) != is_bytes {
                return Err(NoLiteral);
            }
            all.push_str(&text);
            self.blanks();
        }
        match bytes.ok_or(NoLiteral)? {
            true => Ok(Literal::Other(format!("b{all}"))),
            false => Ok(Literal::Text(all)),
        }
    }

    /// One string with its prefix, and whether it is of bytes.
    fn text(&mut self) -> Parsed<Option<(String, bool)>> {
        let Some(quote_at) = self.rest.find(['"', '\'']) else {
            return Ok(None);
        };
        let prefix = self.rest[..quote_at].to_lowercase();
        if !["", "r", "u", "b", "br", "rb"].contains(&prefix.as_str()) {
            return Ok(None);
        }
        let (raw, bytes) = (prefix.contains('r'), prefix.contains('b'));
        self.rest = &self.rest[quote_at..];
        let quote = &self.rest[..1];
        let triple = quote.repeat(3);
        let close = if self.rest.starts_with(&triple) {
            triple
        } else {
            quote.to_owned()
        };
        self.rest = &self.rest[close.len()..];
        let mut text = Units::default();
        while !self.eat(&close) {
            let c = self.next_char()?;
            match c {
                '\n' if close.len() == 1 => return Err(NoLiteral),
                '\\' if raw => {
                    text.push('\\' as u32)?;
                    text.push(self.next_char()? as u32)?;
                }
                '\\' => self.escape(bytes, &mut text)?,
                c if bytes && !c.is_ascii() => return Err(NoLiteral),
                c => text.push(c as u32)?,
            }
        }
        Ok(Some((text.finish()?, bytes)))
    }

    fn escape(&mut self, bytes: bool, text: &mut Units) -> Parsed<()> {
        let c = self.next_char()?;
        let code = match c {
            '\n' => return Ok(()),
            '\\' | '\'' | '"' => c as u32,
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => 10,
            'r' => 13,
            't' => 9,
            'v' => 11,
            'x' => self.hex(2)?,
            'u' if !bytes => self.hex(4)?,
            'U' if !bytes => self.hex(8)?,
            'N' if !bytes => self.named()?,
            '0'..='7' => self.octal(c),
            other => {
                text.push('\\' as u32)?;
                other as u32
            }
        };
        text.push(code)
    }

    /// A character by its name. No right answer has one, so any mark does.
    fn named(&mut self) -> Parsed<u32> {
        let rest = self.rest.strip_prefix('{').ok_or(NoLiteral)?;
        let (name, rest) = rest.split_once('}').ok_or(NoLiteral)?;
        self.rest = rest;
        if name.is_empty() {
            return Err(NoLiteral);
        }
        Ok(char::REPLACEMENT_CHARACTER as u32)
    }

    fn octal(&mut self, first: char) -> u32 {
        let mut code = first as u32 - '0' as u32;
        for _ in 0..2 {
            let Some(digit) = self.rest.chars().next().and_then(|c| c.to_digit(8)) else {
                break;
            };
            code = 8 * code + digit;
            self.rest = &self.rest[1..];
        }
        code
    }

    fn next_char(&mut self) -> Parsed<char> {
        let mut chars = self.rest.chars();
        let c = chars.next().ok_or(NoLiteral)?;
        self.rest = chars.as_str();
        Ok(c)
    }

    fn hex(&mut self, digits: usize) -> Parsed<u32> {
        let code = self.rest.get(..digits).ok_or(NoLiteral)?;
        if !code.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(NoLiteral);
        }
        self.rest = &self.rest[digits..];
        u32::from_str_radix(code, 16).map_err(|_| NoLiteral)
    }
}
