//! A text that is looked for in another one that comes byte by byte.

/// Knuth, Morris and Pratt's automaton: every byte costs a constant on average, and the state is how much of the needle
/// the text ends with, so that so much of it can be held back.
#[derive(Debug, Clone)]
pub(crate) struct Finder {
    needle: Box<[u8]>,
    /// `fall[i]`: of the needle's first `i + 1` bytes, the longest proper beginning that is an end of them too.
    fall: Box<[usize]>,
    matched: usize,
}

impl Finder {
    /// A needle of at least one byte.
    pub(crate) fn new(needle: &str) -> Self {
        let needle: Box<[u8]> = needle.as_bytes().into();
        let mut fall = vec![0; needle.len()];
        let mut border = 0;
        for i in 1..needle.len() {
            while border > 0 && needle[i] != needle[border] {
                border = fall[border - 1];
            }
            border += usize::from(needle[i] == needle[border]);
            fall[i] = border;
        }
        Self {
            needle,
            fall: fall.into(),
            matched: 0,
        }
    }

    /// Takes the next byte; true if the text ends with the needle now. It starts anew after that.
    pub(crate) fn push(&mut self, byte: u8) -> bool {
        while self.matched > 0 && self.needle[self.matched] != byte {
            self.matched = self.fall[self.matched - 1];
        }
        self.matched += usize::from(self.needle[self.matched] == byte);
        let found = self.matched == self.needle.len();
        if found {
            self.matched = 0;
        }
        found
    }

    /// Bytes at the text's end that may be the needle's beginning.
    pub(crate) fn matched(&self) -> usize {
        self.matched
    }

    /// Bytes of the needle.
    pub(crate) fn len(&self) -> usize {
        self.needle.len()
    }
}

/// Cuts a text that comes in pieces at the first place where a marker stands.
#[derive(Debug, Clone)]
pub(crate) struct Splitter {
    finder: Finder,
    held: String,
}

impl Splitter {
    /// Cuts at `marker`.
    pub(crate) fn new(marker: &str) -> Self {
        Self {
            finder: Finder::new(marker),
            held: String::new(),
        }
    }

    /// What certainly lies before the marker, and what follows it once it was seen. After that it starts anew.
    pub(crate) fn push(&mut self, text: &str) -> (String, Option<String>) {
        let before = self.held.len();
        self.held.push_str(text);
        for (at, byte) in text.bytes().enumerate() {
            if self.finder.push(byte) {
                let end = before + at + 1;
                let rest = self.held.split_off(end);
                self.held.truncate(end - self.finder.len());
                return (std::mem::take(&mut self.held), Some(rest));
            }
        }
        let rest = self.held.split_off(self.held.len() - self.finder.matched());
        (std::mem::replace(&mut self.held, rest), None)
    }

    /// What was held back, at the end.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}
