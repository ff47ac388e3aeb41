//! A template's source with every operation that can make a value grow put under the [`budget`](super::budget).
//!
//! The engine has fuel for steps, and one step of `~`, `+` or `*` may double what is there; its operators cannot be replaced.
//! So the source is written anew from its tokens, the same but for filters that pay: for the operands of these operators, for what is cut
//! out by `x[a:b]`, and for the text between the tags, which becomes printed strings. Lines stay where they are.

use minijinja::machinery::{Span, Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Error, ErrorKind};

/// What the names of the paying filters begin with; no template may use such a name.
pub(super) const RESERVED: &str = "xgraft_pays_for_";

/// Pays for its value as an operand of `+`, and for a slice.
pub(super) const VALUE: &str = "xgraft_pays_for_value";
/// Pays for its value as `~` prints it.
pub(super) const PRINTED: &str = "xgraft_pays_for_printed";
/// Remembers its value as the left operand of `*`.
pub(super) const LEFT: &str = "xgraft_pays_for_left";
/// Pays for what the remembered left operand times its value will be.
pub(super) const PRODUCT: &str = "xgraft_pays_for_product";
/// Remembers the last product as the left operand of the next `*`.
pub(super) const CHAIN: &str = "xgraft_pays_for_chain";

/// The source of a template that pays.
///
/// # Errors
/// The source is not made of Jinja's tokens, or uses a reserved name.
pub(super) fn guarded(source: &str, syntax: SyntaxConfig) -> Result<String, Error> {
    let tokens = tokenize(source, false, syntax).collect::<Result<Vec<_>, _>>()?;
    if source.contains(RESERVED) {
        let detail = format!("names that begin with `{RESERVED}` are reserved");
        return Err(Error::new(ErrorKind::SyntaxError, detail));
    }
    let mut additions = Additions::new(&tokens);
    for at in 1..tokens.len() {
        additions.visit(at);
    }
    Ok(write(source, &tokens, &additions))
}

/// What is written before and after each token.
struct Additions<'t, 's> {
    tokens: &'t [(Token<'s>, Span)],
    before: Vec<String>,
    after: Vec<String>,
    /// Where the right operand of the last `*` ended.
    last_product: Option<usize>,
}

