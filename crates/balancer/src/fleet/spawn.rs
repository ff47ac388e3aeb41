//! A process that is asked to end when the fleet is gone.
#![expect(
    unsafe_code,
    reason = "what a child does between fork and exec is given to it as a closure"
)]

use std::io;

use rustix::io::Errno;
use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};
use tokio::process::{Child, Command};

/// Starts it, and lets the system ask it to end (SIGTERM) when the thread that calls this ends: also when the fleet is killed.
pub(super) fn spawn(command: &mut Command) -> io::Result<Child> {
    let fleet = getpid();
    let before_exec = move || {
        set_parent_process_death_signal(Some(Signal::TERM))?;
        // The fleet may have ended before that.
        match getppid() == Some(fleet) {
            true => Ok(()),
            false => Err(io::Error::from(Errno::SRCH)),
        }
    };
    // SAFETY: between fork and exec the closure makes two system calls; it takes no lock, allocates nothing, and has no
    // memory that the other threads of the parent could have left half written.
    unsafe { command.pre_exec(before_exec) };
    command.spawn()
}
