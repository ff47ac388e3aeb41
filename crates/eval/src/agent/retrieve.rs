//! The retriever: the model chooses what it may need before it begins.

use std::fmt::Write as _;
use std::sync::LazyLock;

use regex::Regex;

use super::tools::Resources;

#[expect(
    clippy::unwrap_used,
    reason = "the expression is a constant that a test compiles"
)]
static LIST: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?is)\b(TOOLS|DATA|KNOW[-_ ]HOW)[A-Z_]*:\s*\[(.*?)\]").unwrap());

/// What the model is asked: the numbers of what it may need.
pub(super) fn question(prompt: &str, resources: &Resources) -> String {
    let mut text = format!(
        "Choose what may help to answer a question; rather too much than too little.\n\nQUESTION: {prompt}\n"
    );
    let tools = resources.tools.iter().map(|t| (&t.name, &t.description));
    let data = resources.data.iter().map(|d| (&d.name, &d.description));
    let know_how = resources.know_how.iter().map(|k| (&k.name, &k.description));
    let mut list = |title: &str, items: Vec<(&String, &String)>| {
        let _ = write!(text, "\n{title}:\n");
        for (number, (name, description)) in items.into_iter().enumerate() {
            let _ = writeln!(text, "{number}. {name}: {description}");
        }
    };
    list("TOOLS", tools.collect());
    list("DATA", data.collect());
    list("KNOW_HOW", know_how.collect());
    text.push_str(
        "\nAnswer with three lines and nothing else, each with the numbers from its list, or with none:\n\
         TOOLS: [0, 2]\nDATA: []\nKNOW_HOW: [1]\n",
    );
    text
}

/// The resources whose numbers the model named. What it says otherwise chooses nothing of that list; a number that is none of the
/// list's is left out.
pub(super) fn chosen(answer: &str, resources: &Resources) -> Resources {
    let (mut tools, mut data, mut know_how) = (Vec::new(), Vec::new(), Vec::new());
    for found in LIST.captures_iter(answer) {
        let numbers = found[2]
            .split(',')
            .map(|number| number.trim().parse::<usize>());
        let numbers: Result<Vec<usize>, _> = numbers.collect();
        let numbers = numbers.unwrap_or_default();
        match found[1].to_ascii_uppercase().as_bytes()[0] {
            b'T' => tools = numbers,
            b'D' => data = numbers,
            _ => know_how = numbers,
        }
    }
    Resources {
        tools: pick(&resources.tools, &tools),
        data: pick(&resources.data, &data),
        know_how: pick(&resources.know_how, &know_how),
        data_folder: resources.data_folder.clone(),
    }
}

/// In the order of the list, each once.
fn pick<T: Clone>(items: &[T], numbers: &[usize]) -> Vec<T> {
    let items = items.iter().enumerate();
    let chosen = items.filter(|(number, _)| numbers.contains(number));
    chosen.map(|(_, item)| item.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tools::Item;
    use super::*;

    fn resources() -> Resources {
        let item = |name: &str| Item {
            name: name.to_owned(),
            description: "about".to_owned(),
            text: String::new(),
        };
        Resources {
            tools: Vec::new(),
            data: vec![item("a.csv"), item("b.csv"), item("c.csv")],
            know_how: vec![item("guide")],
            data_folder: None,
        }
    }

    fn names(items: &[Item]) -> Vec<&str> {
        items.iter().map(|item| item.name.as_str()).collect()
    }

    #[test]
    fn numbers_choose_and_nonsense_does_not() {
        let all = resources();
        let some = chosen("TOOLS: []\nDATA_LAKE: [2, 0, 9]\nknow-how: [0]", &all);
        assert_eq!(names(&some.data), ["a.csv", "c.csv"]);
        assert_eq!(names(&some.know_how), ["guide"]);
        let none = chosen("I would take the first two. DATA: [a, b]", &all);
        assert!(none.is_empty());
    }

    #[test]
    fn the_question_numbers_every_list() {
        let text = question("which gene?", &resources());
        assert!(text.contains("QUESTION: which gene?"));
        assert!(text.contains("1. b.csv: about"), "{text}");
    }
}
