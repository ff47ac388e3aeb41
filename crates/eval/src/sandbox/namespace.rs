//! Namespaces of one's own: users, processes, mounts, network, and what else a program could reach others by.
#![expect(
    unsafe_code,
    reason = "unshare may leave a process without what its other threads count on"
)]

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind_recursive, mount_change, mount_remount,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::policy::{Policy, WORK};

type Wrong = Box<dyn std::error::Error>;

/// Leaves the namespaces of the harness. The next child is the first process of its own.
pub(super) fn leave() -> Result<(), Wrong> {
    let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
    let flags = UnshareFlags::NEWUSER
        | UnshareFlags::NEWNS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWCGROUP;
    // SAFETY: the flags have neither FILES nor FS, so nothing is taken from descriptors or folders that are in use; the
    // launcher has one thread, as a namespace of users demands.
    unsafe { unshare_unsafe(flags) }?;
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("0 {} 1", user.as_raw()))?;
    std::fs::write("/proc/self/gid_map", format!("0 {} 1", group.as_raw()))?;
    Ok(())
}

/// A private `/tmp`, with the working folder and a limit, and a private `/dev/shm`. What may be read and lies in `/tmp`
/// is there again, read-only.
pub(super) fn mounts(policy: &Policy) -> Result<(), Wrong> {
    let all = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    mount_change("/", all)?;
    let hidden = policy
        .readable
        .iter()
        .filter(|path| path.starts_with("/tmp"));
    let hidden = hidden.map(|path| Ok((path.clone(), reference(path)?)));
    let hidden: Vec<(PathBuf, OwnedFd)> = hidden.collect::<Result<_, Wrong>>()?;
    private("/tmp", policy.caps.disk)?;
    std::fs::create_dir(WORK)?;
    for (path, descriptor) in hidden {
        let source = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
        if std::fs::metadata(&source)?.is_dir() {
            std::fs::create_dir_all(&path)?;
        } else {
            std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/tmp")))?;
            File::create(&path)?;
        }
        mount_bind_recursive(source.as_str(), &path)?;
        // Landlock grants all of this `/tmp`, so the mount itself must refuse.
        let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
        mount_remount(&path, flags, c"")?;
    }
    if Path::new("/dev/shm").is_dir() {
        private("/dev/shm", policy.caps.disk.min(256 << 20))?;
    }
    Ok(())
}

/// Holds on to a path that will be covered.
fn reference(path: &Path) -> rustix::io::Result<OwnedFd> {
    openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

fn private(target: &str, bytes: u64) -> Result<(), Wrong> {
    let options = CString::new(format!("size={bytes},nr_inodes=65536,mode=700"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", target, "tmpfs", flags, Some(options.as_c_str()))?;
    Ok(())
}

/// The processes of this namespace in `/proc`, and no more of them than the policy grants. Where the system refuses either, limits
/// and Landlock still hold.
pub(super) fn own_proc(policy: &Policy) {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if mount("proc", "/proc", "proc", flags, None).is_ok() {
        // Before Linux 6.14 there is one for the whole system, which this process may not write.
        let most = policy.caps.processes.max(400);
        let _ = std::fs::write("/proc/sys/kernel/pid_max", most.to_string());
    }
}
