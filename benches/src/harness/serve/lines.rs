//! The table's lines.

use super::{
    super::{
        Goal::{AtLeast, AtMost},
        Line, Table,
        rounds::Rounds,
        table::times,
    },
    line::{missing, one_decimal, signed, three_decimals},
};
use xgraft_results::human::percent;

/// What one sequence alone takes.
const ALONE: &str = "base-b1";

pub(super) fn add(rounds: &Rounds<'_>, table: &mut Table) {
    formats(rounds, table);
    adapters(rounds, table);
    for (name, shown) in FORMATS {
        table.0.push(resident(rounds, name, shown));
    }
    curve(rounds, table);
}

/// Our formats.
const FORMATS: [(&str, &str); 4] = [
    ("bf16", "BF16"),
    ("fp8", "FP8 block-128"),
    ("int8", "INT8"),
    ("int4", "INT4"),
];

fn formats(rounds: &Rounds<'_>, table: &mut Table) {
    table.0.extend([
        of_limit(rounds, "bf16", "BF16")
            .named("decode_bf16_of_limit")
            .must(AtLeast(0.60))
            .aim(AtLeast(0.80)),
        peer_of_limit(rounds, "llama-bf16", "BF16").named("decode_llama_bf16_of_limit"),
        of_limit(rounds, "fp8", "FP8 block-128")
            .named("decode_fp8_of_limit")
            .must(AtLeast(0.50))
            .aim(AtLeast(0.70)),
        peer_of_limit(rounds, "llama-q8_0", "Q8_0").named("decode_llama_q8_of_limit"),
        faster(
            rounds,
            ("fp8", "our FP8 over our BF16"),
            "bf16",
            "decode",
            1,
        )
        .named("decode_fp8_over_bf16")
        .must(AtLeast(1.25)),
    ]);
    for (ours, what, peer, metrics) in [
        ("bf16", "BF16 over llama.cpp's BF16", "llama-bf16", BF16),
        ("fp8", "FP8 over llama.cpp's Q8_0", "llama-q8_0", FP8),
    ] {
        let [alone, eight, short, long] = metrics;
        let alone = faster(rounds, (ours, what), peer, "decode", 1).named(alone);
        let long_of = |group: &str| format!("{group}-512");
        table.0.extend([
            if ours == "fp8" {
                alone.aim(AtLeast(1.0))
            } else {
                alone
            },
            faster(rounds, (ours, what), peer, "decode", 8)
                .named(eight)
                .must(AtLeast(1.0))
                .aim(AtLeast(1.4)),
            faster(rounds, (ours, what), peer, "prefill", 1)
                .named(short)
                .must(AtLeast(1.0))
                .aim(AtLeast(1.3)),
            faster(rounds, (&long_of(ours), what), &long_of(peer), "prefill", 1)
                .named(long)
                .must(AtLeast(1.0))
                .aim(AtLeast(1.3)),
        ]);
    }
    let what = "BF16 over llama.cpp's F32";
    table.0.extend([
        faster(rounds, ("bf16", what), "llama-f32", "decode", 8).named("decode_b8_vs_llama_f32"),
        faster(rounds, ("bf16", what), "llama-f32", "prefill", 1).named("prefill_128_vs_llama_f32"),
        of_limit(rounds, "int8", "INT8").named("decode_int8_of_limit"),
        of_limit(rounds, "int4", "INT4").named("decode_int4_of_limit"),
    ]);
}

const BF16: [&str; 4] = [
    "decode_b1_bf16_vs_llama",
    "decode_b8_bf16_vs_llama",
    "prefill_128_bf16_vs_llama",
    "prefill_512_bf16_vs_llama",
];
const FP8: [&str; 4] = [
    "decode_b1_fp8_vs_llama_q8",
    "decode_b8_fp8_vs_llama_q8",
    "prefill_128_fp8_vs_llama_q8",
    "prefill_512_fp8_vs_llama_q8",
];

fn adapters(rounds: &Rounds<'_>, table: &mut Table) {
    let more = |group, case, what| slower(rounds, group, (case, ALONE), what);
    table.0.extend([
        more("bf16-r64", "lora-b1", "one adapter of rank 64 on BF16")
            .named("adapter_r64_bf16")
            .must(AtMost(0.15))
            .aim(AtMost(0.09)),
        more("fp8-r64", "lora-b1", "one adapter of rank 64 on FP8")
            .named("adapter_r64_fp8")
            .must(AtMost(0.15))
            .aim(AtMost(0.13)),
        more("fp8-r256", "lora-b1", "one adapter of rank 256 on FP8")
            .named("adapter_r256_fp8")
            .must(AtMost(0.65))
            .aim(AtMost(0.50)),
        more(
            "fp8-idle",
            "idle-b1",
            "base rows beside 8 idle adapters, FP8",
        )
        .named("idle_adapters")
        .must(AtMost(0.01))
        .aim(AtMost(0.0)),
        distinct(rounds),
        load(rounds),
        served(rounds, 1)
            .named("server_overhead")
            .must(AtMost(0.03))
            .aim(AtMost(0.01)),
        served(rounds, 8)
            .named("server_overhead_b8")
            .must(AtMost(0.03))
            .aim(AtMost(0.01)),
    ]);
}

