//! Server processes that are kept alive, and ended together.
//!
//! Each is the first of a process group, which is ended with it: a server that dies may leave workers that hold a GPU.

mod group;
mod spawn;

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use tokio::process::Child;
use tokio::sync::watch;

use self::group::Group;
pub use self::group::Groups;
use crate::config::BackendUrl;
use crate::health::{self, Ill, Question};

/// The first pause before a process that ended is started again; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// One that ran so long is started again as if it had never ended.
const SETTLED: Duration = Duration::from_secs(60);

/// How long one that hangs has to end by itself.
const HUNG_PATIENCE: Duration = Duration::from_secs(2);

/// Looks in a row that a server must have failed before it is called unwell.
const DOUBT: u32 = 2;

/// One server's process.
#[derive(Debug, Clone)]
pub struct Member {
    /// How people call it.
    pub name: String,
    /// The program and its arguments; at least the program.
    pub command: Vec<String>,
    /// Variables of its environment, beside the inherited ones.
    pub env: Vec<(String, String)>,
    /// Variables that it does not inherit.
    pub without_env: Vec<String>,
    /// Where its output goes; what is there stays.
    pub log: PathBuf,
    /// How long it has to end by itself when it is asked to.
    pub patience: Duration,
    /// How its health is asked for.
    pub probe: Probe,
}

/// How a server is asked about its health.
#[derive(Debug, Clone)]
pub struct Probe {
    /// The server.
    pub url: BackendUrl,
    /// What it is asked for.
    pub path: String,
    /// Between two looks.
    pub interval: Duration,
    /// For the answer.
    pub timeout: Duration,
    /// Failures in a row after which one that was well before is ended and started again; never, if 0.
    pub failures: u32,
}

/// What happened to a member.
#[derive(Debug)]
#[non_exhaustive]
pub enum Change {
    /// It runs, under this number.
    Started(u32),
    /// It could not be started, and will be tried again after so long.
    NotStarted(io::Error, Duration),
    /// It answers about its health.
    Well,
    /// It does not, any more.
    Unwell,
    /// It did not for too long, so it was ended, and will be started again after so long.
    Hung(Duration),
    /// It ended, and will be started again after so long.
    Ended(ExitStatus, Duration),
    /// It was ended.
    Stopped,
}

/// How a process came to its end.
enum End {
    Itself(io::Result<ExitStatus>),
    Hung,
    Asked,
}

