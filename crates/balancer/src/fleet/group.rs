//! Process groups, of which nobody is left when they are dropped.

use std::fs::File;
use std::io;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::process::{Child, Command};

use super::{Member, spawn};

/// For a group that was killed to be gone: 100 looks of this length.
const LOOK: Duration = Duration::from_millis(20);
const LOOKS: u32 = 100;

/// The groups of a fleet, so that all of them can be ended at once.
#[derive(Debug, Clone, Default)]
pub struct Groups(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    leaders: Vec<Pid>,
    /// No more are started.
    closed: bool,
}

/// The group of one server.
#[derive(Debug)]
pub(super) struct Group {
    leader: Pid,
    groups: Groups,
}

impl Groups {
    /// Kills everybody, at once, and lets nobody start any more. For any thread, such as one that has heard of a second
    /// Ctrl-C.
    pub fn kill_all(&self) {
        let mut known = self.locked();
        known.closed = true;
        for leader in &known.leaders {
            // It may have ended by itself.
            let _ = kill_process_group(*leader, Signal::KILL);
        }
    }

    /// In a process group of its own, so that a Ctrl-C at the terminal is for the fleet alone, and its own children end with
    /// it.
    pub(super) fn start(&self, member: &Member) -> io::Result<(Child, Group)> {
        let missing = || io::Error::new(io::ErrorKind::InvalidInput, "an empty command");
        let (program, args) = member.command.split_first().ok_or_else(missing)?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(&member.log)?;
        let mut command = Command::new(program);
        command.args(args);
        for name in &member.without_env {
            command.env_remove(name);
        }
        command
            .envs(member.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        let mut known = self.locked();
        if known.closed {
            return Err(io::Error::other("the fleet ends"));
        }
        let child = spawn::spawn(&mut command)?;
        let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let leader = id.ok_or_else(|| io::Error::other("a process without a number"))?;
        known.leaders.push(leader);
        let groups = self.clone();
        Ok((child, Group { leader, groups }))
    }

    /// Says whether it was known.
    fn forget(&self, leader: Pid) -> bool {
        let mut known = self.locked();
        let count = known.leaders.len();
        known.leaders.retain(|one| *one != leader);
        known.leaders.len() < count
    }

    fn locked(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Group {
    pub(super) fn ask_to_end(&self) {
        self.signal(Signal::TERM);
    }

    /// Kills whoever is left of it, and waits until they are gone. The number is not given to another process as long as
    /// somebody of the group is there.
    pub(super) async fn clear(&self) {
        self.signal(Signal::KILL);
        for _ in 0..LOOKS {
            if test_kill_process_group(self.leader).is_err() {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        self.groups.forget(self.leader);
    }

    fn signal(&self, signal: Signal) {
        // They may have ended by themselves.
        let _ = kill_process_group(self.leader, signal);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.groups.forget(self.leader) {
            self.signal(Signal::KILL);
        }
    }
}
