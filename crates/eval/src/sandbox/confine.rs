//! What a process gives up, for itself and all its children, before it starts a program: files (Landlock), limits, system
//! calls (seccomp), capabilities.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

use super::policy::{Isolation, Policy};

type Wrong = Box<dyn std::error::Error>;

/// Folders of the system that may be read and executed. Of `/etc` only what programs need to start.
const SYSTEM: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/opt",
    "/etc/R",
    "/etc/alternatives",
    "/etc/bash.bashrc",
    "/etc/fonts",
    "/etc/group",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/profile",
    "/etc/protocols",
    "/etc/services",
    "/etc/timezone",
    "/sys/devices/system/cpu",
];

const DEVICES: &[&str] = &[
    "/dev/full",
    "/dev/null",
    "/dev/random",
    "/dev/urandom",
    "/dev/zero",
];

/// Gives up what the policy does not grant.
pub(super) fn confine(policy: &Policy) -> Result<(), Wrong> {
    limits(policy)?;
    files(policy)?;
    let none = CapabilitySet::empty();
    set_capabilities(
        None,
        CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )?;
    system_calls()
}

fn limits(policy: &Policy) -> Result<(), Wrong> {
    let caps = policy.caps;
    let limits = [
        (Resource::As, caps.memory),
        (Resource::Nproc, caps.processes + others(policy)),
        (Resource::Fsize, caps.file),
        (Resource::Cpu, caps.cpu_seconds),
        (Resource::Nofile, 1024),
        (Resource::Core, 0),
    ];
    for (resource, most) in limits {
        let known = rustix::process::getrlimit(resource);
        let most = known.maximum.map_or(most, |known| known.min(most));
        setrlimit(
            resource,
            Rlimit {
                current: Some(most),
                maximum: Some(most),
            },
        )?;
    }
    Ok(())
}

/// Outside a namespace of users the limit counts all processes of the user, of which others may have many.
fn others(policy: &Policy) -> u64 {
    if policy.isolation == Isolation::Namespaces {
        return 0;
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let tasks = load
        .split(' ')
        .nth(3)
        .and_then(|tasks| tasks.split('/').nth(1));
    tasks.and_then(|total| total.parse().ok()).unwrap_or(4096)
}

fn files(policy: &Policy) -> Result<(), Wrong> {
    let abi = ABI::V6;
    let there = |path: &PathBuf| path.exists();
    let system = SYSTEM.iter().map(PathBuf::from);
    let readable = system.chain(policy.readable.iter().cloned()).filter(there);
    let devices = DEVICES.iter().map(PathBuf::from).filter(there);
    let mut writable = vec![policy.work()];
    if policy.isolation == Isolation::Namespaces {
        // Both are private there.
        writable.extend([PathBuf::from("/tmp"), PathBuf::from("/dev/shm")]);
    }
    let execute = AccessFs::from_read(abi);
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .add_rules(path_beneath_rules(readable, execute))?
        .add_rules(path_beneath_rules(
            [Path::new("/proc")],
            AccessFs::ReadFile | AccessFs::ReadDir,
        ))?
        .add_rules(path_beneath_rules(
            devices,
            AccessFs::ReadFile | AccessFs::WriteFile,
        ))?
        .add_rules(path_beneath_rules(
            writable.into_iter().filter(there),
            AccessFs::from_all(abi),
        ))?
        .restrict_self()?;
    if status.ruleset == RulesetStatus::NotEnforced {
        return Err("this kernel has no Landlock".into());
    }
    Ok(())
}

/// System calls that are refused as if the caller had no right to them.
const REFUSED: &[libc::c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mknodat,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

fn system_calls() -> Result<(), Wrong> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in REFUSED {
        rules.insert(*call, Vec::new());
    }
    // Sockets of this machine's own kind are harmless, and Python's libraries need them.
    let own = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Ne,
        libc::AF_UNIX as u64,
    )?;
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(vec![own])?]);
    rules.insert(libc::SYS_clone, new_namespaces()?);
    apply_filter(&program(rules, libc::EPERM as u32)?)?;
    // Its flags lie in memory, where no filter sees them; libraries then use the older call.
    let rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    apply_filter(&program(rules, libc::ENOSYS as u32)?)?;
    Ok(())
}

/// A rule for each kind of namespace.
fn new_namespaces() -> Result<Vec<SeccompRule>, Wrong> {
    let flags = [
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWNS,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWUTS,
    ];
    let mut rules = Vec::new();
    for flag in flags {
        let flag = flag as u32 as u64;
        let set = SeccompCmpOp::MaskedEq(flag);
        let condition = SeccompCondition::new(0, SeccompCmpArgLen::Dword, set, flag)?;
        rules.push(SeccompRule::new(vec![condition])?);
    }
    Ok(rules)
}

fn program(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: u32) -> Result<BpfProgram, Wrong> {
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(errno),
        std::env::consts::ARCH.try_into()?,
    )?;
    Ok(filter.try_into()?)
}
