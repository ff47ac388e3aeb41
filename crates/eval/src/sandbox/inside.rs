//! The launcher: a process between harness and interpreter that starts the interpreter without rights, watches over it, and takes
//! everything with it when it ends.
//!
//! With namespaces it is three processes: `outer` leaves the namespaces of the harness, `init` is the first of the new ones, which
//! no program can end and whose end the others do not outlive, and the interpreter. Without, `outer` keeps its rights,
//! so that it is not among those whom programs may end, and `inner` gives them up and becomes the interpreter.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, Signal, WaitOptions, kill_process, set_child_subreaper, set_parent_process_death_signal,
    setsid, wait,
};

use super::confine::confine;
use super::policy::{Isolation, Policy};
use super::{NO_NAMESPACES, namespace};

type Wrong = Box<dyn std::error::Error>;

/// How often the launcher looks at what its processes use. Without namespaces it has to look at everybody's.
const fn tick(isolation: Isolation) -> Timespec {
    Timespec {
        tv_sec: 0,
        tv_nsec: match isolation {
            Isolation::Namespaces => 50_000_000,
            Isolation::Kernel | Isolation::Off => 200_000_000,
        },
    }
}

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
    if policy.isolation != Isolation::Off {
        namespace::forget_descriptors()?;
    }
    match (stage, policy.isolation) {
        ("outer", Isolation::Namespaces) => {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            outer(&policy, text)
        }
        // It must outlive the harness, if only to end the others, and also where all processes of its name are asked to end.
        ("outer", _) => {
            namespace::may_be_asked_to_end(false);
            set_child_subreaper(Some(Pid::INIT))?;
            let inner = again("inner", text);
            let ended = supervise(&policy, inner);
            end_all();
            if let Some(folder) = &policy.folder {
                let _ = std::fs::remove_dir_all(folder);
            }
            ended
        }
        ("inner", isolation) => {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            namespace::may_be_asked_to_end(true);
            // Signals to its group must not reach the launcher.
            setsid()?;
            if isolation == Isolation::Kernel {
                confine(&policy)?;
            }
            let mut interpreter = interpreter(&policy)?;
            let error = interpreter.exec();
            Err(format!("cannot start {}: {error}", policy.command[0]).into())
        }
        ("init", _) => {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            namespace::own_proc(&policy);
            confine(&policy)?;
            // The first process of a namespace takes all others with it.
            supervise(&policy, interpreter(&policy)?)
        }
        (other, _) => Err(format!("unknown stage {other}").into()),
    }
}

/// This program in another stage.
fn again(stage: &str, text: &str) -> Command {
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    arguments.truncate(arguments.len().saturating_sub(2));
    let mut command = Command::new("/proc/self/exe");
    command.args(arguments).args([stage, text]);
    command
}

fn interpreter(policy: &Policy) -> Result<Command, Wrong> {
    let (program, arguments) = policy.command.split_first().ok_or("no interpreter")?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir(policy.work());
    Ok(command)
}

/// Leaves the namespaces, and waits for the first process of the new ones.
fn outer(policy: &Policy, text: &str) -> Result<u8, Wrong> {
    let left = namespace::leave().and_then(|()| namespace::mounts(policy));
    if let Err(error) = left {
        tell(&format!("namespaces are refused: {error}"));
        return Ok(NO_NAMESPACES);
    }
    // A process that changes its user forgets this.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut init = again("init", text).spawn()?;
    let code = init.wait()?.code();
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// Starts the interpreter, and stays until it ends, uses too much, or the harness goes away.
fn supervise(policy: &Policy, mut command: Command) -> Result<u8, Wrong> {
    let program = &policy.command[0];
    let child = command
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| format!("cannot start {program}: {error}"))?;
    let interpreter = i32::try_from(child.id())?;
    let tick = tick(policy.isolation);
    loop {
        let mut code = None;
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
        if let Some(code) = code {
            return Ok(code);
        }
        if let Some(excess) = excess(policy) {
            tell(&excess);
            return Ok(1);
        }
        if harness_is_gone(&tick) {
            return Ok(1);
        }
    }
}

