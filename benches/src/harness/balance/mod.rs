//! The balancer against HAProxy and two routers for language models, before backends that compute nothing.
//!
//! Clients, backends and whatever stands between them share the machine, as in every comparison of proxies on one. Every
//! round asks each of them in turn, so that what is compared is seconds apart. A copy of bytes without any HTTP runs along:
//! nothing between two sockets is cheaper.

mod lines;
pub(super) mod routers;

use super::{Programs, Table, rounds::Rounds, server::Server};
use anyhow::{Result, ensure};
use routers::{RELAY, SGLANG, VLLM, XGRAFT};
use serde_json::Value;
use std::process::Command;

/// With which the names of its groups begin.
const SUITE: &str = "balance";

/// No router at all.
const DIRECT: &str = "direct";

/// Ours before servers of ours, whose streams it could resume.
const RESUMABLE: &str = "xgraft-resumable";

const STREAMS: usize = 64;

/// Events of a stream; it lasts two seconds.
const EVENTS: usize = 100;

/// How many backends one balancer has, by turns.
const COUNTS: [(&str, usize); 4] = [("1", 1), ("4", 4), ("16", 16), ("64", 64)];

/// Bytes of a request, by turns.
const BODIES: [(&str, usize); 5] = [
    ("1k", 1 << 10),
    ("16k", 16 << 10),
    ("256k", 256 << 10),
    ("1m", 1 << 20),
    ("4m", 4 << 20),
];

/// Measures, and adds lines to the table.
///
/// # Errors
/// A program fails, or answers what nobody asked for.
pub fn run(programs: &mut Programs, table: &mut Table) -> Result<()> {
    against_others(programs)?;
    by_backends(programs)?;
    let rounds = Rounds {
        suite: SUITE,
        samples: &programs.samples,
    };
    lines::add(&rounds, table);
    Ok(())
}

fn against_others(programs: &mut Programs) -> Result<()> {
    let direct = routers::backends(programs, DIRECT, 4, "mock")?;
    let own = routers::backends(programs, DIRECT, 4, "xgraft")?;
    let mut others = vec![
        routers::relay(programs, &direct)?,
        routers::xgraft(programs, XGRAFT, &direct.urls())?,
    ];
    others.extend(routers::haproxy(programs, &direct)?);
    for (name, module) in [
        (VLLM, "vllm_router.launch_router"),
        (SGLANG, "sglang_router.launch_router"),
    ] {
        others.extend(routers::packaged(programs, name, module, &direct)?);
    }
    let mut resumable = routers::xgraft(programs, RESUMABLE, &own.urls())?;
    for server in others.iter_mut().chain([&mut resumable]) {
        await_answers(programs, server)?;
    }
    let everybody = || std::iter::once(&direct).chain(&others);
    for round in 0..programs.rounds() {
        for (group, connections) in [("c1", 1), ("c64", 64)] {
            for server in everybody() {
                Load::new(group, connections).run(programs, round, server)?;
            }
        }
        for server in everybody().chain([&resumable]) {
            let load = Load {
                events: EVENTS,
                ..Load::new("streams", STREAMS)
            };
            load.run(programs, round, server)?;
        }
        for (size, body) in BODIES {
            let group = format!("body-{size}");
            let copies = |server: &&Server| server.name != VLLM && server.name != SGLANG;
            for server in others.iter().filter(copies) {
                let load = Load {
                    body,
                    ..Load::new(&group, 4)
                };
                load.run(programs, round, server)?;
            }
        }
    }
    Ok(())
}

/// Ours before one backend and before many.
fn by_backends(programs: &mut Programs) -> Result<()> {
    let most = COUNTS
        .map(|(_, count)| count)
        .into_iter()
        .max()
        .unwrap_or(1);
    let all = routers::backends(programs, DIRECT, most, "mock")?;
    let urls = all.urls();
    let mut balancers = Vec::new();
    for (name, count) in COUNTS {
        let mut balancer = routers::xgraft(programs, name, &urls[..count])?;
        await_answers(programs, &mut balancer)?;
        balancers.push(balancer);
    }
    for round in 0..programs.rounds() {
        for balancer in &balancers {
            Load::new("backends", 64).run(programs, round, balancer)?;
        }
    }
    Ok(())
}

/// The first answer of each is looked at before anything is measured.
fn await_answers(programs: &Programs, server: &mut Server) -> Result<()> {
    let mut command = Command::new(programs.binary("traffic"));
    command.arg("load").arg(server.address());
    command.args(["--connections", "1", "--seconds", "0.01"]);
    server.until(|| {
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}", said.trim());
        Ok(())
    })
}

/// What clients ask of a server.
struct Load<'a> {
    group: &'a str,
    connections: usize,
    body: usize,
    events: usize,
}

impl<'a> Load<'a> {
    fn new(group: &'a str, connections: usize) -> Self {
        Self {
            group,
            connections,
            body: 600,
            events: 0,
        }
    }

    /// Asks for a while, and keeps what clients saw with what the server spent.
    fn run(&self, programs: &mut Programs, round: u32, server: &Server) -> Result<()> {
        let seconds = match (programs.quick, self.events) {
            (true, _) => "0.3",
            (false, 0) => "2",
            (false, _) => "3",
        };
        let mut command = Command::new(programs.binary("traffic"));
        command.arg("load").arg(server.address());
        command.args(["--seconds", seconds]);
        command.arg(format!("--connections={}", self.connections));
        command.arg(format!("--body={}", self.body));
        command.arg(format!("--events={}", self.events));
        let group = format!("{SUITE}-{}", self.group);
        let before = server.cpu_s()?;
        programs.line(server.name, &group, round, &mut command, |line| {
            let mut more = server.memory()?;
            more["case"] = server.name.into();
            more["server_cpu_s"] = (server.cpu_s()? - before).into();
            if let (Some(line), Value::Object(more)) = (line.as_object_mut(), more) {
                line.extend(more);
            }
            Ok(())
        })
    }
}
