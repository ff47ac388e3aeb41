//! Processes that serve while they are measured.

use crate::usage::cpu_seconds_of;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A router in Python takes this long to be there.
const PATIENCE: Duration = Duration::from_secs(90);

/// A process and where it listens; killed when it is dropped.
#[derive(Debug)]
pub(super) struct Server {
    /// As it is called in the samples.
    pub(super) name: &'static str,
    /// Of all its ports the first is asked.
    pub(super) ports: Vec<u16>,
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended by itself is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts what prints a JSON object when it listens, with its `ports` or its `url`.
    pub(super) fn announced(name: &'static str, command: &mut Command) -> Result<Self> {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let child = child.with_context(|| format!("cannot start {command:?}"))?;
        let mut server = Self {
            name,
            ports: Vec::new(),
            child,
        };
        let pipe = server.child.stdout.take().context("stdout is piped")?;
        let mut said = serde_json::Deserializer::from_reader(pipe).into_iter::<Value>();
        let said = said.next().and_then(Result::ok);
        let said = said.with_context(|| format!("{name} does not say where it listens"))?;
        server.ports = ports(&said);
        ensure!(!server.ports.is_empty(), "no port in {said}");
        Ok(server)
    }

    /// Starts what listens on the port that it was told, and says nothing that a program could read.
    pub(super) fn silent(
        name: &'static str,
        command: &mut Command,
        port: u16,
        log: &Path,
    ) -> Result<Self> {
        let file = fs::File::create(log)?;
        let child = command.stderr(file.try_clone()?).stdout(file).spawn();
        let child = child.with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self {
            name,
            ports: vec![port],
            child,
        })
    }

    /// `HOST:PORT`.
    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }

    pub(super) fn urls(&self) -> Vec<String> {
        let url = |port: &u16| format!("http://127.0.0.1:{port}");
        self.ports.iter().map(url).collect()
    }

    /// Waits until `ask` is content.
    pub(super) fn until(&mut self, mut ask: impl FnMut() -> Result<()>) -> Result<()> {
        let start = Instant::now();
        loop {
            let Err(error) = ask() else {
                return Ok(());
            };
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}", self.name);
            }
            if start.elapsed() > PATIENCE {
                return Err(error).with_context(|| format!("{} is not ready", self.name));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// CPU seconds up to now.
    pub(super) fn cpu_s(&self) -> Result<f64> {
        cpu_seconds_of(self.child.id()).with_context(|| format!("{} is gone", self.name))
    }

    /// What it keeps of memory now, and what it kept at most.
    pub(super) fn memory(&self) -> Result<Value> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        Ok(json!({
            "rss_mib": mib(&status, "VmRSS:"),
            "peak_rss_mib": mib(&status, "VmHWM:"),
        }))
    }
}

/// A port that was free a moment ago.
pub(super) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn ports(said: &Value) -> Vec<u16> {
    if let Some(url) = said["url"].as_str() {
        let port = url.rsplit(':').next().and_then(|port| port.parse().ok());
        return port.into_iter().collect();
    }
    let all = said["ports"].as_array().into_iter().flatten();
    all.filter_map(|port| u16::try_from(port.as_u64()?).ok())
        .collect()
}

fn mib(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_says_where_it_listens() {
        assert_eq!(ports(&json!({"url": "http://127.0.0.1:81"})), [81]);
        assert_eq!(ports(&json!({"ports": [1, 2]})), [1, 2]);
        assert!(ports(&json!({"port": 1})).is_empty());
    }

    #[test]
    fn memory_is_read_from_the_status() {
        assert_eq!(mib("VmHWM:\t    2048 kB\n", "VmHWM:"), Some(2.0));
        assert_eq!(mib("", "VmHWM:"), None);
    }
}
