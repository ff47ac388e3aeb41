//! What transformers' dialect has and Jinja has not.

/// The source with the tags `generation` and `endgeneration`, which mark the assistant's words for training, as an `if` that
/// always holds; how they trim the space around them stays.
pub(super) fn without_generation(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let Some(end) = tag[2..].find("%}").map(|end| end + 2) else {
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(end);
        match tag[2..].trim_matches(['-', '+', ' ', '\t', '\n']) {
            "generation" => out.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => out.push_str(&tag.replace("endgeneration", "endif")),
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_without_an_end_of_its_own_stays() {
        for source in ["{%}", "{%", "a{%}b%}c", "%}{%-"] {
            assert_eq!(without_generation(source), source);
        }
    }

    #[test]
    fn only_whole_tags_are_changed() {
        let source = "a{%- generation %}{{ 'generation' }}{% if generation %}{%endgeneration -%} {% generation";
        let expected =
            "a{%- if true %}{{ 'generation' }}{% if generation %}{%endif -%} {% generation";
        assert_eq!(without_generation(source), expected);
    }
}
