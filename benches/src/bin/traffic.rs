//! Clients, servers and a copy of bytes for the suite `balance`; each says in a JSON line what it has to say.
#![expect(clippy::print_stdout, reason = "the lines are the output")]

use anyhow::Result;
use benches::traffic::{backends, load, on_one_thread, relay};
use clap::Parser;
use serde_json::json;
use std::time::Duration;

#[derive(Debug, Parser)]
enum Args {
    /// Servers that compute nothing, until they are killed.
    Backends {
        /// How many ports.
        #[arg(long, default_value_t = 4)]
        count: usize,
        /// Whose they say they are.
        #[arg(long, default_value = "mock")]
        owner: String,
    },
    /// Copies bytes to a server and back, until it is killed.
    Relay {
        /// `HOST:PORT`
        address: String,
    },
    /// Clients that ask for a while.
    Load {
        /// `HOST:PORT`
        address: String,
        /// How many.
        #[arg(long)]
        connections: usize,
        /// How long.
        #[arg(long)]
        seconds: f64,
        /// Bytes of a request.
        #[arg(long, default_value_t = 600)]
        body: usize,
        /// Events of an answer; 0 for one without.
        #[arg(long, default_value_t = 0)]
        events: usize,
    },
}

fn main() -> Result<()> {
    match Args::parse() {
        Args::Backends { count, owner } => {
            let ready = |ports: &[u16]| println!("{}", json!({ "ports": ports }));
            on_one_thread(backends::run(count, &owner, ready))?;
        }
        Args::Relay { address } => {
            let ready = |port| println!("{}", json!({ "ports": [port] }));
            on_one_thread(relay::run(&address, ready))?;
        }
        Args::Load {
            address,
            connections,
            seconds,
            body,
            events,
        } => {
            let load = load::Load {
                address,
                connections,
                time: Duration::from_secs_f64(seconds),
                body,
                events,
            };
            println!("{}", on_one_thread(load::run(load))?);
        }
    }
    Ok(())
}
