//! Stop strings, wherever the tokens' borders are.

use super::finder::Finder;

/// Holds back text that might be the beginning of a stop string, and finds the first one that is complete.
///
/// Of two that are complete with the same byte, the longer one counts. So the result depends on the text only, not on the
/// pieces in which it came.
#[derive(Debug, Clone)]
pub(crate) struct StopStrings {
    finders: Vec<Finder>,
    texts: Vec<String>,
    held: String,
    include: bool,
}

impl StopStrings {
    /// `include`: the stop string itself is part of the text.
    pub(crate) fn new(texts: Vec<String>, include: bool) -> Self {
        let finders = texts.iter().map(|text| Finder::new(text)).collect();
        Self {
            finders,
            texts,
            held: String::new(),
            include,
        }
    }

    /// The text that may be sent now, and the stop string if one is complete; nothing may be pushed after that.
    /// What is not `armed` may be the beginning of a stop string, but not its end.
    pub(crate) fn push(&mut self, text: &str, armed: bool) -> (String, Option<String>) {
        let before = self.held.len();
        self.held.push_str(text);
        for (at, byte) in text.bytes().enumerate() {
            let Some(stop) = self.step(byte).filter(|_| armed) else {
                continue;
            };
            let end = before + at + 1;
            let kept = if self.include {
                end
            } else {
                end - self.texts[stop].len()
            };
            self.held.truncate(kept);
            return (
                std::mem::take(&mut self.held),
                Some(self.texts[stop].clone()),
            );
        }
        let longest = self.finders.iter().map(Finder::matched).max().unwrap_or(0);
        let rest = self
            .held
            .split_off(self.held.len() - longest.min(self.held.len()));
        (std::mem::replace(&mut self.held, rest), None)
    }

    /// The longest stop string that this byte completes.
    fn step(&mut self, byte: u8) -> Option<usize> {
        let mut found: Option<usize> = None;
        for (index, finder) in self.finders.iter_mut().enumerate() {
            let longer = |best: usize| self.texts[best].len() < self.texts[index].len();
            if finder.push(byte) && found.is_none_or(longer) {
                found = Some(index);
            }
        }
        found
    }

    /// What was held back, at an end without a stop string.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition: the stop string that ends first, the longest of those.
    fn reference(text: &str, stops: &[&str], include: bool) -> (String, Option<String>) {
        for end in 0..=text.len() {
            let ends = |stop: &&&str| text.as_bytes()[..end].ends_with(stop.as_bytes());
            if let Some(stop) = stops.iter().filter(ends).max_by_key(|stop| stop.len()) {
                let kept = if include { end } else { end - stop.len() };
                return (text[..kept].to_owned(), Some((*stop).to_owned()));
            }
        }
        (text.to_owned(), None)
    }

    fn in_pieces(pieces: &[&str], stops: &[&str], include: bool) -> (String, Option<String>) {
        let mut matcher =
            StopStrings::new(stops.iter().map(ToString::to_string).collect(), include);
        let mut out = String::new();
        for piece in pieces {
            let (text, stop) = matcher.push(piece, true);
            out.push_str(&text);
            if stop.is_some() {
                return (out, stop);
            }
        }
        (out + &matcher.finish(), None)
    }

    #[test]
    fn every_cutting_of_a_text_gives_what_the_definition_says() {
        let texts = ["abcabcabd", "aaab", "µµ§x", "no stop here", "xabab"];
        let stops: [&[&str]; 6] = [
            &["abcabd"],
            &["aab"],
            &["µ§"],
            &["ab", "cab"],
            &["abab", "b"],
            &["zz"],
        ];
        for text in texts {
            let places: Vec<usize> = text.char_indices().map(|(at, _)| at).skip(1).collect();
            for stops in stops {
                for cuts in 0..1_u32 << places.len().min(8) {
                    let mut pieces = Vec::new();
                    let mut from = 0;
                    for (bit, place) in places.iter().take(8).enumerate() {
                        if cuts >> bit & 1 == 1 {
                            pieces.push(&text[from..*place]);
                            from = *place;
                        }
                    }
                    pieces.push(&text[from..]);
                    for include in [false, true] {
                        assert_eq!(
                            in_pieces(&pieces, stops, include),
                            reference(text, stops, include)
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn no_byte_of_a_stop_string_is_sent_before_it_is_known_to_be_none() {
        let mut matcher = StopStrings::new(vec!["END.".into()], false);
        assert_eq!(matcher.push("the EN", true), ("the ".into(), None));
        assert_eq!(matcher.push("D", true), (String::new(), None));
        assert_eq!(matcher.push("!", true), ("END!".into(), None));
        assert_eq!(
            matcher.push("END.rest", true),
            (String::new(), Some("END.".into()))
        );
    }

    #[test]
    fn a_stop_string_that_ends_before_the_least_number_of_tokens_does_not_count() {
        let mut matcher = StopStrings::new(vec!["ab".into()], false);
        assert_eq!(matcher.push("ab", false), ("ab".into(), None));
        assert_eq!(matcher.push("a", false), (String::new(), None));
        assert_eq!(matcher.push("b", true), (String::new(), Some("ab".into())));
    }
}
