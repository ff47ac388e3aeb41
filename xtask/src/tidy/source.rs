//! Rust source without its comments and literals, enough for word searches.

/// The code of each line: comments and the insides of strings and characters are blanked, line breaks stay.
pub(super) fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let skip = skipped(text, at);
        if skip == 0 {
            let width = text[at..].chars().next().map_or(1, char::len_utf8);
            out.push_str(&text[at..at + width]);
            at += width;
        } else {
            let end = (at + skip).min(bytes.len());
            out.extend(text[at..end].chars().filter(|c| *c == '\n'));
            out.push(' ');
            at = end;
        }
    }
    out
}

/// How many bytes from `at` belong to a comment or a literal that starts there; 0 for code.
fn skipped(text: &str, at: usize) -> usize {
    let rest = &text[at..];
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return rest.find("*/").map_or(rest.len(), |end| end + 2);
    }
    if rest.starts_with('"') {
        return quoted(rest);
    }
    if rest.starts_with('r') && !starts_inside_word(text, at) {
        return raw(rest);
    }
    if rest.starts_with('\'') {
        return character(rest);
    }
    0
}

fn starts_inside_word(text: &str, at: usize) -> bool {
    let before = text[..at].chars().next_back();
    before.is_some_and(|c| (c.is_alphanumeric() && c != 'b') || c == '_')
}

fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (index, c) in rest.char_indices().skip(1) {
        match c {
            '"' if !escaped => return index + 1,
            _ => escaped = c == '\\' && !escaped,
        }
    }
    rest.len()
}

fn raw(rest: &str) -> usize {
    let hashes = rest[1..].chars().take_while(|c| *c == '#').count();
    if !rest[1 + hashes..].starts_with('"') {
        return 0;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let start = hashes + 2;
    rest[start..]
        .find(&close)
        .map_or(rest.len(), |end| start + end + close.len())
}

/// `'x'` and `'\n'` are literals, `'a` is a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => rest[2..].find('\'').map_or(0, |end| {
            // '\'' closes one later.
            let end = if rest[2..].starts_with('\'') { 1 } else { end };
            end + 3
        }),
        Some(_) => match chars.next() {
            Some((end, '\'')) => end + 1,
            _ => 0,
        },
        None => 0,
    }
}

/// Whether a line of code holds the word, not as a part of a longer one.
pub(super) fn has_word(code: &str, word: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(word).any(|(at, _)| {
        !part(code[..at].chars().next_back()) && !part(code[at + word.len()..].chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blank_and_lines_stay() {
        let text = "a // b\n\"c \\\" c\" d r#\"e \" e\"# f '\\'' g 'h' 'i /* j\nj */ k bar\"l\"";
        let code = code(text);
        let words: Vec<_> = code.split_whitespace().collect();
        assert_eq!(words, ["a", "d", "f", "g", "'i", "k", "bar"]);
        assert_eq!(code.lines().count(), text.lines().count());
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("x = unsafe { y }", "unsafe"));
        assert!(!has_word("#![deny(unsafe_code)]", "unsafe"));
    }
}
