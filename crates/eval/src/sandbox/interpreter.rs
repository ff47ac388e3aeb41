//! The harness's side: starting an interpreter, sending it programs, ending it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::policy::Policy;
use super::{Caps, Isolation, NO_NAMESPACES, Python, SandboxError};

const DRIVER: &str = include_str!("driver.py");

/// The longest frame that is taken from an interpreter, which may say anything.
const MOST_BYTES: usize = 64 << 20;

/// What is said of an interpreter that is there and says what nobody can read.
const NONSENSE: &str = "it answered nonsense";

/// How long an interpreter may take to start.
const START: Duration = Duration::from_secs(60);

/// How to start interpreters.
#[derive(Clone, Debug)]
pub struct Launcher {
    /// The program that calls [`super::enter`], and the arguments before those of the launcher.
    pub program: Vec<OsString>,
    /// The interpreter.
    pub python: Python,
    /// How programs are kept in.
    pub isolation: Isolation,
    /// How much they may use.
    pub caps: Caps,
    /// Folders of tools, whose modules can be imported.
    pub tools: Vec<PathBuf>,
    /// Python files that are run first, in the space of the programs.
    pub preload: Vec<PathBuf>,
    /// What else may be read: data.
    pub readable: Vec<PathBuf>,
    /// The published harness's own ways with output and errors.
    pub compat: bool,
    /// Characters of output that are kept.
    pub keep_chars: usize,
}

/// What a program is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Run in the interpreter itself, which keeps what it leaves behind.
    Python,
    /// Run by `Rscript`.
    R,
    /// Run by the shell, which stops at the first command that fails.
    Bash,
}

/// What became of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// What it wrote, from its start.
    pub output: String,
    /// Characters that were not kept.
    pub dropped: u64,
    /// Why the interpreter is no more; none if it is.
    pub ended: Option<Ended>,
}

/// Why an interpreter is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The program's time was over, and it was killed.
    Timeout,
    /// The program ended it, or used too much; the launcher's words.
    Died(String),
}

/// An interpreter that runs. Dropping it ends everything that its programs have started.
#[derive(Debug)]
pub struct Interpreter {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    said: Arc<Mutex<String>>,
    listener: JoinHandle<()>,
    isolation: Isolation,
    folder: Option<TempDir>,
}

#[derive(Deserialize)]
struct Answer {
    output: String,
    dropped: u64,
}

impl Launcher {
    /// Starts an interpreter, and waits until it is ready.
    ///
    /// # Errors
    /// The launcher or the interpreter does not start.
    pub async fn start(&self) -> Result<Interpreter, SandboxError> {
        let folder = self.folder()?;
        let policy = self.policy(folder.as_ref());
        let text = serde_json::to_string(&policy).map_err(|error| SandboxError::Start {
            said: error.to_string(),
        })?;
        let (program, arguments) =
            self.program
                .split_first()
                .ok_or_else(|| SandboxError::Start {
                    said: "no launcher is named".to_owned(),
                })?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .args(["outer", &text])
            .env_clear()
            .envs(self.environment(&policy))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            // Without namespaces the launcher must live to end the others; it sees that its listener is gone, and that is
            // how it learns of a harness that was killed.
            .kill_on_drop(self.isolation == Isolation::Namespaces);
        let mut child = command.spawn().map_err(|source| SandboxError::Io {
            action: "start",
            path: program.into(),
            source,
        })?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(output), Some(errors)) = pipes else {
            return Err(SandboxError::Start {
                said: "there are no pipes".to_owned(),
            });
        };
        let said = Arc::default();
        let listener = tokio::spawn(listen(errors, Arc::clone(&said)));
        let mut interpreter = Interpreter {
            child,
            input,
            output,
            said,
            listener,
            isolation: self.isolation,
            folder,
        };
        match tokio::time::timeout(START, interpreter.frame()).await {
            Ok(Some(_)) => Ok(interpreter),
            Ok(None) => Err(SandboxError::Start {
                said: interpreter.last_words().await,
            }),
            Err(_) => Err(SandboxError::Start {
                said: format!("it was not ready after {} s", START.as_secs()),
            }),
        }
    }

    /// The strictest isolation that this system grants: namespaces, or else Landlock and seccomp alone.
    ///
    /// # Errors
    /// Neither can be had, or the interpreter does not start.
    pub async fn strictest(mut self) -> Result<Self, SandboxError> {
        self.isolation = Isolation::Namespaces;
        match self.start().await {
            Ok(interpreter) => interpreter.end().await,
            Err(SandboxError::Start { said }) if said.contains(&refusal()) => {
                self.isolation = Isolation::Kernel;
                self.start().await?.end().await;
            }
            Err(error) => return Err(error),
        }
        Ok(self)
    }

    fn folder(&self) -> Result<Option<TempDir>, SandboxError> {
        if self.isolation == Isolation::Namespaces {
            return Ok(None);
        }
        let made = tempfile::Builder::new().prefix("xgraft-").tempdir();
        made.map(Some).map_err(|source| SandboxError::Io {
            action: "create a folder in",
            path: std::env::temp_dir(),
            source,
        })
    }

    fn policy(&self, folder: Option<&TempDir>) -> Policy {
        let config = json!({
            "keep_chars": self.keep_chars,
            "compat": self.compat,
            "tools": self.tools,
            "preload": self.preload,
        });
        let python = self.python.program.display().to_string();
        let given = [&self.tools, &self.preload, &self.readable];
        let mut readable = self.python.folders.clone();
        readable.extend(given.into_iter().flatten().cloned());
        Policy {
            isolation: self.isolation,
            caps: self.caps,
            command: vec![
                python,
                "-c".to_owned(),
                DRIVER.to_owned(),
                config.to_string(),
            ],
            readable,
            folder: folder.map(|folder| folder.path().to_owned()),
        }
    }

    /// All that a program sees of the environment: no key of the harness is in it.
    fn environment(&self, policy: &Policy) -> Vec<(&'static str, OsString)> {
        let work = policy.work().into_os_string();
        let mut path = OsString::new();
        if let Some(folder) = self.python.program.parent() {
            path.push(folder);
            path.push(":");
        }
        path.push("/usr/local/bin:/usr/bin:/bin");
        let temporary = match self.isolation {
            Isolation::Namespaces => "/tmp".into(),
            Isolation::Kernel | Isolation::Off => work.clone(),
        };
        vec![
            ("HOME", work),
            ("LANG", "C.UTF-8".into()),
            ("MPLBACKEND", "Agg".into()),
            ("OMP_NUM_THREADS", "1".into()),
            ("OPENBLAS_NUM_THREADS", "1".into()),
            ("PATH", path),
            ("PYTHONDONTWRITEBYTECODE", "1".into()),
            ("PYTHONHASHSEED", "0".into()),
            ("TMPDIR", temporary),
        ]
    }
}

