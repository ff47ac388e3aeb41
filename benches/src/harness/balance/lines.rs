//! The table's lines.

use super::{
    super::{
        Goal::{AtLeast, AtMost},
        Line, Show, Table,
        rounds::Rounds,
    },
    BODIES, COUNTS, DIRECT, RELAY, RESUMABLE, SGLANG, VLLM, XGRAFT,
    routers::HAPROXY,
};

/// Who is shown beside ours, by the name in the samples and in words.
const OTHERS: [(&str, &str); 4] = [
    (HAPROXY, "HAProxy"),
    (VLLM, "vllm-router"),
    (SGLANG, "sglang-router"),
    (RELAY, "a copy of bytes"),
];

/// Those written for language models, which ours must beat.
const RIVALS: [(&str, &str, [&str; 2]); 2] = [
    (
        VLLM,
        "vllm-router",
        ["balance_added_vs_vllm", "balance_rate_vs_vllm"],
    ),
    (
        SGLANG,
        "sglang-router",
        ["balance_added_vs_sglang", "balance_rate_vs_sglang"],
    ),
];

pub(super) fn add(rounds: &Rounds<'_>, table: &mut Table) {
    latency(rounds, table);
    rate(rounds, table);
    memory(rounds, table);
    streams(rounds, table);
    by_backends(rounds, table);
    by_body(rounds, table);
}

/// A number of one server, and the same of the others.
fn of_all(
    table: &mut Table,
    metric: &'static str,
    what: &str,
    show: Show,
    number: impl Fn(&str) -> (Option<f64>, String),
    goals: impl FnOnce(Line) -> Line,
) {
    let line = |name, shown| {
        let (value, from) = number(name);
        Line {
            value,
            show,
            from,
            ..Line::new(format!("{what}: {shown}")).named(metric)
        }
    };
    table.0.push(goals(line(XGRAFT, "xgraft")));
    table
        .0
        .extend(OTHERS.map(|(name, shown)| line(name, shown)));
}

fn latency(rounds: &Rounds<'_>, table: &mut Table) {
    let p50 = |round: u32, name: &str| rounds.least(round, ("c1", name), "p50_us");
    let added = |round: u32, name: &str| Some(p50(round, name)? - p50(round, DIRECT)?);
    of_all(
        table,
        "balance_added_p50",
        "1 connection, added p50",
        micros,
        |name| {
            let [mine, direct] = [name, DIRECT].map(|name| rounds.median(|r| p50(r, name)));
            let tail = rounds.median(|r| rounds.least(r, ("c1", name), "p99_us"));
            let from = format!(
                "{}, {} without; p99 {}",
                shown(mine, micros),
                shown(direct, micros),
                shown(tail, micros)
            );
            (rounds.median(|round| added(round, name)), from)
        },
        |line| line.must(AtMost(100.0)).aim(AtMost(60.0)),
    );
    for (name, rival, [metric, _]) in RIVALS {
        let value = rounds.median(|round| Some(added(round, name)? / added(round, XGRAFT)?));
        let line = Line::new(format!("1 connection, added p50: {rival}'s over xgraft's"));
        table.0.push(Line {
            value,
            ..line.named(metric).must(AtLeast(1.0))
        });
    }
}

fn rate(rounds: &Rounds<'_>, table: &mut Table) {
    let rate = |round: u32, name: &str| rounds.most(round, ("c64", name), "per_second");
    of_all(
        table,
        "balance_rate",
        "64 connections, requests a second",
        whole,
        |name| {
            let cpu = cost(rounds, ("c64", name), "requests");
            let tail = rounds.median(|r| rounds.least(r, ("c64", name), "p99_us"));
            let from = format!(
                "CPU {} a request; p99 {}",
                shown(cpu, micros),
                shown(tail, micros)
            );
            (rounds.median(|round| rate(round, name)), from)
        },
        |line| line.must(AtLeast(15_000.0)).aim(AtLeast(25_000.0)),
    );
    for (name, rival, [_, metric]) in RIVALS {
        let value = rounds.median(|round| Some(rate(round, XGRAFT)? / rate(round, name)?));
        let line = Line::new(format!("64 connections, requests a second: over {rival}"));
        table.0.push(Line {
            value,
            ..line.named(metric).must(AtLeast(1.0))
        });
    }
}

fn memory(rounds: &Rounds<'_>, table: &mut Table) {
    of_all(
        table,
        "balance_resident",
        "resident memory after 64 connections",
        mib,
        |name| {
            let all = |field| rounds.numbers(None, ("c64", name), field);
            let first = all("rss_mib").next();
            let from = format!("in the first round {}", shown(first, mib));
            (all("rss_mib").reduce(f64::max), from)
        },
        |line| line.must(AtMost(40.0)).aim(AtMost(20.0)),
    );
}

