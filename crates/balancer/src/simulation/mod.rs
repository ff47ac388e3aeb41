//! The whole balancer in a simulated network, with simulated time: orderings that real sockets rarely show.
//!
//! Every host has an event loop of its own; messages between two of them take their time, are held back, or are lost
//! until the link is repaired. A lost message is lost for good, for there is no TCP below these sockets that would send it
//! again: so a link that loses something stays broken until the balancer has noticed. And nobody refuses a connection in the
//! name of a host that cannot be reached, as the library does: see [`passage`].

mod clients;
mod hosts;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use turmoil::Sim;

use self::clients::{Tally, crowd, observe, share_of};
use crate::backends::mix;
use crate::config::{BackendUrl, Config};

const BACKENDS: [&str; 4] = ["b0", "b1", "b2", "b3"];
const BALANCER: &str = "balancer";

/// Clients ask for so long.
const TIME: Duration = Duration::from_secs(60);

/// A simulated step; all is a multiple of it.
const TICK: Duration = Duration::from_millis(5);

fn network(seed: u64, backends: &[&'static str]) -> Sim<'static> {
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .enable_random_order()
        .simulation_duration(10 * TIME)
        .tick_duration(TICK)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(40))
        .tcp_capacity(4096)
        .build();
    for name in backends {
        sim.host(*name, hosts::backend);
    }
    let urls = backends.iter().map(|name| format!("http://{name}:80"));
    let urls: Vec<_> = urls.map(|url| BackendUrl::parse(&url).unwrap()).collect();
    sim.host(BALANCER, move || hosts::balancer(Config::new(urls.clone())));
    sim
}

thread_local! {
    /// Bit `n` is set while nothing comes through to backend `n`. A simulation runs on one thread.
    static CUT: Cell<u32> = const { Cell::new(0) };
}

fn bit(backend: &str) -> u32 {
    let index = BACKENDS.iter().position(|name| *name == backend);
    1 << index.unwrap_or(BACKENDS.len())
}

/// Waits as long as the way to a backend is cut.
pub(crate) async fn passage(backend: &str) {
    while CUT.get() & bit(backend) != 0 {
        tokio::time::sleep(TICK).await;
    }
}

/// What happens to the way to a backend, or to itself.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// It dies, and another is started in its place.
    Crash,
    /// Nothing comes through, and what was under way is lost.
    Partition,
    /// Everything comes, but late.
    Hold,
}

impl Fault {
    fn begin(self, sim: &mut Sim<'_>, backend: &str) {
        match self {
            Self::Crash => sim.crash(backend),
            Self::Partition => {
                CUT.set(CUT.get() | bit(backend));
                sim.partition(BALANCER, backend);
            }
            Self::Hold => sim.hold(BALANCER, backend),
        }
    }

    fn end(self, sim: &mut Sim<'_>, backend: &str) {
        match self {
            Self::Crash => sim.bounce(backend),
            Self::Partition => {
                CUT.set(CUT.get() & !bit(backend));
                sim.repair(BALANCER, backend);
            }
            Self::Hold => sim.release(BALANCER, backend),
        }
    }

    /// Long enough for a partition to be noticed; the others may be shorter than anybody looks.
    fn lasts(self, number: u64) -> Duration {
        match self {
            Self::Partition => Duration::from_millis(6000 + number % 6000),
            Self::Crash | Self::Hold => Duration::from_millis(50 + number % 8000),
        }
    }
}

/// One backend after the other, or several at once, but never all, as the seed says.
struct Faults {
    seed: u64,
    next: Duration,
    running: Vec<(Fault, &'static str, Duration)>,
}

impl Faults {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            next: Duration::from_secs(3),
            running: Vec::new(),
        }
    }

    fn number(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(1);
        mix(self.seed)
    }

    fn step(&mut self, sim: &mut Sim<'_>) {
        let now = sim.elapsed();
        let over = |(_, _, end): &(Fault, &str, Duration)| *end <= now;
        for (fault, backend, _) in self.running.extract_if(.., |one| over(one)) {
            fault.end(sim, backend);
        }
        if now < self.next || now > TIME {
            return;
        }
        self.next = now + Duration::from_millis(300 + self.number() % 4000);
        let backend = BACKENDS[(self.number() % 3) as usize];
        if self.running.iter().any(|(_, other, _)| *other == backend) {
            return;
        }
        let fault = [Fault::Crash, Fault::Partition, Fault::Hold][(self.number() % 3) as usize];
        fault.begin(sim, backend);
        let end = now + fault.lasts(self.number());
        self.running.push((fault, backend, end));
    }
}

/// Clients and faults for a minute, and then rest.
fn storm(seed: u64) -> Tally {
    let mut sim = network(seed, &BACKENDS);
    let tally = Rc::new(RefCell::new(Tally::default()));
    for number in 0..8 {
        sim.client(format!("client{number}"), crowd(tally.clone()));
    }
    let at_rest = |status: &Value| status["total_in_flight"] == 0 && status["waiting"] == 0;
    sim.client("observer", async move {
        tokio::time::sleep(TIME + Duration::from_secs(30)).await;
        let status = observe().await?;
        assert!(at_rest(&status), "{status}");
        Ok(())
    });
    let mut faults = Faults::new(seed);
    while !sim.step().unwrap() {
        faults.step(&mut sim);
    }
    drop(sim);
    Rc::into_inner(tally).unwrap().into_inner()
}

#[test]
fn nothing_plain_fails_and_no_stream_lies_whatever_the_order() {
    let mut all = Tally::default();
    for seed in 0..6 {
        let tally = storm(seed);
        assert_eq!(tally.wrong, Vec::<String>::new(), "seed {seed}: {tally:?}");
        all.add(&tally);
    }
    println!("{all:?}");
    assert!(all.plain > 500 && all.whole > 500, "{all:?}");
    assert!(all.flagged > 0, "no stream was hit: {all:?}");
}

#[test]
fn a_backend_that_returns_has_its_share_within_two_health_intervals() {
    let mut sim = network(1, &BACKENDS[..2]);
    let tally = Rc::new(RefCell::new(Tally::default()));
    for number in 0..8 {
        sim.client(format!("client{number}"), crowd(tally.clone()));
    }
    let (away, back) = (Duration::from_secs(10), Duration::from_secs(20));
    let interval = crate::config::Health::default().interval;
    sim.client("observer", async move {
        tokio::time::sleep(back + 2 * interval).await;
        let before = observe().await?;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let share = share_of("b0", &before, &observe().await?);
        assert!((0.4..0.6).contains(&share), "{share}");
        Ok(())
    });
    let (mut gone, mut returned) = (false, false);
    while !sim.step().unwrap() {
        if !gone && sim.elapsed() >= away {
            sim.crash("b0");
            gone = true;
        }
        if !returned && sim.elapsed() >= back {
            sim.bounce("b0");
            returned = true;
        }
    }
    assert_eq!(tally.borrow().wrong, Vec::<String>::new());
}