/// How the words of a launcher end that may not have namespaces.
fn refusal() -> String {
    format!("exit status: {NO_NAMESPACES}")
}

/// Keeps the first words of the launcher, and reads on so that nobody waits.
async fn listen(mut errors: ChildStderr, said: Arc<Mutex<String>>) {
    const MOST: usize = 8 << 10;
    let mut block = [0; 4096];
    while let Ok(count) = errors.read(&mut block).await {
        if count == 0 {
            return;
        }
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() < MOST {
            said.push_str(&String::from_utf8_lossy(&block[..count]));
        }
    }
}

impl Interpreter {
    /// Runs a program. After a timeout or a death the interpreter is gone, with all that its programs left behind.
    pub async fn run(&mut self, language: Language, code: &str, limit: Duration) -> Ran {
        let language = match language {
            Language::Python => "python",
            Language::R => "r",
            Language::Bash => "bash",
        };
        let answer = self.request(language, code, limit).await;
        let answer = answer.map(|value| Answer::deserialize(value).ok());
        match answer {
            Ok(Some(answer)) => Ran {
                output: answer.output,
                dropped: answer.dropped,
                ended: None,
            },
            Ok(None) => self.gone(Ended::Died(NONSENSE.to_owned())).await,
            Err(ended) => self.gone(ended).await,
        }
    }

    /// The files of a folder that may describe tools.
    pub(crate) async fn modules(
        &mut self,
        folder: &Path,
        limit: Duration,
    ) -> Result<Vec<String>, Ended> {
        let listed = self.request("modules", folder, limit).await?;
        Vec::deserialize(listed).map_err(|error| Ended::Died(error.to_string()))
    }

    /// The tools of one of these files, as the driver describes them.
    pub(crate) async fn describe(
        &mut self,
        folder: &Path,
        file: &str,
        limit: Duration,
    ) -> Result<Value, Ended> {
        self.request("describe", (folder, file), limit).await
    }

    async fn request(
        &mut self,
        language: &str,
        code: impl Serialize,
        limit: Duration,
    ) -> Result<Value, Ended> {
        let body = json!({ "language": language, "code": code }).to_string();
        let work = async {
            let length = u32::try_from(body.len()).ok()?.to_be_bytes();
            self.input.write_all(&length).await.ok()?;
            self.input.write_all(body.as_bytes()).await.ok()?;
            self.frame().await
        };
        match tokio::time::timeout(limit, work).await {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(Ended::Died(self.last_words().await)),
            Err(_) => Err(Ended::Timeout),
        }
    }

    async fn gone(&mut self, ended: Ended) -> Ran {
        self.kill().await;
        Ran {
            output: String::new(),
            dropped: 0,
            ended: Some(ended),
        }
    }

    async fn frame(&mut self) -> Option<Value> {
        let mut length = [0; 4];
        self.output.read_exact(&mut length).await.ok()?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MOST_BYTES {
            return None;
        }
        let mut body = vec![0; length];
        self.output.read_exact(&mut body).await.ok()?;
        serde_json::from_slice(&body).ok()
    }

    /// What the launcher said before it ended, and how it ended.
    async fn last_words(&mut self) -> String {
        let patience = Duration::from_secs(2);
        let status = tokio::time::timeout(patience, self.child.wait()).await;
        if !self.listener.is_finished() {
            let _ = tokio::time::timeout(patience, &mut self.listener).await;
        }
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let said = said.trim().replace("sandbox: ", "");
        match status {
            Ok(Ok(status)) if said.is_empty() => status.to_string(),
            Ok(Ok(status)) => format!("{said} ({status})"),
            _ if said.is_empty() => NONSENSE.to_owned(),
            _ => said,
        }
    }

    /// Ends the interpreter and everything that its programs have started.
    pub async fn end(mut self) {
        self.kill().await;
    }

    async fn kill(&mut self) {
        // The launcher sees that nobody listens any more.
        self.listener.abort();
        if self.isolation == Isolation::Namespaces {
            let _ = self.child.kill().await;
        } else {
            // Who would kill it now would let its programs go.
            let _ = tokio::time::timeout(Duration::from_secs(20), self.child.wait()).await;
        }
        self.folder = None;
    }
}

impl Drop for Interpreter {
    fn drop(&mut self) {
        self.listener.abort();
    }
}
