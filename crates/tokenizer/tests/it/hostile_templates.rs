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
    assert!(matches!(error, TemplateError::TooLong { .. }), "{error}");
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

/// With a sixteenth of the memory that others have.
fn render_small(source: &str) -> Result<String, TemplateError> {
    let limits = Limits {
        output_bytes: 1 << 20,
        ..Limits::default()
    };
    let template = ChatTemplate::from_source(source, Map::new())?.with_limits(limits);
    template.render(&Conversation::new(&[]))
}

/// `{each}` in a loop that runs a thousand times, with `ns.s`, a text, and `ns.l`, a list, to keep things in.
fn a_thousand_times(each: &str) -> String {
    format!(
        "{{% set ns = namespace(s='abcdefgh', l=['a b'], n=2) %}}{{% for i in range(1000) %}}{each}{{% endfor %}}{{{{ ns.s | length }}}}"
    )
}

#[test]
fn what_operators_filters_and_methods_grow_is_refused_before_it_fills_the_memory() {
    for each in [
        "{% set ns.s = ns.s ~ ns.s %}",
        "{% set ns.s = ns.s + ns.s %}",
        "{% set ns.s = (ns.s) ~ (ns['s']) ~ '' %}",
        "{% set ns.s = '' ~ [ns.s, ns.s] %}",
        "{% set ns.s = ns.s * 2 %}",
        "{% set ns.s = ns.n * ns.s %}",
        "{% set ns.s = 1 * 1 * ns.s * ns.n ** 4 %}",
        "{% set ns.s = ns.s * (ns.n * 2) * 1000 %}",
        "{% set ns.s = ns.s[:] + ns.s[1:] %}",
        "{% set ns.l = ns.l + ns.l %}",
        "{% set ns.l = (ns.l * 2)[:] %}",
        "{% set ns.l = ns.l + ['x' * 1000000] %}",
        "{% set ns.l = ns.l + [range(100000) | list] %}",
        "{% set ns.l = ns.l + [range(100000)[:]] %}",
        "{% set ns.s = [ns.s, ns.s] | join %}",
        "{% set ns.s = ns.s.join([ns.s, ns.s]) %}",
        "{% set ns.s = ns.s | replace('a', ns.s) %}",
        "{% set ns.s = ns.s.replace('a', ns.s) %}",
        "{% set ns.l = ns.l + [ns.s | indent(100000000)] %}",
        "{% set ns.l = ns.l + [ns.s | indent(width=100000000)] %}",
        "{% set ns.s = '{0}{0}'.format(ns.s) %}",
        "{% set ns.s = '%s%s' | format(ns.s, ns.s) %}",
        "{% set ns.l = ns.l + [[1] | batch(10000000, 0) | list] %}",
        "{% set ns.l = ns.l + [ns.l | batch(2, 0) | list] + [ns.l[:]] + ns.l %}",
        "{% set ns.s = ns.s | upper ~ ns.s | lower %}",
        "{% set ns.l = (ns.l | join(' ') ~ ' ' ~ ns.l | join(' ')).split() %}",
        "{% set ns.l = ns.l + [dict(a=ns.l)] + ns.l %}",
        "{% set x %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = x %}",
        "{% macro m(s) %}{{ s }}{{ s }}{% endmacro %}{% set ns.s = m(ns.s ~ ns.s) %}",
    ] {
        let error = render_small(&a_thousand_times(each)).expect_err(each);
        let is_refused = matches!(error, TemplateError::TooLong { .. })
            || error.to_string().contains("repeated string is too large");
        assert!(is_refused, "{each}: {error}");
    }
}

#[test]
fn text_that_is_kept_again_and_again_is_paid_for() {
    let text = "a".repeat(100_000);
    let source = format!(
        "{{% set ns = namespace(l=[]) %}}{{% for i in range(90000) %}}{{% set x %}}{text}{{% endset %}}{{% set ns.l = ns.l + [x] %}}{{% endfor %}}"
    );
    let error = render_small(&source).expect_err("nine gigabytes");
    assert!(matches!(error, TemplateError::TooLong { .. }), "{error}");
}

#[test]
fn constants_are_not_computed_while_the_template_is_read() {
    let kept = "{% set a = 'x' * 90000000 %}".repeat(1000);
    let template = ChatTemplate::from_source(&kept, Map::new()).expect("is Jinja");
    let error = template.render(&Conversation::new(&[])).expect_err("90 GB");
    assert!(matches!(error, TemplateError::TooLong { .. }), "{error}");
}