/// The time of reading the bytes over the time of a step.
fn of_limit(rounds: &Rounds<'_>, group: &str, shown: &str) -> Line {
    limit(rounds, group, &format!("decode, batch 1, {shown}"))
}

/// The same of the peer, by our readings in the same round.
fn peer_of_limit(rounds: &Rounds<'_>, group: &str, shown: &str) -> Line {
    let what = format!("decode, batch 1, llama.cpp's {shown}");
    limit(rounds, group, &what)
}

fn limit(rounds: &Rounds<'_>, group: &str, what: &str) -> Line {
    let read = |round| rounds.read_gb_s(round);
    let step = |round| rounds.least(round, (group, ALONE), "decode_wall");
    let bytes = |round| rounds.most(round, (group, ALONE), "bytes");
    Line {
        value: rounds.median(|round| Some(1e-9 * bytes(round)? / read(round)? / step(round)?)),
        show: percent,
        from: format!(
            "{} tok/s of {} GB at {} GB/s; CPU {}",
            one_decimal(rounds.median(|round| Some(1.0 / step(round)?))),
            three_decimals(rounds.median(|round| Some(1e-9 * bytes(round)?))),
            one_decimal(rounds.median(read)),
            share(rounds, (group, ALONE), "decode"),
        ),
        ..Line::new(format!("{what}: share of the speed of reading its bytes"))
    }
}

/// Their shortest time over ours; `phase` is `decode` or `prefill`.
fn faster(
    rounds: &Rounds<'_>,
    (ours, what): (&str, &str),
    theirs: &str,
    phase: &str,
    batch: usize,
) -> Line {
    let case = format!("base-b{batch}");
    let field = format!("{phase}_wall");
    let [mine, other] = [ours, theirs].map(|group| (group, case.as_str()));
    let best = |round, at| rounds.least(round, at, &field);
    let tokens = |at| {
        let prompt = match phase {
            "prefill" => rounds.most(0, at, "prompt")?,
            _ => 1.0,
        };
        Some(batch as f64 * prompt)
    };
    let rate = |at| one_decimal(rounds.median(|round| Some(tokens(at)? / best(round, at)?)));
    let size = match phase {
        "prefill" => format!("{:.0} tokens", tokens(mine).unwrap_or(f64::NAN)),
        _ => format!("batch {batch}"),
    };
    Line {
        value: rounds.median(|round| Some(best(round, other)? / best(round, mine)?)),
        from: format!(
            "{} and {} tok/s; CPU {} and {}",
            rate(mine),
            rate(other),
            share(rounds, mine, phase),
            share(rounds, other, phase),
        ),
        ..Line::new(format!("{phase}, {size}, {what}"))
    }
}

/// How much longer a step takes than the base's in the same process.
fn slower(rounds: &Rounds<'_>, group: &str, (case, base): (&str, &str), what: &str) -> Line {
    let step = |round, case| rounds.least(round, (group, case), "decode_wall");
    let bytes = |case| rounds.most(0, (group, case), "bytes");
    let more = bytes(case)
        .zip(bytes(base))
        .map(|(all, base)| all / base - 1.0);
    Line {
        value: rounds.median(|round| Some(step(round, case)? / step(round, base)? - 1.0)),
        show: signed,
        from: format!(
            "{} and {} ms; bytes {}; CPU {}",
            one_decimal(rounds.median(|round| Some(1e3 * step(round, case)?))),
            one_decimal(rounds.median(|round| Some(1e3 * step(round, base)?))),
            more.map_or_else(missing, signed),
            share(rounds, (group, case), "decode"),
        ),
        ..Line::new(format!("{what}, batch 1: time of a token"))
    }
}

/// Eight adapters in a batch of eight against the base's step and a reading of their bytes.
fn distinct(rounds: &Rounds<'_>) -> Line {
    let group = "fp8-r64-all";
    let [lora, base] = ["lora-b8", "base-b8"].map(|case| (group, case));
    let step = |round, at| rounds.least(round, at, "decode_wall");
    let reading = |round| {
        let bytes = rounds.most(round, lora, "bytes")? - rounds.most(round, base, "bytes")?;
        Some(1e-9 * bytes / rounds.read_gb_s(round)?)
    };
    Line {
        value: rounds
            .median(|round| Some(step(round, lora)? / (step(round, base)? + reading(round)?))),
        from: format!(
            "{} ms; {} and {} ms",
            one_decimal(rounds.median(|round| Some(1e3 * step(round, lora)?))),
            one_decimal(rounds.median(|round| Some(1e3 * step(round, base)?))),
            one_decimal(rounds.median(|round| Some(1e3 * reading(round)?))),
        ),
        ..Line::new(
            "8 adapters of rank 64 in a batch of 8, FP8: over the base's step and a reading of their bytes".to_owned(),
        )
    }
    .named("distinct_adapters")
    .must(AtMost(1.3))
    .aim(AtMost(1.1))
}

