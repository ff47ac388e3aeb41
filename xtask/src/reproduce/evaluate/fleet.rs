//! Two servers of one model and the balancer before them.

use super::Serving;
use crate::workspace;
use anyhow::{Context, Result, bail, ensure};
use std::{
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

/// How long servers may load.
const PATIENCE: Duration = Duration::from_secs(120);
const SERVERS: usize = 2;

/// Running processes; ended when dropped.
#[derive(Debug)]
pub(crate) struct Fleet {
    serving: Serving,
    port: u16,
    child: Child,
}

impl Fleet {
    /// Starts the servers, and waits until the balancer knows what they serve.
    pub(crate) fn start(binary: &Path, serving: &Serving, folder: &Path) -> Result<Self> {
        let folder = workspace::root().join(folder).join("fleet");
        fs::create_dir_all(&folder)?;
        let file = folder.join(format!("{}.toml", serving.name));
        let ports = free_ports(1 + SERVERS)?;
        fs::write(&file, config(serving, &ports))
            .with_context(|| format!("cannot write {}", file.display()))?;
        let log = folder.join(format!("{}.log", serving.name));
        let output = fs::File::create(&log)?;
        let child = Command::new(binary)
            .arg("fleet")
            .arg(&file)
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start the fleet")?;
        let mut fleet = Self {
            serving: serving.clone(),
            port: ports[0],
            child,
        };
        fleet.wait(&log)?;
        Ok(fleet)
    }

    /// Whether it serves this.
    pub(crate) fn serves(&self, serving: &Serving) -> bool {
        self.serving == *serving
    }

    /// Where it is asked.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    /// Kills one of its servers as a machine that fails would.
    pub(crate) fn kill_a_server(&self) -> Result<u32> {
        let servers = children(self.child.id())?;
        let victim = *servers.first().context("the fleet has no server to kill")?;
        signal("KILL", victim)?;
        Ok(victim)
    }

    /// Writes into the folder of a run what its arm takes: the files of weights, and the memory of one server.
    pub(crate) fn write_cost(&self, arguments: &[String], run: &Path) -> Result<()> {
        let serving = &self.serving;
        let adapters = serving.adapters.iter();
        let adapter = adapters
            .filter(|(name, _)| arguments.contains(name))
            .map(|(_, dir)| dir);
        let mut stored = 0;
        for dir in adapter.chain([&serving.model]) {
            stored += weights(&workspace::root().join(dir))?;
        }
        let servers = children(self.child.id())?.into_iter();
        let cost = serde_json::json!({
            "stored_bytes": stored,
            "resident_bytes": servers.filter_map(resident).max(),
        });
        let file = run.join("served.json");
        fs::write(&file, format!("{cost:#}\n"))
            .with_context(|| format!("cannot write {}", file.display()))
    }

    fn wait(&mut self, log: &Path) -> Result<()> {
        let names = self.serving.adapters.iter().map(|(name, _)| name);
        let wanted: Vec<String> = names
            .chain([&self.serving.name])
            .map(|name| format!("\"{name}\""))
            .collect();
        let start = Instant::now();
        loop {
            let models = get(self.port, "/v1/models").unwrap_or_default();
            if wanted.iter().all(|name| models.contains(name)) {
                return Ok(());
            }
            let said = || fs::read_to_string(log).unwrap_or_default();
            if let Some(status) = self.child.try_wait()? {
                bail!("the fleet ended with {status}:\n{}", said());
            }
            ensure!(
                start.elapsed() < PATIENCE,
                "the servers of {} are not ready after {} s:\n{}",
                self.serving.name,
                PATIENCE.as_secs(),
                said()
            );
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // The fleet ends its servers before itself; nothing is left to do for one that has ended.
        let _ = signal("TERM", self.child.id());
        let _ = self.child.wait();
    }
}

/// Each server has one thread, so that two of them have two cores.
fn config(serving: &Serving, ports: &[u16]) -> String {
    let full = |dir: &PathBuf| workspace::root().join(dir).display().to_string();
    let adapters = serving.adapters.iter();
    let adapters: Vec<String> = adapters
        .map(|(name, dir)| format!("{name:?} = {:?}", full(dir)))
        .collect();
    let mut text = format!(
        "port = {}\nlogs = {:?}\n",
        ports[0],
        format!("logs-{}", serving.name)
    );
    for (at, port) in ports[1..].iter().enumerate() {
        let _ = write!(
            text,
            "\n[[server]]\nname = \"s{at}\"\nport = {port}\nmodel = {:?}\nadapters = {{{}}}\n\
             args = [\"--served-model-name\", {:?}, \"--threads\", \"1\", \"--max-logprobs\", \"-1\"]\n",
            full(&serving.model),
            adapters.join(", "),
            serving.name,
        );
    }
    text
}

/// Ports that were free a moment ago.
fn free_ports(count: usize) -> Result<Vec<u16>> {
    let listen = |_| TcpListener::bind("127.0.0.1:0");
    let listeners: Vec<TcpListener> = (0..count).map(listen).collect::<Result<_, _>>()?;
    let ports = listeners.iter().map(|l| Ok(l.local_addr()?.port()));
    ports.collect()
}

/// What a server answers, with its head.
fn get(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Bytes of a folder's files of weights.
fn weights(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|e| e == "safetensors") {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}

/// Bytes of a process's resident memory, mapped weights among them; none where the system does not say.
fn resident(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(1024 * kilobytes)
}

/// The processes whose parent this is, the oldest first.
fn children(parent: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(process) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process may end while it is looked at.
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // After the name, which may hold anything, come state and parent.
        let of = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1));
        if of.and_then(|of| of.parse().ok()) == Some(parent) {
            found.push(process);
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn signal(name: &str, process: u32) -> Result<()> {
    let status = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(process.to_string())
        .status()
        .context("cannot start `kill`")?;
    ensure!(status.success(), "cannot send {name} to process {process}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_servers_have_every_adapter() {
        let serving = Serving {
            model: "m".into(),
            name: "base".to_owned(),
            adapters: vec![("a".to_owned(), "x".into()), ("b".to_owned(), "y".into())],
        };
        let text = config(&serving, &[1, 2, 3]);
        assert!(text.starts_with("port = 1\n"), "{text}");
        for line in ["port = 2", "port = 3"] {
            assert_eq!(text.matches(line).count(), 1, "{text}");
        }
        assert_eq!(text.matches("\"a\" = ").count(), 2, "{text}");
        assert!(toml::from_str::<toml::Table>(&text).is_ok(), "{text}");
    }

    #[test]
    fn this_process_has_memory_and_weights_are_only_the_files_of_weights() {
        let bytes = resident(std::process::id()).expect("the system says");
        assert!(bytes > 100_000, "{bytes}");
        let base = workspace::root().join("fixtures/tiny-qwen3/base");
        let file = fs::metadata(base.join("model.safetensors")).expect("is there");
        assert_eq!(weights(&base).expect("lists"), file.len());
    }

    #[test]
    fn a_process_has_its_children() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("starts");
        let found = children(std::process::id()).expect("lists");
        child.kill().expect("is there");
        child.wait().expect("ends");
        assert!(found.contains(&child.id()), "{found:?}");
    }
}
