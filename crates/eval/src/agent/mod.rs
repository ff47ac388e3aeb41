//! Agent A1: a model that runs programs until it knows the answer.
//!
//! Generate, execute, observe, as the published harness does it with its critic off; what it does wrong is left out unless
//! `compat` asks for it. Observations are messages of the assistant.
//!
//! Modules: `parse` (what a message asks for), `prompt` (what the model is told), `tools` (what it may use), `retrieve` (what it
//! chooses of that first).

mod parse;
mod prompt;
mod retrieve;
mod tools;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use xgraft_dataset::{Message, Role};

pub use self::tools::{Item, Parameter, Resources, Tool};

use self::parse::{Program, STOP, Step, close, step};
use crate::run::{End, Session, Spoken};
use crate::sandbox::{Ended, Interpreter, Launcher, SandboxError};

/// How an agent works; a part of what a run measures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentConfig {
    /// Whether the published harness's mistakes are kept.
    pub compat: bool,
    /// Steps of one question, answers and programs together.
    pub steps: u64,
    /// Seconds that one program may take.
    pub program_seconds: u64,
    /// Characters of output that the model sees.
    pub output_chars: usize,
    /// Whether the model first chooses what it may use.
    pub retrieve: bool,
    /// BLAKE3 of the system prompt with everything that may be used.
    pub prompt: String,
}

/// An agent that can work on questions.
#[derive(Clone, Debug)]
pub struct Agent {
    config: AgentConfig,
    own_prompt: Option<String>,
    resources: Resources,
    launcher: Launcher,
}

/// What an agent is made of.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// What the model is told, in place of the built-in prompt.
    pub system: Option<String>,
    /// Folders of tools.
    pub tools: Vec<PathBuf>,
    /// A folder of data.
    pub data: Option<PathBuf>,
    /// A folder of documents.
    pub know_how: Option<PathBuf>,
}

