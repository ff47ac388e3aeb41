//! The launcher: a process between harness and interpreter that gives up its rights, starts the interpreter, watches over it, and
//! takes everything with it when it ends.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, Signal, WaitOptions, kill_process, set_child_subreaper, set_parent_process_death_signal,
    wait,
};

use super::confine::confine;
use super::policy::{Isolation, Policy};
use super::{NO_NAMESPACES, namespace};

type Wrong = Box<dyn std::error::Error>;

/// How often the launcher looks at what its processes use.
const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};

/// The launcher's whole life: a program that has [`super::Launcher`] start it calls this with the arguments it was given, before it
/// starts a thread, and ends with the result as its exit code.
#[must_use]
pub fn enter(arguments: &[OsString]) -> u8 {
    let ended = match arguments {
        [stage, policy] => live(&stage.to_string_lossy(), &policy.to_string_lossy()),
        _ => Err("expected a stage and a policy".into()),
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            tell(&error.to_string());
            1
        }
    }
}

/// Says something to the harness, which reads the launcher's standard error.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "sandbox: {text}");
}

fn live(stage: &str, text: &str) -> Result<u8, Wrong> {
    let policy: Policy = serde_json::from_str(text)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    match (stage, policy.isolation) {
        ("outer", Isolation::Namespaces) => outer(&policy, text),
        ("outer", isolation) => {
            set_child_subreaper(Some(Pid::INIT))?;
            if isolation == Isolation::Kernel {
                confine(&policy)?;
            }
            supervise(&policy)
        }
        ("init", _) => {
            namespace::own_proc(&policy);
            confine(&policy)?;
            supervise(&policy)
        }
        (other, _) => Err(format!("unknown stage {other}").into()),
    }
}

/// Leaves the namespaces, and waits for the first process of the new ones.
fn outer(policy: &Policy, text: &str) -> Result<u8, Wrong> {
    let left = namespace::leave().and_then(|()| namespace::mounts(policy));
    if let Err(error) = left {
        tell(&format!("namespaces are refused: {error}"));
        return Ok(NO_NAMESPACES);
    }
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    arguments.truncate(arguments.len().saturating_sub(2));
    let mut init = Command::new("/proc/self/exe")
        .args(arguments)
        .args(["init", text])
        .spawn()?;
    let code = init.wait()?.code();
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// Starts the interpreter, and stays until it ends, uses too much, or the harness goes away.
fn supervise(policy: &Policy) -> Result<u8, Wrong> {
    let (program, arguments) = policy.command.split_first().ok_or("no interpreter")?;
    let child = Command::new(program)
        .args(arguments)
        .current_dir(policy.work())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| format!("cannot start {program}: {error}"))?;
    let interpreter = i32::try_from(child.id())?;
    let alone = policy.isolation != Isolation::Namespaces;
    let mut code = None;
    while code.is_none() && !harness_is_gone() {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid.as_raw_pid() == interpreter {
                let killed = status.terminating_signal().map(|signal| {
                    tell(&format!("the interpreter was ended by signal {signal}"));
                    1
                });
                let exit = status.exit_status().or(killed).unwrap_or(1);
                code = Some(u8::try_from(exit).unwrap_or(1));
            }
        }
        if let Some(excess) = excess(policy, alone) {
            tell(&excess);
            break;
        }
    }
    if alone {
        end_all();
    }
    // The first process of a namespace takes all others with it.
    Ok(code.unwrap_or(1))
}

/// Waits for a tick; true when nobody reads standard error any more.
fn harness_is_gone() -> bool {
    let stderr = std::io::stderr();
    let mut watched = [PollFd::new(&stderr, PollFlags::empty())];
    let polled = poll(&mut watched, Some(&TICK));
    let gone = PollFlags::ERR | PollFlags::HUP;
    polled.is_ok_and(|count| count > 0) && watched[0].revents().intersects(gone)
}

/// What all processes together use too much of.
fn excess(policy: &Policy, alone: bool) -> Option<String> {
    let processes = if alone { descendants() } else { everybody() };
    let count = processes.len() as u64;
    if count > policy.caps.processes {
        let most = policy.caps.processes;
        return Some(format!("limit: {count} processes of {most}"));
    }
    let pages: u64 = processes.iter().filter_map(|pid| resident(*pid)).sum();
    let bytes = pages * rustix::param::page_size() as u64;
    (bytes > policy.caps.memory).then(|| {
        let most = policy.caps.memory;
        format!("limit: {bytes} bytes of memory of {most}")
    })
}

/// Pages of a process in memory.
fn resident(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    text.split(' ').nth(1)?.parse().ok()
}

/// The processes of this namespace, without this one.
fn everybody() -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid > 1).collect()
}

/// Children, their children, and so on: whoever loses its parent becomes a child of this process.
fn descendants() -> Vec<i32> {
    let mut all = vec![std::process::id() as i32];
    let mut next = 0;
    while next < all.len() {
        let pid = all[next];
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap_or_default();
        all.extend(
            children
                .split_whitespace()
                .filter_map(|pid| pid.parse::<i32>().ok()),
        );
        next += 1;
    }
    all.split_off(1)
}

/// Kills until nobody is left; who is born meanwhile is killed in the next round.
fn end_all() {
    for _ in 0..1000 {
        for pid in descendants() {
            if let Some(pid) = Pid::from_raw(pid) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        if descendants().is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
