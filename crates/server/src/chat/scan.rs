//! The JSON of one call, `{"name": "f", "arguments": {...}}`, whose arguments are passed on while they come.

/// Bytes within which the arguments must have begun.
const HEAD: usize = 1024;

/// How much of the beginning of a call is there.
#[derive(Debug, PartialEq)]
pub(super) enum Head {
    /// It may still become one.
    More,
    /// The name, and where the arguments begin.
    Found(String, usize),
    /// It is something else.
    Other,
}

/// Reads `{"name": "…", "arguments": {`, with any white space.
pub(super) fn head(text: &str) -> Head {
    let mut reader = Reader { text, at: 0 };
    match reader.head() {
        Ok(name) => Head::Found(name, reader.at),
        Err(Stop::End) if text.len() <= HEAD => Head::More,
        Err(_) => Head::Other,
    }
}

/// The name in the beginning of a call that is cut off, if it is whole.
pub(super) fn name(text: &str) -> Option<String> {
    Reader { text, at: 0 }.name().ok()
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

enum Stop {
    End,
    Other,
}

impl Reader<'_> {
    fn head(&mut self) -> Result<String, Stop> {
        let name = self.name()?;
        self.literal(",")?;
        self.literal("\"arguments\"")?;
        self.literal(":")?;
        self.literal("{")?;
        self.at -= 1;
        Ok(name)
    }

    fn name(&mut self) -> Result<String, Stop> {
        self.literal("{")?;
        self.literal("\"name\"")?;
        self.literal(":")?;
        self.string()
    }

    fn literal(&mut self, literal: &str) -> Result<(), Stop> {
        let rest = self.text[self.at..].trim_start();
        let start = self.text.len() - rest.len();
        if rest.starts_with(literal) {
            self.at = start + literal.len();
            return Ok(());
        }
        Err(if literal.starts_with(rest) {
            Stop::End
        } else {
            Stop::Other
        })
    }

    fn string(&mut self) -> Result<String, Stop> {
        let rest = self.text[self.at..].trim_start();
        let start = self.text.len() - rest.len();
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<String>();
        match values.next() {
            Some(Ok(name)) => {
                self.at = start + values.byte_offset();
                Ok(name)
            }
            Some(Err(error)) if !error.is_eof() => Err(Stop::Other),
            _ => Err(Stop::End),
        }
    }
}

/// Follows a JSON object to its last brace.
#[derive(Debug, Default)]
pub(super) struct Object {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Object {
    /// How many bytes of the text belong to the object, and whether it is complete.
    pub(super) fn push(&mut self, text: &str) -> (usize, bool) {
        for (at, byte) in text.bytes().enumerate() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => continue,
            }
            if self.depth == 0 {
                return (at + 1, true);
            }
        }
        (text.len(), false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_a_call_is_found_as_soon_as_it_is_there() {
        let text = "\n{\"name\": \"get_\\u00b5\", \"arguments\": {\"x\": 1}}";
        let begin = text.find("{\"x").unwrap();
        for end in 0..=begin {
            assert_eq!(head(&text[..end]), Head::More, "{}", &text[..end]);
        }
        assert_eq!(head(&text[..=begin]), Head::Found("get_µ".into(), begin));
        for other in [
            "[",
            "{\"arguments\": {",
            "{\"name\": 5",
            "{\"name\": \"f\", \"arguments\": \"{",
        ] {
            assert_eq!(head(other), Head::Other, "{other}");
        }
        assert_eq!(head(&" ".repeat(HEAD + 1)), Head::Other);
    }

    #[test]
    fn an_object_ends_with_its_own_brace() {
        let text = r#"{"a": "}\"{", "b": [{}, {"c": "\\"}]} rest"#;
        let end = text.find(" rest").unwrap();
        for cut in 0..end {
            let mut object = Object::default();
            assert_eq!(object.push(&text[..cut]), (cut, false));
            assert_eq!(object.push(&text[cut..]), (end - cut, true));
        }
    }
}
