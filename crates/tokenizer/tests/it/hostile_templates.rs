//! Templates that want to go on for ever or to fill the memory.

use serde_json::Map;
use xgraft_tokenizer::{ChatTemplate, Conversation, Limits, TemplateError};

fn render(source: &str) -> Result<String, TemplateError> {
    let template = ChatTemplate::from_source(source, Map::new())?;
    template.render(&Conversation::new(&[]))
}

#[test]
fn endless_work_runs_out_of_fuel() {
    for source in [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{{ f(n - 1) if n }}{{ f(n - 1) if n }}{% endmacro %}{{ f(40) }}",
        "{% set x %}{% for a in range(100000) %}{% for b in range(100) %}{{ a }}{% endfor %}{% endfor %}{% endset %}",
    ] {
        let error = render(source).expect_err("endless");
        assert!(
            matches!(error, TemplateError::OutOfFuel { fuel } if fuel == Limits::default().fuel),
            "{source}: {error}"
        );
    }
}

#[test]
fn a_text_of_a_gigabyte_is_refused() {
    for source in [
        "{% for a in range(1000) %}{{ 'x' * 1000000 }}{% endfor %}",
        "{{ 'x' * 50000000 }}",
    ] {
        let error = render(source).expect_err("long");
        assert!(
            matches!(error, TemplateError::TooLong { limit } if limit == Limits::default().output_bytes),
            "{error}"
        );
    }
    let error = render("{{ ('x' * 1000000000) | length }}").expect_err("long");
    assert!(matches!(error, TemplateError::Render { .. }), "{error}");
}

#[test]
fn a_value_that_doubles_at_every_step_is_refused_before_it_fills_the_memory() {
    let doubled = "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}";
    for source in [
        "{% set ns = namespace(x='xx') %}{% for i in range(60) %}{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}{% endfor %}".to_owned(),
        "{% macro f(n) %}{% if n %}{% set x = f(n - 1) %}{{ x }}{{ x }}{% else %}x{% endif %}{% endmacro %}{% set y = f(60) %}".to_owned(),
        format!("{doubled}{{{{ ns.x }}}}"),
        format!("{doubled}{{{{ ns.x | string | length }}}}"),
        format!("{doubled}{{{{ ns.x | tojson | length }}}}"),
    ] {
        let error = render(&source).expect_err("long");
        assert!(matches!(error, TemplateError::TooLong { .. }), "{source}: {error}");
    }
}

#[test]
fn deep_recursion_is_an_error() {
    let error = render("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}").expect_err("endless");
    assert!(matches!(error, TemplateError::Render { .. }), "{error}");
    let parentheses = format!("{{{{ {}1{} }}}}", "(".repeat(10_000), ")".repeat(10_000));
    assert!(matches!(
        render(&parentheses),
        Err(TemplateError::Syntax { .. })
    ));
}

#[test]
fn limits_can_be_smaller() {
    let limits = Limits {
        output_bytes: 3,
        ..Limits::default()
    };
    let template = |source| {
        ChatTemplate::from_source(source, Map::new())
            .expect("is Jinja")
            .with_limits(limits)
    };
    assert_eq!(
        template("abc")
            .render(&Conversation::new(&[]))
            .expect("renders"),
        "abc"
    );
    assert!(matches!(
        template("abcd").render(&Conversation::new(&[])),
        Err(TemplateError::TooLong { limit: 3 })
    ));
}