/// How much longer a token takes for the readers of as many streams than a step of the bare model.
fn served(rounds: &Rounds<'_>, streams: usize) -> Line {
    let [served, bare] = ["served", "base"].map(|case| format!("{case}-b{streams}"));
    let step = |round, case: &str| rounds.least(round, ("served", case), "step_wall");
    let ms = |case: &str| one_decimal(rounds.median(|round| Some(1e3 * step(round, case)?)));
    Line {
        value: rounds.median(|round| Some(step(round, &served)? / step(round, &bare)? - 1.0)),
        show: signed,
        from: format!("{} and {} ms", ms(&served), ms(&bare)),
        ..Line::new(format!(
            "server, {streams} streams, FP8: time of a token over a step of the bare model"
        ))
    }
}

fn load(rounds: &Rounds<'_>) -> Line {
    let at = ("fp8-r64", "adapter");
    let seconds = |round| rounds.least(round, at, "seconds");
    let bytes = rounds.most(0, at, "bytes").map(|bytes| 1e-6 * bytes);
    Line {
        value: rounds.median(seconds),
        show: |seconds| format!("{seconds:.3} s"),
        from: format!("{} MB in memory", one_decimal(bytes)),
        ..Line::new("adapter of rank 64: loading".to_owned())
    }
    .named("adapter_load")
    .must(AtMost(1.0))
    .aim(AtMost(0.2))
}

/// The largest resident set over what is stored and the cache.
fn resident(rounds: &Rounds<'_>, group: &str, shown: &str) -> Line {
    let field = |field: &str| rounds.most(0, (group, "resident"), field);
    let [peak, stored, cache] = ["peak_rss_mib", "stored_mib", "cache_mib"].map(field);
    let metric = match group {
        "bf16" => "resident_bf16",
        "fp8" => "resident_fp8",
        "int8" => "resident_int8",
        _ => "resident_int4",
    };
    Line {
        value: stored
            .zip(cache)
            .zip(peak)
            .map(|((stored, cache), peak)| peak / (stored + cache)),
        from: format!(
            "{} MiB; {} and {} MiB",
            one_decimal(peak),
            one_decimal(stored),
            one_decimal(cache)
        ),
        ..Line::new(format!(
            "{shown}, resident memory over stored bytes and cache"
        ))
    }
    .named(metric)
    .must(AtMost(1.10))
}

/// How a step grows with the batch, and with the layers.
fn curve(rounds: &Rounds<'_>, table: &mut Table) {
    for (group, shown, metric) in [
        ("bf16", "BF16", "step_by_batch_bf16"),
        ("fp8", "FP8 block-128", "step_by_batch_fp8"),
    ] {
        for batch in [2, 4, 8] {
            let case = format!("base-b{batch}");
            let line = ratio(rounds, [(group, &case), (group, ALONE)]);
            table.0.push(Line {
                metric,
                what: format!("{shown}, a step of batch {batch} over one of batch 1"),
                ..line
            });
        }
    }
    let [whole, half] = [("bf16", ALONE), ("half", ALONE)];
    let bytes = |at| rounds.most(0, at, "bytes");
    let line = ratio(rounds, [whole, half]);
    let bytes = bytes(whole)
        .zip(bytes(half))
        .map(|(whole, half)| whole / half);
    table.0.push(Line {
        metric: "step_by_layers",
        what: "BF16, a step over one of half the layers".to_owned(),
        from: format!("{}; bytes {}", line.from, bytes.map_or_else(missing, times)),
        ..line
    });
}

/// The step of one case over that of another.
fn ratio(rounds: &Rounds<'_>, [one, other]: [(&str, &str); 2]) -> Line {
    let step = |round, at| rounds.least(round, at, "decode_wall");
    Line {
        value: rounds.median(|round| Some(step(round, one)? / step(round, other)?)),
        from: format!(
            "{} and {} ms",
            one_decimal(rounds.median(|round| Some(1e3 * step(round, one)?))),
            one_decimal(rounds.median(|round| Some(1e3 * step(round, other)?))),
        ),
        ..Line::new(String::new())
    }
}

fn share(rounds: &Rounds<'_>, at: (&str, &str), phase: &str) -> String {
    let share = rounds.cpu_share(at, phase);
    share.map_or_else(missing, |share| format!("{share:.2}"))
}
