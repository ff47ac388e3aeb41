//! Server processes that are kept alive, and ended together.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// The first pause before a process that ended is started again; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// One that ran so long is started again as if it had never ended.
const SETTLED: Duration = Duration::from_secs(60);

/// One server's process.
#[derive(Debug, Clone)]
pub struct Member {
    /// How people call it.
    pub name: String,
    /// The program and its arguments; at least the program.
    pub command: Vec<String>,
    /// Variables of its environment, beside the inherited ones.
    pub env: Vec<(String, String)>,
    /// Where its output goes; what is there stays.
    pub log: PathBuf,
    /// How long it has to end by itself when it is asked to.
    pub patience: Duration,
}

/// What happened to a member.
#[derive(Debug)]
#[non_exhaustive]
pub enum Change {
    /// It runs, under this number.
    Started(u32),
    /// It could not be started, and will be tried again after so long.
    NotStarted(io::Error, Duration),
    /// It ended, and will be started again after so long.
    Ended(ExitStatus, Duration),
    /// It was ended.
    Stopped,
}

/// Keeps a member alive until `stop` says true, and says what happens to it.
pub async fn supervise(
    member: &Member,
    mut stop: watch::Receiver<bool>,
    tell: impl Fn(&Member, Change),
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let started = Instant::now();
        match start(member) {
            Err(error) => tell(member, Change::NotStarted(error, pause)),
            Ok(mut child) => {
                tell(member, Change::Started(child.id().unwrap_or(0)));
                let ended = tokio::select! {
                    ended = child.wait() => ended,
                    () = asked(&mut stop) => {
                        end(&mut child, member.patience).await;
                        tell(member, Change::Stopped);
                        return;
                    }
                };
                if started.elapsed() > SETTLED {
                    pause = FIRST_PAUSE;
                }
                match ended {
                    Ok(status) => tell(member, Change::Ended(status, pause)),
                    Err(error) => tell(member, Change::NotStarted(error, pause)),
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = asked(&mut stop) => return,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Until it is to stop, or nobody is there to say so.
async fn asked(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// In a process group of its own, so that a Ctrl-C at the terminal is for the fleet alone, and its own children end with it.
fn start(member: &Member) -> io::Result<Child> {
    let missing = || io::Error::new(io::ErrorKind::InvalidInput, "an empty command");
    let (program, args) = member.command.split_first().ok_or_else(missing)?;
    let log = File::options()
        .create(true)
        .append(true)
        .open(&member.log)?;
    Command::new(program)
        .args(args)
        .envs(member.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Asks it to end, and ends it when it does not.
async fn end(child: &mut Child, patience: Duration) {
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let signal = |signal| {
        // It may have ended by itself.
        let _ = group.map(|group| kill_process_group(group, signal));
    };
    signal(Signal::TERM);
    if tokio::time::timeout(patience, child.wait()).await.is_err() {
        signal(Signal::KILL);
        let _ = child.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn shell(script: &str, log: PathBuf) -> Member {
        Member {
            name: "one".to_owned(),
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: vec![("WORD".to_owned(), "hello".to_owned())],
            log,
            patience: Duration::from_millis(300),
        }
    }

    /// Until so many changes, then it is stopped.
    async fn run(member: &Member, count: usize) -> Vec<String> {
        let (stop, stopped) = watch::channel(false);
        let seen = Mutex::new(Vec::new());
        supervise(member, stopped, |_, change| {
            let mut seen = seen.lock().unwrap();
            let text = format!("{change:?}");
            seen.push(text.split('(').next().unwrap().to_owned());
            if seen.len() == count {
                stop.send_replace(true);
            }
        })
        .await;
        seen.into_inner().unwrap()
    }

    #[tokio::test]
    async fn one_that_ends_is_started_again() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let member = shell("echo $WORD; exit 3", log.clone());
        let seen = run(&member, 3).await;
        assert_eq!(seen[..3], ["Started", "Ended", "Started"]);
        assert!(std::fs::read_to_string(log).unwrap().starts_with("hello\n"));
    }

    #[tokio::test]
    async fn one_that_does_not_listen_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let member = shell(
            "trap '' TERM; while :; do sleep 0.05; done",
            dir.path().join("log"),
        );
        let start = Instant::now();
        assert_eq!(run(&member, 1).await, ["Started", "Stopped"]);
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[tokio::test]
    async fn what_cannot_be_started_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut member = shell("", dir.path().join("log"));
        member.command = vec!["/nowhere/at/all".to_owned()];
        assert_eq!(run(&member, 2).await, ["NotStarted", "NotStarted"]);
    }
}