impl<'t, 's> Additions<'t, 's> {
    fn new(tokens: &'t [(Token<'s>, Span)]) -> Self {
        Self {
            tokens,
            before: vec![String::new(); tokens.len()],
            after: vec![String::new(); tokens.len()],
            last_product: None,
        }
    }

    fn token(&self, at: usize) -> Option<&Token<'s>> {
        self.tokens.get(at).map(|(token, _)| token)
    }

    fn visit(&mut self, at: usize) {
        if !self.ends_operand(at - 1) {
            return;
        }
        match self.tokens[at].0 {
            Token::Plus => self.pay_operands(at, VALUE),
            Token::Tilde => self.pay_operands(at, PRINTED),
            Token::Mul => self.pay_product(at),
            Token::BracketOpen => self.pay_slice(at),
            _ => {}
        }
    }

    fn filter(&mut self, at: usize, name: &str) {
        if let Some(after) = self.after.get_mut(at) {
            after.push('|');
            after.push_str(name);
        }
    }

    fn pay_operands(&mut self, at: usize, name: &str) {
        let end = self.operand_end(at + 1);
        self.filter(at - 1, name);
        self.filter(end, name);
    }

    /// `a * b` becomes `a|left * (b)|product`. A power is inside the parentheses, for it binds more tightly.
    fn pay_product(&mut self, at: usize) {
        let mut end = self.operand_end(at + 1);
        while matches!(self.token(end + 1), Some(Token::Pow)) {
            end = self.operand_end(end + 2);
        }
        let is_chain = self.last_product == Some(at - 1);
        self.filter(at - 1, if is_chain { CHAIN } else { LEFT });
        if end < self.tokens.len() {
            self.before[at + 1].push('(');
            self.after[end].push(')');
            self.filter(end, PRODUCT);
            self.last_product = Some(end);
        }
    }

    /// A slice of which only a part is taken is gone at once, and no filter can stand before what takes it.
    fn goes_on(&self, at: usize) -> bool {
        matches!(
            self.token(at + 1),
            Some(Token::Dot | Token::BracketOpen | Token::ParenOpen)
        )
    }

    fn pay_slice(&mut self, open: usize) {
        let close = self.closing(open);
        let mut at = open + 1;
        while at < close {
            match self.tokens[at].0 {
                Token::Colon if !self.goes_on(close) => return self.filter(close, VALUE),
                Token::Colon => return,
                Token::BracketOpen | Token::ParenOpen | Token::BraceOpen => at = self.closing(at),
                _ => {}
            }
            at += 1;
        }
    }

    /// Whether an operand can end with this token, so that what follows is a binary operator or a subscript.
    fn ends_operand(&self, at: usize) -> bool {
        const KEYWORDS: [&str; 8] = ["if", "elif", "else", "in", "not", "and", "or", "is"];
        match &self.tokens[at].0 {
            Token::Ident(name) => {
                let is_field = at > 0 && matches!(self.tokens[at - 1].0, Token::Dot);
                is_field || !KEYWORDS.contains(name)
            }
            Token::Str(_) | Token::String(_) => true,
            Token::Int(_) | Token::Int128(_) | Token::Float(_) => true,
            Token::BracketClose | Token::ParenClose | Token::BraceClose => true,
            _ => false,
        }
    }

    /// The last token of the operand that begins at `at`, without its tests; beyond the end if it does not end.
    fn operand_end(&self, mut at: usize) -> usize {
        while matches!(self.token(at), Some(Token::Minus)) {
            at += 1;
        }
        let mut end = self.closing(at);
        loop {
            end = match self.token(end + 1) {
                Some(Token::Dot | Token::Pipe) => end + 2,
                Some(Token::BracketOpen | Token::ParenOpen) => self.closing(end + 1),
                Some(Token::Str(_) | Token::String(_)) if self.is_text(end) => end + 1,
                _ => return end,
            };
        }
    }

    fn is_text(&self, at: usize) -> bool {
        matches!(self.token(at), Some(Token::Str(_) | Token::String(_)))
    }

    /// The bracket that closes the one at `open`; `open` itself if it is none.
    fn closing(&self, open: usize) -> usize {
        let mut depth = 0_usize;
        for at in open..self.tokens.len() {
            match self.tokens[at].0 {
                Token::BracketOpen | Token::ParenOpen | Token::BraceOpen => depth += 1,
                Token::BracketClose | Token::ParenClose | Token::BraceClose => {
                    depth = depth.saturating_sub(1);
                }
                _ => {}
            }
            if depth == 0 {
                return at;
            }
        }
        self.tokens.len()
    }
}

fn write(source: &str, tokens: &[(Token<'_>, Span)], additions: &Additions<'_, '_>) -> String {
    let mut out = String::with_capacity(source.len() * 2);
    let mut line = 1;
    for (at, (token, span)) in tokens.iter().enumerate() {
        let is_inside = !matches!(
            token,
            Token::TemplateData(_) | Token::VariableStart | Token::BlockStart
        );
        // Line breaks are free between the tokens of a tag.
        while is_inside && line < span.start_line {
            out.push('\n');
            line += 1;
        }
        let start = out.len();
        out.push_str(&additions.before[at]);
        match token {
            Token::TemplateData(text) => print_text(&mut out, text),
            Token::VariableStart => out.push_str("{{ "),
            Token::VariableEnd => out.push_str(" }}"),
            Token::BlockStart => out.push_str("{% "),
            Token::BlockEnd => out.push_str(" %}"),
            _ => {
                out.push_str(&source[span.start_offset as usize..span.end_offset as usize]);
            }
        }
        out.push_str(&additions.after[at]);
        let needs_space = !matches!(
            token,
            Token::TemplateData(_) | Token::VariableEnd | Token::BlockEnd | Token::Dot
        );
        if needs_space && !matches!(tokens.get(at + 1), Some((Token::Dot, _))) {
            out.push(' ');
        }
        let breaks = out[start..].matches('\n').count();
        line = line.saturating_add(u16::try_from(breaks).unwrap_or(u16::MAX));
    }
    out
}

/// The text between two tags, as a tag that prints it.
fn print_text(out: &mut String, text: &str) {
    out.push_str("{{ \"");
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push_str("\" }}");
}
