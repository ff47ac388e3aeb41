//! Programs that want out of the sandbox, and what each of them gets.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use xgraft_eval::sandbox::{Caps, Ended, Isolation, Language, Launcher, Python, Ran};

use crate::host::Host;
use crate::runtime;

/// What a program may get.
pub(crate) enum Gets {
    /// Output with one of these in it.
    Words(&'static [&'static str]),
    /// Its end.
    End,
    /// Its end, or output with one of these in it.
    EndOr(&'static [&'static str]),
}

pub(crate) struct Program {
    name: &'static str,
    code: String,
    gets: Gets,
}

const DENIED: &[&str] = &["Permission denied", "No such file"];
const NOT_WRITTEN: &[&str] = &["Permission denied", "No such file", "Read-only file system"];
pub(crate) const NOT_PERMITTED: &[&str] = &["Operation not permitted"];
pub(crate) const NOT_REACHED: &[&str] = &["Operation not permitted", "No such process"];

pub(crate) fn launcher(isolation: Isolation) -> Launcher {
    Launcher {
        program: vec![
            env!("CARGO_BIN_EXE_xgraft-eval-test-program").into(),
            "__sandbox".into(),
        ],
        python: Python::find(Path::new("python3")).expect("these tests need a python3"),
        isolation,
        caps: Caps {
            memory: 1 << 30,
            processes: 40,
            file: 16 << 20,
            disk: 64 << 20,
            cpu_seconds: 60,
        },
        tools: Vec::new(),
        preload: Vec::new(),
        readable: Vec::new(),
        compat: false,
        keep_chars: 10_001,
    }
}

/// The launcher with namespaces, or the strictest that this machine grants; what is then not checked is said.
pub(crate) fn granted(launcher: Launcher, checks: &str) -> Launcher {
    let launcher = runtime().block_on(launcher.strictest()).unwrap();
    if launcher.isolation != Isolation::Namespaces {
        println!("this machine refuses namespaces; NOT CHECKED with them: {checks}");
    }
    launcher
}

pub(crate) fn program(name: &'static str, code: impl Into<String>, gets: Gets) -> Program {
    Program {
        name,
        code: code.into(),
        gets,
    }
}

