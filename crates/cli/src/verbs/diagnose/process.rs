//! Which processes listen on a port, and what memory they take, as `/proc` says.

use std::collections::HashSet;

use serde::Serialize;

/// A process of a server.
#[derive(Debug, Serialize)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// The name of its program.
    pub(super) name: String,
    /// Memory that it takes now, and the most that it took, in KiB.
    pub(super) vm_rss_kib: u64,
    pub(super) vm_hwm_kib: u64,
}

/// Who listens on a port.
pub(super) fn of_port(port: u16) -> Option<Process> {
    listener(port).and_then(describe)
}

/// Who listens on a port, and everybody of its process group, which is a server's own in a fleet.
pub(super) fn group_of_port(port: u16) -> Vec<Process> {
    let Some(group) = listener(port).and_then(group_of) else {
        return Vec::new();
    };
    let mut all = pids();
    all.retain(|pid| group_of(*pid) == Some(group));
    all.into_iter().filter_map(describe).collect()
}

fn listener(port: u16) -> Option<u32> {
    let inodes = listeners(port);
    pids().into_iter().find(|pid| holds(*pid, &inodes))
}

/// The sockets that listen on a port, by the number of their inode.
fn listeners(port: u16) -> HashSet<String> {
    const LISTEN: &str = "0A";
    let of = |table: &str| fs_err::read_to_string(table).unwrap_or_default();
    let text = of("/proc/net/tcp") + &of("/proc/net/tcp6");
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, found) = fields.get(1)?.rsplit_once(':')?;
        let is_it = u16::from_str_radix(found, 16) == Ok(port) && *fields.get(3)? == LISTEN;
        is_it.then(|| format!("socket:[{}]", fields.get(9).copied().unwrap_or_default()))
    };
    text.lines().filter_map(inode).collect()
}

fn pids() -> Vec<u32> {
    let entries = fs_err::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut all: Vec<u32> = names.collect();
    all.sort_unstable();
    all
}

/// Whether a process has one of these sockets. Of other people's processes nothing is known.
fn holds(pid: u32, inodes: &HashSet<String>) -> bool {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd"));
    let mut files = files.into_iter().flatten().flatten();
    files.any(|file| {
        let link = std::fs::read_link(file.path()).unwrap_or_default();
        inodes.contains(&*link.to_string_lossy())
    })
}

/// The process group, the third field of `/proc/PID/stat` after the name.
fn group_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(2)?.parse().ok()
}

fn describe(pid: u32) -> Option<Process> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let of = |name: &str| {
        let mut lines = status.lines();
        lines.find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
    };
    let kib = |name| of(name)?.strip_suffix(" kB")?.parse().ok();
    Some(Process {
        pid,
        name: of("Name")?.to_owned(),
        vm_rss_kib: kib("VmRSS")?,
        vm_hwm_kib: kib("VmHWM")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_by_its_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let own = of_port(port).unwrap();
        assert_eq!(own.pid, std::process::id());
        assert!(own.vm_rss_kib > 100 && own.vm_hwm_kib >= own.vm_rss_kib / 2);
        assert!(group_of_port(port).iter().any(|one| one.pid == own.pid));
        drop(listener);
        assert!(of_port(port).is_none() && group_of_port(port).is_empty());
    }
}
