//! Where templates come from, what they see, and how they refuse.

use serde_json::{Map, Value, json};
use xgraft_fixtures::TEXT;
use xgraft_tokenizer::{ChatTemplate, Conversation, TemplateError};

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::from_source(source, Map::new()).expect("is Jinja")
}

fn render(source: &str, messages: &[Value]) -> Result<String, TemplateError> {
    template(source).render(&Conversation::new(messages))
}

fn user(content: &str) -> Value {
    json!({"role": "user", "content": content})
}

#[test]
fn raise_exception_gives_its_words() {
    let error = render(
        "{% if messages %}{{ raise_exception('only ' ~ 1 ~ ' user') }}{% endif %}",
        &[user("a")],
    );
    assert!(matches!(error, Err(TemplateError::Raised { text }) if text == "only 1 user"));
}

#[test]
fn what_is_not_there_is_an_error_with_its_line() {
    let error = render(
        "{{ messages[0].content }}\n{{ messages[0].nothing.more }}",
        &[user("a")],
    );
    assert!(
        matches!(error, Err(TemplateError::Render { line: 2, .. })),
        "{error:?}"
    );
    assert_eq!(
        render("[{{ messages[0].nothing }}]", &[user("a")]).expect("renders"),
        "[]"
    );
    let syntax = ChatTemplate::from_source("\n{% if %}", Map::new());
    assert!(
        matches!(syntax, Err(TemplateError::Syntax { line: 2, .. })),
        "{syntax:?}"
    );
}

#[test]
fn messages_are_data_and_never_templates() {
    let evil = "{{ 7 * 7 }}{% for x in range(9) %}x{% endfor %}{# gone #}";
    assert_eq!(
        render("{{ messages[0].content }}", &[user(evil)]).expect("renders"),
        evil
    );
    let outside = render("{% include 'tokenizer.json' %}", &[user("a")]);
    assert!(
        matches!(outside, Err(TemplateError::Render { .. })),
        "{outside:?}"
    );
}

#[test]
fn nul_passes_and_a_lone_surrogate_never_gets_here() {
    assert_eq!(
        render("{{ messages[0].content }}", &[user("a\0b")]).expect("renders"),
        "a\0b"
    );
    assert!(serde_json::from_str::<Value>(r#"{"role": "user", "content": "\ud83e"}"#).is_err());
}

#[test]
fn kwargs_are_variables_but_not_the_reserved_ones() {
    let with = |kwargs: Value| {
        let kwargs = kwargs.as_object().expect("an object").clone();
        template("{{ enable_thinking }}{{ eos_token }}").render(&Conversation {
            kwargs: Some(&kwargs),
            ..Conversation::new(&[])
        })
    };
    assert_eq!(
        with(json!({"enable_thinking": false, "eos_token": "<e>"})).expect("renders"),
        "False<e>"
    );
    for name in ["messages", "tools", "documents", "add_generation_prompt"] {
        assert!(
            matches!(with(json!({name: []})), Err(TemplateError::Reserved { name: found }) if found == name)
        );
    }
    assert!(matches!(
        render("", &[json!("text")]),
        Err(TemplateError::Message { at: 0, .. })
    ));
}

#[test]
fn the_clock_is_the_one_that_is_passed_in() {
    let text = template("{{ strftime_now('%d %b %Y') }}").render(&Conversation {
        now: 1_721_952_000,
        ..Conversation::new(&[])
    });
    assert_eq!(text.expect("renders"), "26 Jul 2024");
    assert!(matches!(
        render("{{ strftime_now('%Q') }}", &[]),
        Err(TemplateError::Render { .. })
    ));
}

#[test]
fn a_message_can_be_continued() {
    let messages = [
        user("a"),
        json!({"role": "assistant", "content": "The answer is"}),
    ];
    let own = ChatTemplate::open(TEXT.base()).expect("opens");
    let unfinished = Conversation {
        continue_final_message: true,
        ..Conversation::new(&messages)
    };
    let text = own.render(&unfinished).expect("renders");
    assert_eq!(
        text,
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nThe answer is"
    );
    let trimming = template("[{{ messages[-1].content | trim }}]");
    let spaced = [json!({"role": "assistant", "content": " The answer is \n"})];
    let text = trimming.render(&Conversation {
        messages: &spaced,
        ..unfinished.clone()
    });
    assert_eq!(text.expect("renders"), "[The answer is");
    let shouting = template("{{ messages[-1].content | upper }}");
    assert!(matches!(
        shouting.render(&unfinished),
        Err(TemplateError::NotContinued)
    ));
    let nothing = [json!({"role": "assistant", "content": null})];
    let nothing = Conversation {
        messages: &nothing,
        ..unfinished
    };
    assert!(matches!(
        own.render(&nothing),
        Err(TemplateError::Message { at: 0, .. })
    ));
}

#[test]
fn reasoning_is_found_under_each_of_its_names() {
    for name in ["reasoning_content", "reasoning", "thinking"] {
        let messages = [json!({"role": "assistant", "content": "b", name: "why"})];
        assert_eq!(
            render("{{ messages[0].reasoning_content }}", &messages).expect("renders"),
            "why"
        );
    }
}

fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        let file = dir.path().join(name);
        std::fs::create_dir_all(file.parent().expect("a parent")).expect("creates");
        std::fs::write(file, text).expect("writes");
    }
    dir
}

fn with_and_without_tools(files: &[(&str, &str)]) -> [String; 2] {
    let dir = directory(files);
    let template = ChatTemplate::open(dir.path()).expect("opens");
    let tools = [json!({"type": "function"})];
    [Some(&tools[..]), None].map(|tools| {
        let conversation = Conversation {
            tools,
            ..Conversation::new(&[])
        };
        template.render(&conversation).expect("renders")
    })
}

#[test]
fn templates_lie_in_the_configuration_or_in_files() {
    let one = (
        "tokenizer_config.json",
        r#"{"chat_template": "one{{ bos_token }}", "bos_token": {"content": "<s>"}}"#,
    );
    let named = r#"{"chat_template": [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}, {"name": "rag", "template": "{%"}]}"#;
    let file = ("chat_template.jinja", "file{{ bos_token }}{{ eos_token }}");
    let map = (
        "special_tokens_map.json",
        r#"{"bos_token": "<other>", "eos_token": "<e>"}"#,
    );
    assert_eq!(with_and_without_tools(&[one]), ["one<s>", "one<s>"]);
    assert_eq!(
        with_and_without_tools(&[("tokenizer_config.json", named)]),
        ["t", "d"]
    );
    assert_eq!(
        with_and_without_tools(&[one, file, map]),
        ["file<s><e>", "file<s><e>"]
    );
    let more = ("additional_chat_templates/tool_use.jinja", "more");
    assert_eq!(with_and_without_tools(&[one, more]), ["more", "one<s>"]);
}

#[test]
fn a_directory_without_a_template_says_so() {
    for config in [
        "{}",
        r#"{"chat_template": null}"#,
        r#"{"chat_template": [{"name": "tool_use", "template": "t"}]}"#,
    ] {
        let dir = directory(&[("tokenizer_config.json", config)]);
        assert!(
            matches!(
                ChatTemplate::open(dir.path()),
                Err(TemplateError::Missing { .. })
            ),
            "{config}"
        );
    }
    for config in [
        r#"{"chat_template": 7}"#,
        r#"{"chat_template": [{"name": 1}]}"#,
        "{",
    ] {
        let dir = directory(&[("tokenizer_config.json", config)]);
        assert!(
            matches!(ChatTemplate::open(dir.path()), Err(TemplateError::Files(_))),
            "{config}"
        );
    }
}