/// Why an agent cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// A file or folder cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A folder has no tools.
    #[error("{}: expected Python modules with a list `description` of tools, found {found}", folder.display())]
    Tools {
        /// The folder.
        folder: PathBuf,
        /// What is there.
        found: String,
    },
    /// The descriptions of the data cannot be read.
    #[error("{}: expected a JSON object of texts by file name", path.display())]
    Descriptions {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
    /// Programs cannot be run.
    #[error("programs cannot be run")]
    Sandbox(#[from] SandboxError),
}

impl Agent {
    /// An agent with these parts. An interpreter is started once, to see that it can be, and to read the tools.
    ///
    /// # Errors
    /// A part cannot be read, or the interpreter does not start.
    pub async fn new(
        mut config: AgentConfig,
        parts: Parts,
        launcher: Launcher,
    ) -> Result<Self, AgentError> {
        let mut resources = Resources::default();
        let mut interpreter = launcher.start().await?;
        let limit = Duration::from_secs(config.program_seconds);
        let read = resources.add_tools(&parts.tools, &mut interpreter, limit);
        let read = read.await;
        interpreter.end().await;
        read?;
        if let Some(folder) = &parts.data {
            resources.add_data(folder)?;
        }
        if let Some(folder) = &parts.know_how {
            resources.add_know_how(folder)?;
        }
        let prompt = prompt::system(parts.system.as_deref(), &resources);
        config.prompt = blake3::hash(prompt.as_bytes()).to_hex().to_string();
        Ok(Self {
            config,
            own_prompt: parts.system,
            resources,
            launcher,
        })
    }

    /// How it works.
    #[must_use]
    pub fn config(&self) -> &AgentConfig {
        &self.config
    }

    /// What it may use.
    #[must_use]
    pub fn resources(&self) -> &Resources {
        &self.resources
    }

    /// Works on a question until there is a solution or a limit is reached.
    pub(crate) async fn solve(
        &self,
        session: &mut Session<'_>,
        question: &str,
    ) -> Result<Spoken, End> {
        let system = match self.chosen(session, question).await? {
            Some(chosen) => prompt::system(self.own_prompt.as_deref(), &chosen),
            None => prompt::system(self.own_prompt.as_deref(), &self.resources),
        };
        session.push(Role::System, system);
        session.push(Role::User, question);
        let mut interpreter = None;
        let spoken = self.go_on(session, &mut interpreter).await;
        if let Some(interpreter) = interpreter {
            interpreter.end().await;
        }
        spoken
    }

    async fn chosen(
        &self,
        session: &mut Session<'_>,
        question: &str,
    ) -> Result<Option<Resources>, End> {
        if !self.config.retrieve || self.resources.is_empty() {
            return Ok(None);
        }
        let asked = retrieve::question(question, &self.resources);
        let messages = [Message::new(Role::User, asked)];
        let said = session.ask_about(&messages, &[]).await?;
        Ok(Some(retrieve::chosen(&said.text, &self.resources)))
    }

    async fn go_on(
        &self,
        session: &mut Session<'_>,
        interpreter: &mut Option<Interpreter>,
    ) -> Result<Spoken, End> {
        let (mut steps, mut corrections) = (0, 0);
        loop {
            steps += 1;
            if steps > self.config.steps {
                return Err(End::Overflow(format!(
                    "{} steps are over",
                    self.config.steps
                )));
            }
            let said = session.ask(STOP).await?;
            let message = close(&said.text);
            session.push(Role::Assistant, message.trim());
            match step(&message, self.config.compat) {
                // The published harness finds its answer in thoughts too.
                Step::Solve if self.config.compat => {
                    let message = message.replace("<think>", "").replace("</think>", "");
                    return Ok(Spoken::Text(message));
                }
                Step::Solve => return Ok(Spoken::Text(message)),
                Step::Execute(program) => {
                    steps += 1;
                    let observed = self.execute(session, interpreter, &program).await?;
                    session.push(Role::Assistant, observed);
                }
                Step::Lose => steps += 1,
                Step::Think => {}
                Step::Correct if corrections == 2 && !self.config.compat => {
                    return Ok(Spoken::Nothing("three messages have no tags"));
                }
                Step::Correct => {
                    corrections += 1;
                    session.push(Role::User, prompt::CORRECTION);
                }
            }
        }
    }

    /// Runs a program, and says what the model sees of it.
    async fn execute(
        &self,
        session: &mut Session<'_>,
        place: &mut Option<Interpreter>,
        program: &Program,
    ) -> Result<String, End> {
        let limit = Duration::from_secs(self.config.program_seconds);
        let limit = limit.min(session.left()?);
        let mut interpreter = match place.take() {
            Some(interpreter) => interpreter,
            None => self.launcher.start().await.map_err(End::Sandbox)?,
        };
        let start = Instant::now();
        let ran = interpreter
            .run(program.language, &program.code, limit)
            .await;
        session.spend(start.elapsed());
        session.executions += 1;
        let result = match ran.ended {
            None => {
                *place = Some(interpreter);
                self.cut(&ran.output, ran.dropped)
            }
            Some(Ended::Timeout) => format!(
                "ERROR: the program was stopped after {} seconds. Try smaller steps. All variables are lost.",
                limit.as_secs()
            ),
            Some(Ended::Died(said)) => {
                format!("ERROR: the program ended the interpreter: {said}. All variables are lost.")
            }
        };
        Ok(format!("<observation>{result}</observation>"))
    }

    /// The start of an output that is too long, with a note before it.
    fn cut(&self, output: &str, dropped: u64) -> String {
        let most = self.config.output_chars;
        match output.char_indices().nth(most) {
            None if dropped == 0 => output.to_owned(),
            end => {
                let kept = end.map_or(output, |(at, _)| &output[..at]);
                format!("The output is too long. Its first {most} characters:\n{kept}")
            }
        }
    }
}
