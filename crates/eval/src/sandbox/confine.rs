//! What a process gives up, for itself and all its children, before it starts a program: files (Landlock), limits, system
//! calls (seccomp), capabilities.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, LandlockStatus, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter, sock_filter,
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
    let signals_are_held = files(policy)?;
    let none = CapabilitySet::empty();
    set_capabilities(
        None,
        CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )?;
    system_calls(policy.isolation, signals_are_held)
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

/// True if signals reach no further than files.
fn files(policy: &Policy) -> Result<bool, Wrong> {
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
    Ok(matches!(
        status.landlock,
        LandlockStatus::Available { effective_abi, .. } if effective_abi >= ABI::V6
    ))
}

/// System calls that are refused as if the caller had no right to them.
const REFUSED: &[libc::c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_settime,
    libc::SYS_connect,
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
    // What lies in such files is memory that nobody counts, as is that of System V.
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
    libc::SYS_mknodat,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    libc::SYS_msgctl,
    libc::SYS_msgget,
    libc::SYS_msgrcv,
    libc::SYS_msgsnd,
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
    libc::SYS_semctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_shmget,
    // Landlock does not govern whom a socket reaches by its path.
    libc::SYS_socket,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

/// Landlock does not govern what changes a file without opening it, and without namespaces all of the machine's are there.
const REFUSED_WITHOUT_MOUNTS: &[libc::c_long] = &[
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fremovexattr,
    libc::SYS_fsetxattr,
    libc::SYS_lremovexattr,
    libc::SYS_lsetxattr,
    libc::SYS_removexattr,
    libc::SYS_setxattr,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
];

/// As these, but nothing is done and no fault is given: every copy of a file by Python asks for them.
const IDLE_WITHOUT_MOUNTS: &[libc::c_long] = &[
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_utimensat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_futimesat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
];

/// What changes a process that is named by this argument, and not by 0, the caller's own name.
const OF_OTHERS: &[(libc::c_long, u8)] = &[
    (libc::SYS_ioprio_set, 1),
    (libc::SYS_migrate_pages, 0),
    (libc::SYS_move_pages, 0),
    (libc::SYS_prlimit64, 0),
    (libc::SYS_sched_setaffinity, 0),
    (libc::SYS_sched_setattr, 0),
    (libc::SYS_sched_setparam, 0),
    (libc::SYS_sched_setscheduler, 0),
    (libc::SYS_setpriority, 1),
];

const SIGNALS: &[libc::c_long] = &[
    libc::SYS_kill,
    libc::SYS_pidfd_send_signal,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_tgkill,
    libc::SYS_tkill,
];

fn system_calls(isolation: Isolation, signals_are_held: bool) -> Result<(), Wrong> {
    let alone = isolation != Isolation::Namespaces;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut refused = REFUSED.to_vec();
    if alone {
        refused.extend(REFUSED_WITHOUT_MOUNTS);
        for (call, place) in OF_OTHERS {
            let other =
                SeccompCondition::new(*place, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, 0)?;
            rules.insert(*call, vec![SeccompRule::new(vec![other])?]);
        }
    }
    if alone && !signals_are_held {
        refused.extend(SIGNALS);
    }
    rules.extend(refused.into_iter().map(|call| (call, Vec::new())));
    rules.insert(libc::SYS_socketpair, pairs_with_names()?);
    rules.insert(libc::SYS_clone, new_namespaces()?);
    if alone {
        let idle = IDLE_WITHOUT_MOUNTS.iter().map(|call| (*call, Vec::new()));
        apply_filter(&program(idle.collect(), 0)?)?;
    }
    apply_filter(&other_numbers())?;
    apply_filter(&program(rules, libc::EPERM as u32)?)?;
    // Its flags lie in memory, where no filter sees them; libraries then use the older call.
    let rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    apply_filter(&program(rules, libc::ENOSYS as u32)?)?;
    Ok(())
}

/// Pairs but those that stay with each other: one of datagrams can send to any path.
fn pairs_with_names() -> Result<Vec<SeccompRule>, Wrong> {
    const KINDS: u64 = 0xf;
    let strangers = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Ne,
        libc::AF_UNIX as u64,
    )?;
    let mut rules = vec![SeccompRule::new(vec![strangers])?];
    let connected = [libc::SOCK_STREAM as u64, libc::SOCK_SEQPACKET as u64];
    for kind in (0..=KINDS).filter(|kind| !connected.contains(kind)) {
        let of_kind = SeccompCmpOp::MaskedEq(KINDS);
        let condition = SeccompCondition::new(1, SeccompCmpArgLen::Dword, of_kind, kind)?;
        rules.push(SeccompRule::new(vec![condition])?);
    }
    Ok(rules)
}

/// On x86-64 most calls have a second number, of x32, which the other filters do not know.
fn other_numbers() -> BpfProgram {
    let instruction = |code: u32, jt, jf, k| sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let at_least = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    vec![
        instruction(load, 0, 0, 0),
        instruction(at_least, 0, 1, 1 << 30),
        instruction(libc::BPF_RET, 0, 0, refuse),
        instruction(libc::BPF_RET, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
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