/// Keeps a member alive until `stop` says true, and says what happens to it.
///
/// The servers are asked to end by the system itself when the thread ends that this is polled on, which is the last resort
/// when the fleet is killed. So that thread has to live as long as the process: the main thread with its own runtime does.
pub async fn supervise(
    member: &Member,
    groups: &Groups,
    mut stop: watch::Receiver<bool>,
    tell: impl Fn(&Member, Change),
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let started = Instant::now();
        let change = match groups.start(member) {
            Err(error) => Change::NotStarted(error, pause),
            Ok((mut child, group)) => {
                tell(member, Change::Started(child.id().unwrap_or(0)));
                let say = |change| tell(member, change);
                let end = tokio::select! {
                    ended = child.wait() => End::Itself(ended),
                    () = until_hung(&member.probe, say) => End::Hung,
                    () = asked(&mut stop) => End::Asked,
                };
                if started.elapsed() > SETTLED {
                    pause = FIRST_PAUSE;
                }
                match end {
                    End::Asked => {
                        end_all(&mut child, &group, member.patience).await;
                        tell(member, Change::Stopped);
                        return;
                    }
                    End::Hung => {
                        end_all(&mut child, &group, HUNG_PATIENCE).await;
                        Change::Hung(pause)
                    }
                    End::Itself(status) => {
                        group.clear().await;
                        match status {
                            Ok(status) => Change::Ended(status, pause),
                            Err(error) => Change::NotStarted(error, pause),
                        }
                    }
                }
            }
        };
        tell(member, change);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = asked(&mut stop) => {
                tell(member, Change::Stopped);
                return;
            }
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Until it is to stop, or nobody is there to say so.
async fn asked(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Looks at a server's health until it has failed too often after it was well. How long it takes to begin is its own affair.
async fn until_hung(probe: &Probe, say: impl Fn(Change)) {
    let (mut is_well, mut was_well, mut failures) = (false, false, 0_u32);
    loop {
        tokio::time::sleep(probe.interval).await;
        let question = Question {
            path: &probe.path,
            timeout: probe.timeout,
            ..Question::default()
        };
        match health::ask(&probe.url, question).await {
            Ok((status, _)) if status.is_success() => {
                if !is_well {
                    say(Change::Well);
                }
                (is_well, was_well, failures) = (true, true, 0);
            }
            Err(Ill::Local) => {}
            Ok(_) | Err(_) => failures = failures.saturating_add(1),
        }
        if is_well && failures >= DOUBT {
            say(Change::Unwell);
            is_well = false;
        }
        if was_well && probe.failures > 0 && failures >= probe.failures {
            return;
        }
    }
}

/// Asks a server and whatever it started to end, and ends them when they do not.
async fn end_all(child: &mut Child, group: &Group, patience: Duration) {
    group.ask_to_end();
    // Whatever comes of it, nobody of the group is left afterwards.
    let _ = tokio::time::timeout(patience, child.wait()).await;
    group.clear().await;
    let _ = child.wait().await;
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
            without_env: vec!["HOME".to_owned()],
            log,
            patience: Duration::from_millis(300),
            probe: Probe {
                url: BackendUrl::parse("http://127.0.0.1:9").unwrap(),
                path: "/health".to_owned(),
                // Health is for the tests of processes: no unit test opens a socket.
                interval: Duration::from_secs(3600),
                timeout: Duration::ZERO,
                failures: 0,
            },
        }
    }

    /// Until so many changes, then it is stopped.
    async fn run(member: &Member, count: usize) -> Vec<String> {
        let (stop, stopped) = watch::channel(false);
        let seen = Mutex::new(Vec::new());
        supervise(member, &Groups::default(), stopped, |_, change| {
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
        let member = shell("echo $WORD$HOME; exit 3", log.clone());
        let seen = run(&member, 3).await;
        assert_eq!(seen[..3], ["Started", "Ended", "Started"]);
        assert!(std::fs::read_to_string(log).unwrap().starts_with("hello\n"));
    }

    /// Whether a process is there and has not ended.
    fn lives(pid: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    }

    #[tokio::test]
    async fn what_a_dead_server_has_started_is_ended_before_it_is_started_again() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let member = shell("(trap '' TERM; sleep 1000) & echo $!; exit 3", log.clone());
        let (stop, stopped) = watch::channel(false);
        supervise(
            &member,
            &Groups::default(),
            stopped,
            |_, change| match change {
                Change::Ended(..) => {
                    let worker = std::fs::read_to_string(&log).unwrap();
                    assert!(!worker.is_empty() && !lives(&worker), "{worker}");
                    stop.send_replace(true);
                }
                other => assert!(matches!(other, Change::Started(_) | Change::Stopped)),
            },
        )
        .await;
    }

    #[tokio::test]
    async fn what_a_stopped_server_has_started_is_ended_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let script = "(trap '' TERM; sleep 1000) & echo $!; trap 'exit 0' TERM; while :; do sleep 0.05; done";
        let member = shell(script, log.clone());
        let (stop, stopped) = watch::channel(false);
        let groups = Groups::default();
        let supervised = supervise(&member, &groups, stopped, |_, _| {});
        let stops = async {
            while std::fs::read_to_string(&log).unwrap_or_default().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            stop.send_replace(true);
        };
        tokio::join!(supervised, stops);
        let worker = std::fs::read_to_string(&log).unwrap();
        assert!(!lives(&worker), "{worker}");
    }

    #[tokio::test]
    async fn all_groups_are_killed_at_once_and_none_is_started_then() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let member = shell("sleep 1000 & echo $!; trap '' TERM; wait", log.clone());
        let (_stop, stopped) = watch::channel(false);
        let groups = Groups::default();
        let seen = Mutex::new(Vec::new());
        let supervised = supervise(&member, &groups, stopped, |_, change| {
            seen.lock().unwrap().push(format!("{change:?}"));
        });
        let kills = async {
            while std::fs::read_to_string(&log).unwrap_or_default().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            groups.kill_all();
            while seen.lock().unwrap().len() < 3 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = supervised => {}
            () = kills => {}
        }
        let seen = seen.into_inner().unwrap();
        assert!(
            seen[1].starts_with("Ended") && seen[2].starts_with("NotStarted"),
            "{seen:?}"
        );
        assert!(!lives(&std::fs::read_to_string(&log).unwrap()));
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
        let seen = run(&member, 2).await;
        assert_eq!(seen, ["NotStarted", "NotStarted", "Stopped"]);
    }
}
