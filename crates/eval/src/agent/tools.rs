//! What an agent may use: functions, data, know-how.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::AgentError;
use crate::sandbox::{Ended, Interpreter};

/// How long the description of a module may take at most.
const PATIENCE: Duration = Duration::from_secs(120);

/// A function, as a `tool_description` module describes it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Tool {
    /// The module to import it from.
    #[serde(skip)]
    pub module: String,
    /// The function.
    pub name: String,
    /// What it does.
    pub description: String,
    /// What it must be given.
    #[serde(default)]
    pub required_parameters: Vec<Parameter>,
    /// What it may be given.
    #[serde(default)]
    pub optional_parameters: Vec<Parameter>,
}

/// A parameter of a function.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its type, in Python's words.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// What it is for.
    #[serde(default)]
    pub description: Option<String>,
    /// What it is if it is not given.
    #[serde(default)]
    pub default: Value,
}

/// Something that can be read: a file of data, or a text of know-how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its name.
    pub name: String,
    /// What it is about, in a line.
    pub description: String,
    /// The text of a know-how document; empty for data.
    pub text: String,
}

/// Everything an agent may use.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    /// Functions.
    pub tools: Vec<Tool>,
    /// Files of data.
    pub data: Vec<Item>,
    /// Documents that are put into the prompt.
    pub know_how: Vec<Item>,
    /// Where the data lie.
    pub data_folder: Option<PathBuf>,
}

/// What the driver says of a module.
#[derive(Deserialize)]
struct Described {
    module: String,
    tools: Vec<Tool>,
    fault: Option<String>,
}

impl Resources {
    /// The tools of folders, which `interpreter` reads: their code runs in the sandbox only, each module no longer than `limit`.
    pub(super) async fn add_tools(
        &mut self,
        folders: &[PathBuf],
        interpreter: &mut Interpreter,
        limit: Duration,
    ) -> Result<(), AgentError> {
        let limit = limit.min(PATIENCE);
        for folder in folders {
            let wrong = |found: String| AgentError::Tools {
                folder: folder.clone(),
                found,
            };
            let modules = interpreter.modules(folder, limit).await;
            let modules = modules.map_err(|ended| wrong(why(&ended, limit)))?;
            for file in modules {
                let of_it = |found: String| {
                    let module = file.strip_suffix(".py").unwrap_or(&file);
                    wrong(format!("in module {module}: {found}"))
                };
                let described = interpreter.describe(folder, &file, limit).await;
                let described = described.map_err(|ended| of_it(why(&ended, limit)))?;
                let described = Described::deserialize(described);
                let Described {
                    module,
                    tools,
                    fault,
                } = described.map_err(|error| of_it(error.to_string()))?;
                if let Some(error) = fault {
                    tracing::warn!(%module, %error, "the tools of a module cannot be read");
                }
                let named = |tool| Tool {
                    module: module.clone(),
                    ..tool
                };
                self.tools.extend(tools.into_iter().map(named));
            }
        }
        if !folders.is_empty() && self.tools.is_empty() {
            return Err(AgentError::Tools {
                folder: folders[0].clone(),
                found: "no module with a list `description`".to_owned(),
            });
        }
        Ok(())
    }

    /// The files of a folder. `descriptions.json` in it, an object of texts by name, says what they are.
    pub(super) fn add_data(&mut self, folder: &Path) -> Result<(), AgentError> {
        let described = folder.join("descriptions.json");
        let texts: serde_json::Map<String, Value> = if described.exists() {
            serde_json::from_str(&read(&described)?).map_err(|source| AgentError::Descriptions {
                path: described.clone(),
                source,
            })?
        } else {
            serde_json::Map::new()
        };
        for name in names(folder)? {
            if name == "descriptions.json" {
                continue;
            }
            let description = texts.get(&name).and_then(Value::as_str).unwrap_or("a file");
            self.data.push(Item {
                description: description.to_owned(),
                text: String::new(),
                name,
            });
        }
        self.data_folder = Some(folder.to_owned());
        Ok(())
    }

    /// The Markdown documents of a folder, but not those whose names are all capitals, as README.
    pub(super) fn add_know_how(&mut self, folder: &Path) -> Result<(), AgentError> {
        for name in names(folder)? {
            let Some(stem) = name.strip_suffix(".md") else {
                continue;
            };
            if !stem.chars().any(char::is_lowercase) {
                continue;
            }
            self.know_how
                .push(document(stem, &read(&folder.join(&name))?));
        }
        Ok(())
    }

    /// Whether there is anything to choose from.
    pub(super) fn is_empty(&self) -> bool {
        self.tools.is_empty() && self.data.is_empty() && self.know_how.is_empty()
    }
}

fn why(ended: &Ended, limit: Duration) -> String {
    match ended {
        Ended::Timeout => format!("no description after {} s", limit.as_secs()),
        Ended::Died(said) => said.clone(),
    }
}

fn names(folder: &Path) -> Result<Vec<String>, AgentError> {
    let io = |source| AgentError::Io {
        path: folder.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        let name = name.to_string_lossy().into_owned();
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn read(path: &Path) -> Result<String, AgentError> {
    std::fs::read_to_string(path).map_err(|source| AgentError::Io {
        path: path.to_owned(),
        source,
    })
}

/// Title, one line about it, and the text without its section of metadata.
fn document(stem: &str, text: &str) -> Item {
    let title = text.lines().find_map(|line| line.strip_prefix("# "));
    let mut kept = Vec::new();
    let mut about = None;
    let mut section = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            section = name.trim();
        }
        if section == "Metadata" {
            let short = line.trim().strip_prefix("**Short Description**:");
            about = about.or(short.map(|text| text.trim().to_owned()));
            continue;
        }
        let prose = !line.trim().is_empty() && !line.starts_with(['#', '-', '*', '`']);
        if about.is_none() && prose {
            about = Some(line.trim().to_owned());
        }
        kept.push(line);
    }
    Item {
        name: title.map_or_else(|| stem.replace('_', " "), |title| title.trim().to_owned()),
        description: about.unwrap_or_default(),
        text: kept.join("\n").trim().to_owned(),
    }
}
