//! What programs that mean no harm get in the sandbox.

use std::time::Duration;

use xgraft_eval::sandbox::{Caps, Ended, Isolation, Language, Launcher};

use crate::hostile::{granted, launcher};
use crate::runtime;

/// What each of these programs prints, in an interpreter of their own, or why it ended.
fn outputs(launcher: &Launcher, programs: &[&str]) -> Vec<String> {
    runtime().block_on(async {
        let mut interpreter = launcher.start().await.unwrap();
        let mut outputs = Vec::new();
        for code in programs {
            let limit = Duration::from_secs(20);
            let ran = interpreter.run(Language::Python, code, limit).await;
            outputs.push(match ran.ended {
                Some(Ended::Died(said)) => format!("ended: {said}"),
                Some(Ended::Timeout) => "killed after its time".to_owned(),
                None => ran.output,
            });
        }
        interpreter.end().await;
        outputs
    })
}

#[test]
#[ignore = "slow: starts Python in sandboxes"]
fn files_in_memory_are_memory() {
    let mut launcher = launcher(Isolation::Namespaces);
    launcher.caps = Caps {
        memory: 256 << 20,
        disk: 4 << 30,
        file: 1 << 30,
        ..launcher.caps
    };
    let fill = "import os
written = 0
for folder in ('/tmp', '/dev/shm', '/tmp'):
    try:
        with open(f'{folder}/{written}', 'wb', buffering=0) as file:
            while True: written += file.write(b'x' * (1 << 20))
    except OSError as fault: print(fault)
print(written >> 20, 'MiB')";
    let launcher = granted(launcher, "that files in /tmp and /dev/shm are memory");
    if launcher.isolation != Isolation::Namespaces {
        return;
    }
    let outputs = outputs(&launcher, &[fill]);
    let written = outputs[0].lines().last().and_then(|line| {
        let count = line.strip_suffix(" MiB")?;
        count.parse::<u64>().ok()
    });
    println!("{outputs:?}");
    let within = written.is_some_and(|count| count <= 256 && outputs[0].contains("No space left"));
    assert!(
        within || outputs[0].starts_with("ended: limit: "),
        "{outputs:?}"
    );
}

#[test]
#[ignore = "slow: starts Python in sandboxes"]
fn all_that_python_can_print_is_an_output() {
    let programs = [
        r"print('a\ud800b\U0001f600')",
        r"import os; open(b'n\xff', 'w'); print([n for n in os.listdir() if n[0] == 'n'][0])",
        r"raise ValueError('\udfff')",
    ];
    for isolation in [Isolation::Namespaces, Isolation::Kernel] {
        let launcher = match isolation {
            Isolation::Namespaces => granted(launcher(isolation), "texts that are no UTF-8"),
            _ => launcher(isolation),
        };
        assert_eq!(
            outputs(&launcher, &programs),
            ["a\\ud800b\u{1f600}\n", "n\\udcff\n", "Error: \\udfff"]
        );
    }
}

#[test]
#[ignore = "slow: starts Python in sandboxes"]
fn an_exception_without_words_has_its_name() {
    let programs = [
        "raise MemoryError",
        "assert 1 == 2",
        "import asyncio\nraise asyncio.CancelledError",
        "class Mute(Exception):\n    def __str__(self): raise SystemExit\nraise Mute",
        "print('alive')",
    ];
    let launcher = granted(launcher(Isolation::Namespaces), "the names of exceptions");
    assert_eq!(
        outputs(&launcher, &programs),
        [
            "Error: MemoryError",
            "Error: AssertionError",
            "Error: CancelledError",
            "Error: Mute",
            "alive\n"
        ]
    );
}

#[test]
#[ignore = "slow: starts Python in sandboxes"]
fn what_programs_need_among_themselves_works() {
    let programs = [
        "import socket\na, b = socket.socketpair()\na.send(b'hello')\nprint(b.recv(9))",
        "import subprocess\np = subprocess.Popen(['sleep', '60'])\np.terminate()\nprint(p.wait())",
        "import asyncio\nasync def f():\n    p = await asyncio.create_subprocess_exec('echo', 'hello', stdout=-1)\n    return await p.communicate()\nprint(asyncio.run(f()))",
        "import multiprocessing\nwith multiprocessing.Pool(2) as pool: print(pool.map(abs, range(-1, 3)))",
        "from concurrent.futures import ProcessPoolExecutor\nwith ProcessPoolExecutor(2) as pool: print(list(pool.map(abs, [-1, 2])))",
        "import os, shutil\nopen('a', 'w').write('hello')\nos.chmod('a', 0o640)\nshutil.copy2('a', 'b')\nprint(oct(os.stat('b').st_mode))",
    ];
    let launcher = launcher(Isolation::Namespaces);
    let launcher = granted(launcher, "pairs of sockets, pools, rights of own files");
    if launcher.isolation != Isolation::Namespaces {
        return;
    }
    assert_eq!(
        outputs(&launcher, &programs),
        [
            "b'hello'\n",
            "-15\n",
            "(b'hello\\n', None)\n",
            "[1, 0, 1, 2]\n",
            "[1, 2]\n",
            "0o100640\n"
        ]
    );
}
