//! Parameters that exist elsewhere and are not supported here, with the values at which they change nothing.

use super::fields::ANYTHING;

/// Of both endpoints. `ANYTHING`: labels that never change an answer.
macro_rules! both {
    ($($more:expr),* $(,)?) => {
        &[
            ("user", ANYTHING),
            ("metadata", ANYTHING),
            ("safety_identifier", ANYTHING),
            ("prompt_cache_key", ANYTHING),
            ("prompt_cache_retention", ANYTHING),
            ("request_id", ANYTHING),
            ("spaces_between_special_tokens", ANYTHING),
            ("service_tier", r#"["auto", "default"]"#),
            ("store", "[false]"),
            ("priority", "[0]"),
            ("use_beam_search", "[false]"),
            ("length_penalty", "[1, 1.0]"),
            ("bad_words", "[[]]"),
            ("allowed_token_ids", "[]"),
            ("logits_processors", "[]"),
            ("logprob_token_ids", "[]"),
            ("truncate_prompt_tokens", "[]"),
            ("guided_json", "[]"),
            ("guided_regex", "[]"),
            ("guided_choice", "[]"),
            ("guided_grammar", "[]"),
            ("guided_decoding_backend", "[]"),
            ("guided_whitespace_pattern", "[]"),
            ("kv_transfer_params", "[]"),
            ("vllm_xargs", "[]"),
            ("cache_salt", "[]"),
            ("repetition_detection", "[]"),
            $($more),*
        ]
    };
}

/// Of `/v1/chat/completions`.
pub(crate) const CHAT: &[(&str, &str)] = both![
    ("echo", "[false]"),
    ("audio", "[]"),
    ("modalities", r#"[["text"]]"#),
    ("prediction", "[]"),
    ("web_search_options", "[]"),
    ("verbosity", "[]"),
    ("reasoning_effort", "[]"),
    ("thinking_token_budget", "[]"),
    ("function_call", "[]"),
    ("functions", "[]"),
    ("chat_template", "[]"),
    ("mm_processor_kwargs", "[]"),
    ("media_io_kwargs", "[]"),
];

/// Of `/v1/completions`.
pub(crate) const COMPLETION: &[(&str, &str)] = both![
    ("best_of", "[1]"),
    ("suffix", r#"[""]"#),
    ("prompt_embeds", "[]"),
];
