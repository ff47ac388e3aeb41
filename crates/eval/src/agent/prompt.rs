//! What agent A1 is told before a question.

use std::fmt::Write as _;

use serde_json::Value;

use super::tools::{Item, Parameter, Resources, Tool};

/// The contract of A1: a plan, programs in `<execute>`, an answer in `<solution>`. What it may use comes in the places in braces.
const SYSTEM: &str = "\
You are a biomedical scientist who solves problems with the help of a computer.

Begin with a plan: a numbered list of steps, each with an empty box, `1. [ ] look at the data`. After every step show the \
list again, with `[✓]` for what is done, and `[✗]` and a reason for what failed.

In every message, think first. Then do exactly one of two things:

1. Run a program. Put it between <execute> and </execute>; what it prints comes back between <observation> and </observation>.
   - Python is the default: <execute> print(1 + 1) </execute>. Variables stay from one program to the next.
   - R begins with #!R: <execute> #!R\nprint(1 + 1) </execute>
   - Shell scripts begin with #!BASH: <execute> #!BASH\nls -l </execute>
2. Answer, when you are sure, in the form that the question asks for: <solution> A </solution>

A message has one <execute> or one <solution>, never both and never neither. You may run many programs, so keep each of them \
small, and print what you want to see: results that are not printed are lost.
{resources}";

/// What A1 is told when a message has no tag.
pub(super) const CORRECTION: &str = "Your message has no tags. Think first, then give either a program between \
<execute> and </execute> or the answer between <solution> and </solution>.";

/// The system prompt with what the agent may use. `own` takes the place of the built-in one; `{resources}` in it is replaced.
pub(super) fn system(own: Option<&str>, resources: &Resources) -> String {
    own.unwrap_or(SYSTEM)
        .replace("{resources}", &described(resources))
}

fn described(resources: &Resources) -> String {
    let mut text = String::new();
    if !resources.know_how.is_empty() {
        text.push_str("\nWhat is known already:\n");
        for Item {
            name, text: body, ..
        } in &resources.know_how
        {
            let _ = write!(text, "\n{name}\n{body}\n");
        }
    }
    if !resources.tools.is_empty() {
        text.push_str("\nFunctions, by the module that they are imported from:\n");
        text.push_str(&functions(&resources.tools));
    }
    if let Some(folder) = &resources.data_folder {
        let _ = write!(text, "\nData in the folder {}:\n", folder.display());
        for Item {
            name, description, ..
        } in &resources.data
        {
            let _ = writeln!(text, "- {name}: {description}");
        }
    }
    text
}

fn functions(tools: &[Tool]) -> String {
    let mut text = String::new();
    let mut module = "";
    for tool in tools {
        if tool.module != module {
            module = &tool.module;
            let _ = write!(text, "\nfrom {module} import …\n");
        }
        let _ = writeln!(text, "- {}: {}", tool.name, tool.description);
        for parameter in &tool.required_parameters {
            let _ = writeln!(text, "    {}", described_parameter(parameter, "required"));
        }
        for parameter in &tool.optional_parameters {
            let default = match &parameter.default {
                Value::Null => "None".to_owned(),
                Value::Bool(true) => "True".to_owned(),
                Value::Bool(false) => "False".to_owned(),
                other => other.to_string(),
            };
            let note = format!("optional, {default} by default");
            let _ = writeln!(text, "    {}", described_parameter(parameter, &note));
        }
    }
    text
}

fn described_parameter(parameter: &Parameter, note: &str) -> String {
    let kind = parameter.kind.as_deref().unwrap_or("any");
    let about = parameter.description.as_deref().unwrap_or("");
    format!("{} ({kind}, {note}): {about}", parameter.name)
}