#[test]
fn a_width_of_many_digits_and_a_reserved_name_are_errors() {
    for source in [
        "{{ '%99999999d' | format(1) }}",
        "{{ '{:99999999}'.format(1) }}",
        "{{ ['a'] | map('xgraft_' ~ 'pays_for_left') | list }}",
    ] {
        let error = render(source).expect_err(source);
        assert!(
            matches!(error, TemplateError::Render { .. }),
            "{source}: {error}"
        );
    }
    assert!(matches!(
        render("{{ 1 | xgraft_pays_for_left }}"),
        Err(TemplateError::Syntax { .. })
    ));
}

#[test]
fn operators_that_pay_mean_what_they_meant() {
    for (source, expected) in [
        ("{{ 1 + 2 * 3 ** 2 * 2 - -4 * 2 }}", "45"),
        ("{{ 'ab' * 2 * 2 ~ 1 + 1 * 2 }}", "error"),
        ("{{ 'ab' * 2 * 2 ~ 1 * 2 }}", "abababab2"),
        ("{{ 2 * 'ab' ~ [1, 'x'] }}", "abab[1, 'x']"),
        ("{{ ('a' + 'b')[1:] ~ 'xyz'[::-1] }}", "bzyx"),
        ("{{ ([1] + [2, 3] * 2)[1:] | length }}", "4"),
        ("{{ {'a': [1, 2, 3]}.a[1:][0] ~ {'b': 2}['b'] }}", "22"),
        (
            "{% if not x is defined and 'a' ~ 'b' == 'ab' %}{{ \"q\\\"\" ~ 'l\\n' }}{% endif %}",
            "q\"l\n",
        ),
        (
            "a \"b\" \\n {{- ' c' -}}  d\n{%- raw %} {{ e }}{% endraw %}",
            "a \"b\" \\n cd {{ e }}",
        ),
        (
            "{% macro f(a, b=1 + 1) %}{{ a ~ b }}{% endmacro %}{{ f(1 * 2) }}{{ f(*[3, 4]) }}",
            "2234",
        ),
        (
            "{{ 'a,b'.split(',') | join('-') }}{{ [1, none] | join }}",
            "a-b1None",
        ),
        (
            "{% filter upper %}a{% endfilter %}{{ 5 // 2 * 2 % 3 }}",
            "A1",
        ),
    ] {
        match render(source) {
            Ok(text) => assert_eq!(text, expected, "{source}"),
            Err(error) => assert_eq!(expected, "error", "{source}: {error}"),
        }
    }
}

#[test]
fn an_error_names_the_line_of_the_source() {
    let source = "{# a\nb #}\n{% set x =\n 1 %}\ntext\n\n{{ 1 + none }}";
    let error = render(source).expect_err("no sum");
    assert!(
        matches!(error, TemplateError::Render { line: 7, .. }),
        "{error}"
    );
}

#[test]
fn values_that_are_nested_as_deeply_as_fuel_allows_do_not_end_the_process() {
    for each in [
        "{% set ns.x = [ns.x] %}",
        "{% set ns.x = {'a': ns.x} %}",
        "{% set ns.x = ns.x * 1 %}",
        "{% set ns.x = ns.x | items %}",
        "{% set ns.x = namespace(x=ns.x) %}",
        "{% set ns.x = dict(x=ns.x) %}",
        "{% set ns.x = ns.x | batch(1) %}",
        "{% set ns.x = ns.x + [ns.x] %}",
        "{% set ns.x = [ns.x] %}{% set ns.y = [ns.y] %}",
    ] {
        for after in [
            "",
            "{{ ns.x == ns.y }}",
            "{{ ns.x | length }}",
            "{{ ns.x }}",
        ] {
            for turns in [10, 100, 5000] {
                // Whatever comes of it, the next line is reached.
                let _ = render_small(&format!(
                    "{{% set ns = namespace(x=[], y=[]) %}}{{% for i in range({turns}) %}}{{% for j in range(100) %}}{each}{{% endfor %}}{{% endfor %}}{after}"
                ));
            }
        }
    }
    let error = render("{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% for j in range(100) %}{% set ns.x = [ns.x] %}{% endfor %}{% endfor %}").expect_err("deep");
    assert!(matches!(error, TemplateError::OutOfFuel { .. }), "{error}");
}
