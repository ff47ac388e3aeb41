//! The same ids and the same texts as transformers (`fixtures/generators/tokenizer.py`).

use serde_json::{Map, Value};
use xgraft_fixtures::{TEXT, golden};
use xgraft_tokenizer::{ChatTemplate, Conversation, Tokenizer};

/// Ours, with what real ones do: tools, calls, responses, reasoning of the last turn only, macros.
const ELABORATE: &str = include_str!("../templates/elaborate.jinja");

fn golden() -> Value {
    golden::json("text/transformers.json").expect("golden data")
}

fn array(value: &Value) -> &[Value] {
    value.as_array().expect("an array")
}

#[test]
fn texts_have_the_ids_of_transformers() {
    let tokenizer = Tokenizer::open(TEXT.base()).expect("opens");
    for case in array(&golden()["texts"]) {
        let text = case["text"].as_str().expect("a text");
        let ids = tokenizer.encode(text, false).expect("encodes");
        assert_eq!(serde_json::json!(ids), case["ids"], "{text:?}");
        assert_eq!(tokenizer.decode(&ids, false).expect("decodes"), text);
        let without = tokenizer.decode(&ids, true).expect("decodes");
        assert_eq!(without, case["without_special"], "{text:?}");
    }
}

/// Renders every golden conversation; `null` means that transformers refused it.
fn check_chats(name: &str, template: &ChatTemplate) {
    let golden = golden();
    let tools = array(&golden["tools"]);
    let chats = array(&golden["chats"][name]);
    assert!(chats.len() > 50, "{name}");
    for case in chats {
        let kwargs: &Map<String, Value> = case["kwargs"].as_object().expect("an object");
        let text = template.render(&Conversation {
            tools: (case["tools"] == true).then_some(tools),
            add_generation_prompt: case["add_generation_prompt"] == true,
            kwargs: Some(kwargs),
            ..Conversation::new(array(&case["messages"]))
        });
        assert_eq!(
            text.as_deref().ok(),
            case["text"].as_str(),
            "{name}: {case}: {text:?}"
        );
    }
}

#[test]
fn the_fixtures_template_renders_as_in_transformers() {
    check_chats("own", &ChatTemplate::open(TEXT.tuned()).expect("opens"));
}

#[test]
fn a_template_with_tools_and_reasoning_renders_as_in_transformers() {
    let template = ChatTemplate::from_source(ELABORATE, Map::new()).expect("is Jinja");
    check_chats("elaborate", &template);
}