/// Waits for a tick; true when nobody reads standard error any more.
fn harness_is_gone(tick: &Timespec) -> bool {
    let stderr = std::io::stderr();
    let mut watched = [PollFd::new(&stderr, PollFlags::empty())];
    let polled = poll(&mut watched, Some(tick));
    let gone = PollFlags::ERR | PollFlags::HUP;
    polled.is_ok_and(|count| count > 0) && watched[0].revents().intersects(gone)
}

/// What all processes together use too much of.
fn excess(policy: &Policy) -> Option<String> {
    let processes = descendants();
    let count = processes.len() as u64;
    if count > policy.caps.processes {
        let most = policy.caps.processes;
        return Some(format!("limit: {count} processes of {most}"));
    }
    let pages: u64 = processes.iter().filter_map(|pid| resident(*pid)).sum();
    let in_files: u64 = match policy.isolation {
        Isolation::Namespaces => PRIVATE.iter().map(|folder| held(folder)).sum(),
        Isolation::Kernel | Isolation::Off => 0,
    };
    let bytes = pages * rustix::param::page_size() as u64 + in_files;
    let most = policy.caps.memory;
    if bytes > most {
        let files = match in_files {
            0 => String::new(),
            bytes => format!(", {bytes} of them in files of /tmp and /dev/shm"),
        };
        return Some(format!("limit: {bytes} bytes of memory of {most}{files}"));
    }
    // A private folder has a limit of its own.
    let folder = policy.folder.as_ref()?;
    let (bytes, most) = (size(folder), policy.caps.disk);
    (bytes > most).then(|| format!("limit: {bytes} bytes in the working folder of {most}"))
}

/// The folders of a namespace that are kept in memory.
const PRIVATE: [&str; 2] = ["/tmp", "/dev/shm"];

/// Bytes that the files of a mount take.
fn held(mount: &str) -> u64 {
    rustix::fs::statvfs(mount).map_or(0, |about| {
        about.f_blocks.saturating_sub(about.f_bfree) * about.f_frsize
    })
}

/// Bytes of the files in a folder and those below it.
fn size(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let sizes = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let about = entry.metadata().ok()?;
        Some(if about.is_dir() {
            size(&entry.path())
        } else {
            about.len()
        })
    });
    sizes.sum()
}

/// Pages of a process in memory.
fn resident(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    text.split(' ').nth(1)?.parse().ok()
}

/// Children, their children, and so on: whoever loses its parent becomes a child of this process. By the numbers that `/proc` has
/// for them, which are others where it is not this namespace's own.
fn descendants() -> Vec<i32> {
    let number = |name: &std::ffi::OsStr| name.to_str()?.parse().ok();
    let me = std::fs::read_link("/proc/self").ok();
    let me: Option<i32> = me.and_then(|name| number(name.as_os_str()));
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let all = entries.filter_map(|entry| number(&entry.ok()?.file_name()));
    let parents: Vec<(i32, Option<i32>)> = all.map(|pid| (pid, parent(pid))).collect();
    let mut found: Vec<i32> = me.into_iter().collect();
    let mut next = 0;
    while next < found.len() {
        let pid = found[next];
        let children = parents.iter().filter(|(_, parent)| *parent == Some(pid));
        found.extend(children.map(|(child, _)| *child));
        next += 1;
    }
    found.split_off(1.min(found.len()))
}

/// The parent stands two fields after the name, which may hold anything between its brackets.
fn parent(pid: i32) -> Option<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// Kills until nobody is left, for a minute at most: in a sandbox that is off somebody may have rights of its own. As long as they
/// grow in number they are stopped first, since who is stopped starts nobody else.
fn end_all() {
    let mut known = 0;
    for _ in 0..6000 {
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        let all = descendants();
        if all.is_empty() {
            return;
        }
        let signal = if all.len() > known {
            Signal::STOP
        } else {
            Signal::KILL
        };
        known = all.len();
        for pid in all.into_iter().filter_map(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
        if signal == Signal::KILL {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
