//! Namespaces of one's own: users, processes, mounts, network, and what else a program could reach others by; and what a
//! launcher leaves behind when it starts.
#![expect(
    unsafe_code,
    reason = "unshare may leave a process without what its other threads count on, and some calls have no safe wrapper"
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

/// Descriptors that whoever started the harness has left open are not for programs: each would be a way out.
pub(super) fn forget_descriptors() -> Result<(), Wrong> {
    // SAFETY: the descriptors stay open here, they only end with the next exec.
    let closed = unsafe { libc::close_range(3, libc::c_uint::MAX, CLOSE_ON_EXEC) };
    if closed != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(())
}

/// Whether this process may be asked to end. Children begin as their parent is.
pub(super) fn may_be_asked_to_end(may: bool) {
    let how = if may {
        libc::SIG_UNBLOCK
    } else {
        libc::SIG_BLOCK
    };
    // SAFETY: a set of signals is plain numbers, and is emptied before it is used.
    unsafe {
        let mut signals = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut signals);
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM] {
            libc::sigaddset(&raw mut signals, signal);
        }
        libc::sigprocmask(how, &raw const signals, std::ptr::null_mut());
    }
}

const CLOSE_ON_EXEC: libc::c_int = libc::CLOSE_RANGE_CLOEXEC as libc::c_int;

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

/// Nothing can be written but a private `/tmp`, with the working folder, and a private `/dev/shm`, which have limits. What may be
/// read and lies in `/tmp` is there again.
pub(super) fn mounts(policy: &Policy) -> Result<(), Wrong> {
    let all = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    mount_change("/", all)?;
    let hidden = policy
        .readable
        .iter()
        .filter(|path| path.starts_with("/tmp"));
    let hidden = hidden.map(|path| Ok((path.clone(), reference(path)?)));
    let hidden: Vec<(PathBuf, OwnedFd)> = hidden.collect::<Result<_, Wrong>>()?;
    // Landlock does not govern rights, times and owners of files.
    read_only()?;
    private("/tmp", policy.caps.private_folder())?;
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
        private("/dev/shm", policy.caps.shared_memory())?;
    }
    Ok(())
}

/// Holds on to a path that will be covered.
fn reference(path: &Path) -> rustix::io::Result<OwnedFd> {
    openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

/// All mounts that are there.
fn read_only() -> Result<(), Wrong> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: path and attributes live until the call returns, and their size is given.
    let set = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            c"/".as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if set == 0 {
        return Ok(());
    }
    Err(std::io::Error::last_os_error().into())
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
        // Before Linux 6.14 there is one for the whole system, which this process may not write. Numbers up to 300 are given once
        // only, and one is this process's own.
        let most = policy.caps.processes + 302;
        let _ = std::fs::write("/proc/sys/kernel/pid_max", most.to_string());
    }
}