fn streams(rounds: &Rounds<'_>, table: &mut Table) {
    let goals = |line: Line| line.must(AtMost(50.0)).aim(AtMost(20.0));
    let of = |name: &str| {
        let rate = rounds.median(|round| {
            let events = rounds.most(round, ("streams", name), "events")?;
            Some(events / rounds.most(round, ("streams", name), "wall_s")?)
        });
        let from = format!("{} events a second", shown(rate, whole));
        (cost(rounds, ("streams", name), "events"), from)
    };
    let what = "64 streams, CPU an event";
    of_all(table, "balance_event_cpu", what, micros, of, goals);
    let (value, from) = of(RESUMABLE);
    table.0.push(goals(Line {
        value,
        from,
        show: micros,
        ..Line::new(format!("{what}: xgraft before servers that can resume"))
            .named("balance_event_cpu_resumable")
    }));
    let delay = |round: u32, name: &str| rounds.least(round, ("streams", name), "event_p50_us");
    of_all(
        table,
        "balance_event_delay",
        "64 streams, added p50 of an event",
        micros,
        |name| {
            let added = |round| Some(delay(round, name)? - delay(round, DIRECT)?);
            let all = rounds.median(|round| delay(round, name));
            let from = format!("{} from server to client", shown(all, micros));
            (rounds.median(added), from)
        },
        |line| line,
    );
}

fn by_backends(rounds: &Rounds<'_>, table: &mut Table) {
    let one = cost(rounds, ("backends", COUNTS[0].0), "requests");
    for (name, count) in &COUNTS[1..] {
        let many = cost(rounds, ("backends", name), "requests");
        let line = Line::new(format!("CPU a request: {count} backends over one"));
        table.0.push(Line {
            value: many.zip(one).map(|(many, one)| many / one),
            from: format!("{} and {}", shown(many, micros), shown(one, micros)),
            ..line.named("balance_by_backends").must(AtMost(1.25))
        });
    }
}

fn by_body(rounds: &Rounds<'_>, table: &mut Table) {
    let [small, ..] = BODIES;
    let group = |size: &str| format!("body-{size}");
    let cost_of = |size: &str, name| cost(rounds, (&group(size), name), "requests");
    // What a body costs beyond a small one.
    let more = |size, name| Some(cost_of(size, name)? - cost_of(small.0, name)?);
    for (size, bytes) in &BODIES[1..] {
        let ours = more(size, XGRAFT);
        let copy = more(size, RELAY);
        let theirs = more(size, HAPROXY);
        let per_kib = |micros: Option<f64>| micros.map(|m| m * 1024e3 / *bytes as f64);
        let line = Line::new(format!(
            "CPU of a body of {} KiB: over a copy of its bytes",
            bytes >> 10
        ));
        table.0.push(Line {
            value: ours.zip(copy).map(|(ours, copy)| ours / copy),
            from: format!(
                "{}, {} and HAProxy's {} a KiB",
                shown(per_kib(ours), nanos),
                shown(per_kib(copy), nanos),
                shown(per_kib(theirs), nanos)
            ),
            ..line.named("balance_by_body")
        });
    }
}

/// Microseconds of a server's CPU for each of what `field` counts; the median of the rounds.
fn cost(rounds: &Rounds<'_>, at: (&str, &str), field: &str) -> Option<f64> {
    rounds.median(|round| {
        let cpu = rounds.least(round, at, "server_cpu_s")?;
        Some(1e6 * cpu / rounds.most(round, at, field)?)
    })
}

fn shown(value: Option<f64>, show: Show) -> String {
    value.map_or_else(|| "missing".to_owned(), show)
}

fn micros(value: f64) -> String {
    format!("{value:.1} us")
}

fn nanos(value: f64) -> String {
    format!("{value:.0} ns")
}

fn whole(value: f64) -> String {
    format!("{value:.0}")
}

fn mib(value: f64) -> String {
    format!("{value:.1} MiB")
}

#[cfg(test)]
mod tests {
    use super::super::super::{Sample, Samples};
    use super::*;
    use serde_json::json;

    fn sample(group: &str, case: &str, line: serde_json::Value) -> Sample {
        let mut line = line;
        line["case"] = case.into();
        Sample {
            who: case.to_owned(),
            group: format!("balance-{group}"),
            round: 0,
            command: String::new(),
            line,
        }
    }

    fn table(samples: &Samples) -> Table {
        let mut table = Table::default();
        let rounds = Rounds {
            suite: "balance",
            samples,
        };
        add(&rounds, &mut table);
        table
    }

    fn value(table: &Table, what: &str) -> Option<f64> {
        let line = table.0.iter().find(|line| line.what == what);
        line.unwrap_or_else(|| panic!("no line {what}")).value
    }

    #[test]
    fn what_a_router_adds_is_its_time_less_the_direct_one() {
        let samples = Samples(vec![
            sample("c1", DIRECT, json!({"p50_us": 20.0, "p99_us": 30.0})),
            sample("c1", XGRAFT, json!({"p50_us": 50.0, "p99_us": 60.0})),
            sample("c1", VLLM, json!({"p50_us": 140.0, "p99_us": 160.0})),
            sample(
                "streams",
                XGRAFT,
                json!({"events": 1000, "wall_s": 5.0, "server_cpu_s": 0.02}),
            ),
        ]);
        let table = table(&samples);
        let of = |what| value(&table, what);
        assert_eq!(of("1 connection, added p50: xgraft"), Some(30.0));
        assert_eq!(
            of("1 connection, added p50: vllm-router's over xgraft's"),
            Some(4.0)
        );
        assert_eq!(of("64 streams, CPU an event: xgraft"), Some(20.0));
    }

    #[test]
    fn a_router_that_is_not_there_is_missing() {
        let table = table(&Samples::default());
        assert!(table.0.iter().all(|line| line.value.is_none()));
        assert!(table.markdown().contains("not measured"));
    }
}