fn programs(secret: &Path, port: u16, marker: &str) -> Vec<Program> {
    use Gets::{End, EndOr, Words};
    let secret = secret.display();
    let this = std::process::id();
    let call = |name: &str, arguments: &str| {
        format!(
            "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nr = libc.{name}({arguments})\nprint(r, os.strerror(ctypes.get_errno()))"
        )
    };
    vec![
        program(
            "fill the disk with one file",
            "with open('big', 'wb') as f:\n    while True: f.write(b'x' * 1000000)",
            EndOr(&["File too large"]),
        ),
        program(
            "fill the disk with many files",
            "import os\nfor i in range(1000):\n    with open(f'f{i}', 'wb') as f: f.write(b'x' * 8000000)",
            EndOr(&["No space left"]),
        ),
        program(
            "listen",
            "import socket\nsocket.create_server(('0.0.0.0', 0))\nprint('listens')",
            Words(NOT_PERMITTED),
        ),
        program(
            "connect",
            format!(
                "import socket\nsocket.create_connection(('127.0.0.1', {port}))\nprint('connected')"
            ),
            Words(NOT_PERMITTED),
        ),
        program("sleep for ever", "import time\ntime.sleep(1e6)", End),
        program(
            "read a secret file",
            format!("print(open('{secret}').read())"),
            Words(DENIED),
        ),
        program(
            "read ~/.ssh",
            "import os, pwd\nprint(os.listdir(pwd.getpwuid(0).pw_dir + '/.ssh'))",
            Words(DENIED),
        ),
        program(
            "read /etc/shadow",
            "print(open('/etc/shadow').read())",
            Words(DENIED),
        ),
        program(
            "read it through a link",
            "import os\nos.symlink('/etc/shadow', 'link')\nprint(open('link').read())",
            Words(DENIED),
        ),
        program(
            "write outside",
            format!("open('{secret}.new', 'w').write('x')"),
            Words(NOT_WRITTEN),
        ),
        program(
            "write into /usr",
            "open('/usr/lib/x', 'w').write('x')",
            Words(NOT_WRITTEN),
        ),
        program(
            "trace its parent",
            call("ptrace", "16, os.getppid(), 0, 0"),
            Words(NOT_PERMITTED),
        ),
        program(
            "read its parent's memory",
            "import os\nprint(len(open(f'/proc/{os.getppid()}/mem', 'rb').read(1)))",
            Words(&[
                "Permission denied",
                "Input/output",
                "No such file",
                "not permitted",
            ]),
        ),
        program(
            "read the harness's environment",
            format!("print(open('/proc/{this}/environ').read())"),
            Words(DENIED),
        ),
        program(
            "make a namespace",
            call("unshare", "0x10000000"),
            Words(NOT_PERMITTED),
        ),
        program(
            "mount",
            call("mount", "b'none', b'/tmp', b'tmpfs', 0, 0"),
            Words(NOT_PERMITTED),
        ),
        program(
            "allocate 100 GB",
            "x = bytearray(100 << 30)\nprint(len(x))",
            Words(&["Error"]),
        ),
        program(
            "print 1 GB",
            "for _ in range(1000): print('x' * 1000000)",
            Words(&["xxxx"]),
        ),
        program(
            "print 1 GB from a child",
            "import os\nos.system('head -c 1000000000 /dev/zero | tr \"\\\\0\" x')",
            EndOr(&["xxxx"]),
        ),
        program(
            "ignore SIGTERM",
            "import signal\nfor s in (1, 2, 15): signal.signal(s, signal.SIG_IGN)\nwhile True: pass",
            End,
        ),
        program(
            "become a daemon",
            format!(
                "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        os.execvp('sleep', ['sleep', '{marker}'])\n    os._exit(0)\nprint('left one behind')"
            ),
            Words(&["left one behind"]),
        ),
        program(
            "end its launcher",
            format!(
                "import os, subprocess\nsubprocess.Popen(['sleep', '{marker}'], start_new_session=True)\nos.kill(os.getppid(), 9)\nprint('sent')"
            ),
            EndOr(&["sent", "Operation not permitted"]),
        ),
        program(
            "answer for the driver",
            "import os\nfor fd in range(3, 20):\n    try: os.write(fd, b'\\x7f\\xff\\xff\\xff nonsense')\n    except OSError: pass",
            EndOr(&[""]),
        ),
        program(
            "end the interpreter",
            "import os\nos.kill(os.getpid(), 9)",
            End,
        ),
    ]
}

/// Those that would be heard outside if the sandbox failed; run only where a namespace of processes holds them.
fn loud() -> Vec<Program> {
    use Gets::EndOr;
    vec![
        program(
            "fork for ever",
            "import os\nwhile True: os.fork()",
            EndOr(&["Resource temporarily unavailable"]),
        ),
        program(
            "fork for ever in the shell",
            "import subprocess\nsubprocess.run(['bash', '-c', 'f() { f | f & }; f; sleep 100'])",
            EndOr(&["Resource temporarily unavailable", ""]),
        ),
        program(
            "kill everybody",
            "import os\nos.kill(-1, 9)\nprint('killed')",
            EndOr(&["killed", "No such process"]),
        ),
        program(
            "kill the first process",
            "import os\nos.kill(1, 9)\nprint('sent')",
            EndOr(&["sent", "Operation not permitted"]),
        ),
    ]
}

fn shown(ran: &Ran) -> String {
    let text = match &ran.ended {
        Some(Ended::Timeout) => "killed after its time".to_owned(),
        Some(Ended::Died(said)) => format!("ended: {said}"),
        None => ran.output.trim().to_owned(),
    };
    let short: String = text.chars().take(70).collect();
    let short = short.replace('\n', " ");
    if ran.dropped > 0 {
        return format!("{short} and {} characters more", ran.dropped);
    }
    short
}

