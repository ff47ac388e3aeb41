//! Our balancer and other people's, before the same backends.

use super::super::{
    Programs,
    server::{Server, free_port},
};
use anyhow::Result;
use std::{fs, path::PathBuf, process::Command};

/// As they are called in the samples.
pub(super) const XGRAFT: &str = "xgraft";
pub(in super::super) const HAPROXY: &str = "haproxy";
pub(super) const VLLM: &str = "vllm-router";
pub(super) const SGLANG: &str = "sglang-router";
/// No router: copies bytes.
pub(super) const RELAY: &str = "relay";

/// Ours, with its defaults.
pub(super) fn xgraft(programs: &Programs, name: &'static str, urls: &[String]) -> Result<Server> {
    let mut command = Command::new(programs.binary("xgraft"));
    command.args(["--json", "balance", "--port", "0"]);
    for url in urls {
        command.args(["--backend", url]);
    }
    Server::announced(name, &mut command)
}

/// A copy of bytes to the first backend.
pub(super) fn relay(programs: &Programs, backends: &Server) -> Result<Server> {
    let mut command = Command::new(programs.binary("traffic"));
    command.arg("relay").arg(backends.address());
    Server::announced(RELAY, &mut command)
}

/// Backends on so many ports of one process.
pub(super) fn backends(
    programs: &Programs,
    name: &'static str,
    count: usize,
    owner: &str,
) -> Result<Server> {
    let mut command = Command::new(programs.binary("traffic"));
    command.args(["backends", "--owner", owner]);
    command.arg(format!("--count={count}"));
    Server::announced(name, &mut command)
}

/// HAProxy as people use it, on one thread, if it is installed.
pub(super) fn haproxy(programs: &Programs, backends: &Server) -> Result<Option<Server>> {
    let Some(program) = haproxy_program() else {
        return Ok(None);
    };
    let port = free_port()?;
    let file = programs.scratch.join("haproxy.cfg");
    fs::write(&file, haproxy_config(port, &backends.ports))?;
    let log = programs.scratch.join("haproxy.log");
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(&file);
    Server::silent(HAPROXY, &mut command, port, &log).map(Some)
}

/// Where HAProxy is. Systems put it where only root looks.
pub(in super::super) fn haproxy_program() -> Option<PathBuf> {
    let runs = |program: &PathBuf| {
        let output = Command::new(program).arg("-v").output();
        output.is_ok_and(|output| output.status.success())
    };
    ["haproxy", "/usr/sbin/haproxy"]
        .map(PathBuf::from)
        .into_iter()
        .find(runs)
}

fn haproxy_config(port: u16, backends: &[u16]) -> String {
    let server = |(index, port): (usize, &u16)| {
        format!("  server s{index} 127.0.0.1:{port} check inter 2s\n")
    };
    let servers: String = backends.iter().enumerate().map(server).collect();
    format!(
        "global\n  maxconn 4000\n  nbthread 1\n\
         defaults\n  mode http\n  timeout client 60s\n  timeout server 60s\n  timeout connect 5s\n  option http-keep-alive\n  option http-no-delay\n\
         frontend f\n  bind 127.0.0.1:{port}\n  default_backend b\n\
         backend b\n  balance leastconn\n  option httpchk GET /health\n  http-reuse always\n{servers}"
    )
}

/// One of the routers in a Python package, if the Python is there.
pub(super) fn packaged(
    programs: &Programs,
    name: &'static str,
    module: &str,
    backends: &Server,
) -> Result<Option<Server>> {
    let Some(python) = &programs.routers else {
        return Ok(None);
    };
    let (port, metrics) = (free_port()?, free_port()?);
    let mut command = Command::new(python);
    command.args(["-m", module, "--worker-urls"]);
    command.args(backends.urls());
    command.args(["--policy", "power_of_two", "--host", "127.0.0.1"]);
    command.arg(format!("--port={port}"));
    command.arg(format!("--prometheus-port={metrics}"));
    command.args(["--log-level", "error"]);
    let log = programs.scratch.join(format!("{name}.log"));
    Server::silent(name, &mut command, port, &log).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn haproxy_has_every_backend() {
        let config = haproxy_config(80, &[81, 82]);
        assert!(config.contains("bind 127.0.0.1:80\n"), "{config}");
        assert_eq!(config.matches("  server s").count(), 2);
    }
}
