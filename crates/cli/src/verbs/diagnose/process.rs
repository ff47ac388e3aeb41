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

/// Who listens on a port; and where that one leads a process group, as the servers of a fleet do, all of the group.
pub(super) fn of_port(port: u16) -> Vec<Process> {
    let inodes = listeners(port);
    let all = pids();
    let Some(first) = all.iter().find(|pid| holds(**pid, &inodes)) else {
        return Vec::new();
    };
    // A group is led by the process that has its number; the listener may be one that the leader started.
    let group = group_of(*first).filter(|group| all.contains(group));
    let is_fleet = |leader: &u32| group_is_servers(*leader);
    match group.filter(is_fleet) {
        Some(group) => {
            let same = all.iter().filter(|pid| group_of(**pid) == Some(group));
            same.filter_map(|pid| describe(*pid)).collect()
        }
        None => describe(*first).into_iter().collect(),
    }
}

/// Whether a group was made for its leader alone: the leader's parent is of another one.
fn group_is_servers(leader: u32) -> bool {
    let parent = fields(leader).and_then(|fields| fields.get(1)?.parse().ok());
    let of_parent = parent.and_then(group_of);
    group_of(leader) == Some(leader) && of_parent != Some(leader)
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

/// What `/proc/PID/stat` has after the name: state, parent, group and more.
fn fields(pid: u32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    Some(rest.split(' ').map(str::to_owned).collect())
}

fn group_of(pid: u32) -> Option<u32> {
    fields(pid)?.get(2)?.parse().ok()
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
        let found = of_port(port);
        let own = found.iter().find(|one| one.pid == std::process::id());
        let own = own.unwrap_or_else(|| panic!("{found:?}"));
        assert!(own.vm_rss_kib > 100 && own.vm_hwm_kib >= own.vm_rss_kib / 2);
        drop(listener);
        assert!(of_port(port).is_empty());
    }
}
