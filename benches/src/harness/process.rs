//! A whole process and what it cost.

#![expect(
    unsafe_code,
    reason = "wait4, which tells a child's own CPU time and peak memory, has no safe wrapper"
)]

use anyhow::{Context, Result, bail};
use std::{
    io::Read,
    process::{Command, Stdio},
    time::Instant,
};

/// What a process cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// From start to end.
    pub wall_s: f64,
    /// User and system, all threads.
    pub cpu_s: f64,
    /// Largest resident set.
    pub peak_rss_mib: f64,
}

/// A process that ended well.
#[derive(Clone, Debug)]
pub struct Finished {
    /// What it cost.
    pub cost: Cost,
    /// What it printed.
    pub stdout: String,
}

/// Runs a command to its end.
///
/// # Errors
/// It cannot be started, or ends with anything but success.
pub fn measure(command: &mut Command) -> Result<Finished> {
    let shown = format!("{command:?}");
    let start = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = child.with_context(|| format!("cannot start {shown}"))?;
    let mut stdout = String::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_string(&mut stdout)?;
    }
    let (status, usage) = wait(child.id())?;
    let wall_s = start.elapsed().as_secs_f64();
    if status != 0 {
        bail!("status {status} from {shown}\n{stdout}");
    }
    let cost = Cost {
        wall_s,
        cpu_s: seconds(usage.ru_utime) + seconds(usage.ru_stime),
        peak_rss_mib: usage.ru_maxrss as f64 / 1024.0,
    };
    Ok(Finished { cost, stdout })
}

fn seconds(time: libc::timeval) -> f64 {
    time.tv_sec as f64 + 1e-6 * time.tv_usec as f64
}

/// Waits for the child, in place of `Child::wait`: its status, 0 for success, and its own usage.
fn wait(child: u32) -> Result<(i32, libc::rusage)> {
    let child = libc::pid_t::try_from(child)?;
    let mut status = 0;
    // SAFETY: plain numbers, for which all bits zero are a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to live values of the right types, and the child is ours and not yet waited for.
        let waited = unsafe { libc::wait4(child, &raw mut status, 0, &raw mut usage) };
        if waited == child {
            return Ok((status, usage));
        }
        let error = std::io::Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(error).context("cannot wait for the process");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_measured_and_its_output_kept() {
        let finished = measure(Command::new("echo").arg("hello")).expect("runs");
        assert_eq!(finished.stdout, "hello\n");
        assert!(finished.cost.wall_s > 0.0 && finished.cost.peak_rss_mib > 0.0);
    }

    #[test]
    fn a_failure_is_an_error() {
        assert!(measure(&mut Command::new("false")).is_err());
    }
}