fn holds(program: &Program, ran: &Ran) -> bool {
    let said =
        |words: &[&str]| ran.ended.is_none() && words.iter().any(|word| ran.output.contains(word));
    match program.gets {
        Gets::Words(words) => said(words),
        Gets::End => ran.ended.is_some(),
        Gets::EndOr(words) => ran.ended.is_some() || said(words),
    }
}

fn is_running(marker: &str) -> bool {
    let listed = Command::new("ps").args(["-eo", "args"]).output().unwrap();
    String::from_utf8_lossy(&listed.stdout).contains(&format!("sleep {marker}"))
}

fn try_all(isolation: Isolation) {
    let launcher = launcher(isolation);
    let host = Host::start();
    let port = host.port();
    let marker = format!("8{}{}", std::process::id(), isolation as u8);
    let mut all = programs(&host.secret(), port, &marker);
    all.extend(host.programs());
    if isolation == Isolation::Namespaces {
        all.extend(loud());
        let names: Vec<&str> = all.iter().map(|program| program.name).collect();
        if granted(launcher.clone(), &names.join(", ")).isolation != isolation {
            return;
        }
    }
    let mut bad = Vec::new();
    runtime().block_on(async {
        for program in all {
            let mut interpreter = launcher.start().await.unwrap();
            let start = Instant::now();
            let limit = Duration::from_secs(4);
            let ran = interpreter
                .run(Language::Python, &program.code, limit)
                .await;
            let seconds = start.elapsed().as_secs_f64();
            interpreter.end().await;
            println!("{:<32} {seconds:5.2} s  {}", program.name, shown(&ran));
            if !holds(&program, &ran) || ran.output.contains("the secret") {
                bad.push((program.name, ran));
            }
        }
    });
    std::thread::sleep(Duration::from_millis(300));
    assert!(bad.is_empty(), "{bad:#?}");
    assert!(!is_running(&marker), "a daemon outlived its sandbox");
    assert_eq!(host.harm(), Vec::<&str>::new());
}

#[test]
#[ignore = "slow: starts Python in sandboxes"]
fn namespaces_hold_hostile_programs() {
    try_all(Isolation::Namespaces);
}

#[test]
#[ignore = "slow: starts Python in sandboxes"]
fn the_kernels_filters_alone_hold_hostile_programs() {
    try_all(Isolation::Kernel);
}

#[test]
#[ignore = "slow: starts Python in sandboxes"]
fn an_interpreter_keeps_variables_and_languages_share_the_folder() {
    let checks = "variables and languages of an interpreter";
    languages(&granted(launcher(Isolation::Namespaces), checks));
    languages(&launcher(Isolation::Kernel));
}

fn languages(launcher: &Launcher) {
    runtime().block_on(async {
        let mut interpreter = launcher.start().await.unwrap();
        let limit = Duration::from_secs(10);
        let mut outputs = Vec::new();
        for (language, code) in [
            (Language::Python, "x = 41\nopen('note', 'w').write('hello')"),
            (Language::Python, "print(x + 1)"),
            (Language::Bash, "cat note"),
            (Language::Bash, "echo a >&2; false; echo b"),
            (Language::Python, "print('before')\n1 / 0"),
            (
                Language::Python,
                "import os; os.system('echo from a child')",
            ),
            (Language::Python, "print(sorted(os.environ))"),
            (
                Language::Python,
                "import shutil; print(shutil.copy2('note', 'other'))",
            ),
        ] {
            let ran = interpreter.run(language, code, limit).await;
            assert_eq!(ran.ended, None);
            outputs.push(ran.output);
        }
        assert_eq!(outputs[..3], ["", "42\n", "hello"]);
        assert_eq!(outputs[3], "Error running Bash script (exit code 1):\na\n");
        assert_eq!(outputs[4], "before\nError: division by zero");
        assert_eq!(outputs[5], "from a child\n");
        assert_eq!(outputs[7], "other\n");
        assert!(!outputs[6].contains("CARGO"), "{}", outputs[6]);
        interpreter.end().await;
    });
}
