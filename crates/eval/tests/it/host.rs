//! A machine around a sandbox, and programs that ask its services, or its other processes, for what they may not do themselves.

use std::fs::File;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};
use tempfile::TempDir;

use crate::hostile::{Gets, NOT_PERMITTED, NOT_REACHED, Program, program};

/// Without namespaces nothing is said; [`Host::harm`] looks whether anything was done.
const NOTHING_DONE: &[&str] = &["Read-only file system", "changed"];

/// Services and files of the machine, as a program could find them beside a harness.
pub(crate) struct Host {
    tcp: TcpListener,
    folder: TempDir,
    abstract_name: String,
    _services: (UnixListener, UnixDatagram, UnixListener),
    _left_open: File,
}

impl Host {
    /// Not in `/tmp`, which a sandbox may have for itself.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        std::fs::write(folder.path().join("secret"), "the secret").unwrap();
        let stream = UnixListener::bind(folder.path().join("stream")).unwrap();
        let datagram = UnixDatagram::bind(folder.path().join("datagram")).unwrap();
        let abstract_name = format!(
            "xgraft-test-{}-{}",
            std::process::id(),
            folder.path().display()
        );
        let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        let hidden = UnixListener::bind_addr(&address).unwrap();
        let left_open = File::open(folder.path().join("secret")).unwrap();
        fcntl_setfd(&left_open, FdFlags::empty()).unwrap();
        Self {
            tcp: TcpListener::bind("127.0.0.1:0").unwrap(),
            folder,
            abstract_name,
            _services: (stream, datagram, hidden),
            _left_open: left_open,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.tcp.local_addr().unwrap().port()
    }

    pub(crate) fn secret(&self) -> PathBuf {
        self.folder.path().join("secret")
    }

    pub(crate) fn programs(&self) -> Vec<Program> {
        use Gets::{EndOr, Words};
        let folder = self.folder.path().display();
        let name = &self.abstract_name;
        let this = std::process::id();
        let connect = |address: String| {
            format!(
                "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect({address})\nprint('connected')"
            )
        };
        let system = |number: libc::c_long, arguments: &str| {
            format!(
                "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nr = libc.syscall({number}, {arguments})\nprint(r, os.strerror(ctypes.get_errno()))"
            )
        };
        let mut all = vec![
            program(
                "reach a service by its path",
                connect(format!("'{folder}/stream'")),
                Words(NOT_PERMITTED),
            ),
            program(
                "reach a service by an abstract name",
                connect(format!("'\\0{name}'")),
                Words(NOT_PERMITTED),
            ),
            program(
                "send to a service from a pair",
                format!(
                    "import socket\na, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\na.sendto(b'x', '{folder}/datagram')\nprint('sent')"
                ),
                Words(NOT_PERMITTED),
            ),
            program(
                "send to a service from a raw pair",
                format!(
                    "import socket\na, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_RAW)\na.sendto(b'x', '{folder}/datagram')\nprint('sent')"
                ),
                Words(NOT_PERMITTED),
            ),
            program(
                "connect one of a pair",
                format!(
                    "import socket\na, b = socket.socketpair()\nb.close()\na.connect('{folder}/stream')\nprint('connected')"
                ),
                Words(NOT_PERMITTED),
            ),
            program(
                "use what was left open",
                "import os\nfor fd in range(3, 200):\n    try: print(os.pread(fd, 100, 0))\n    except OSError: pass\nprint('tried')",
                Words(&["tried"]),
            ),
            program(
                "change the rights of a file",
                format!("import os\nos.chmod('{folder}/secret', 0o777)\nprint('changed')"),
                Words(NOTHING_DONE),
            ),
            program(
                "change the times of a file",
                format!("import os\nos.utime('{folder}/secret', (1, 1))\nprint('changed')"),
                Words(NOTHING_DONE),
            ),
            program(
                "mark a file",
                format!(
                    "import os\nos.setxattr('{folder}/secret', 'user.x', b'x')\nprint('changed')"
                ),
                Words(&["Read-only file system", "Operation not permitted"]),
            ),
            program(
                "share memory of System V",
                system(libc::SYS_shmget, "0, 1 << 30, 0o1600"),
                Words(NOT_PERMITTED),
            ),
            program(
                "queue messages of System V",
                system(libc::SYS_msgget, "0, 0o1600"),
                Words(NOT_PERMITTED),
            ),
            program(
                "queue messages of POSIX",
                system(libc::SYS_mq_open, "b'x', 0o102, 0o600, None"),
                Words(NOT_PERMITTED),
            ),
            program(
                "hold memory in a file without a name",
                "import os\nprint(os.memfd_create('x'))",
                Words(NOT_PERMITTED),
            ),
            program(
                "read keys",
                system(libc::SYS_keyctl, "0, -3, 0"),
                Words(NOT_PERMITTED),
            ),
            program(
                "signal the harness",
                format!("import os\nos.kill({this}, 0)\nprint('sent')"),
                Words(NOT_REACHED),
            ),
            program(
                "limit the harness",
                format!("import resource\nprint(resource.prlimit({this}, resource.RLIMIT_NOFILE))"),
                Words(NOT_REACHED),
            ),
            program(
                "slow the harness down",
                format!("import os\nos.setpriority(os.PRIO_PROCESS, {this}, 1)\nprint('slowed')"),
                Words(NOT_REACHED),
            ),
            program(
                "fork two hundred and fifty",
                "import os\nfor _ in range(8): os.fork()\nwhile True: pass",
                EndOr(&["Resource temporarily unavailable"]),
            ),
        ];
        if cfg!(target_arch = "x86_64") {
            all.push(program(
                "open a socket by x32's number",
                system((1 << 30) + libc::SYS_socket, "1, 1, 0"),
                Words(NOT_PERMITTED),
            ));
        }
        all
    }

    /// What programs have done to it.
    pub(crate) fn harm(&self) -> Vec<&'static str> {
        let about = std::fs::metadata(self.secret()).unwrap();
        let old = about.modified().unwrap().elapsed().unwrap() > Duration::from_secs(86_400);
        let faults = [
            (
                "a file was written",
                self.secret().with_extension("new").exists(),
            ),
            (
                "rights were changed",
                about.permissions().mode() & 0o111 != 0,
            ),
            ("times were changed", old),
        ];
        let harmed = faults.into_iter().filter(|(_, is)| *is);
        harmed.map(|(what, _)| what).collect()
    }
}
