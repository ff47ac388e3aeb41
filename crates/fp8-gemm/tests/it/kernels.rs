//! Every kernel's text, run on the CPU, against the emulator: f32 bit for bit where the tensor core's model is exact.

use std::collections::HashMap;

use half::bf16;
use xgraft_fp8_codec::{E4m3, Overflow};
use xgraft_fp8_gemm::{
    Shape,
    call::{Call, NO_ADAPTER, Operand, Output, token_tiles},
    emulator::{Adapter, Operands, product},
    kernel::{Kernel, Tile, all},
};

use crate::host::{Data, Run, program};

/// A fixed stream of numbers.
struct Stream(u64);

impl Stream {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    fn code(&mut self) -> u8 {
        loop {
            let code = self.next() as u8;
            if code & 0x7f != 0x7f {
                return code;
            }
        }
    }

    fn codes(&mut self, len: u32) -> Vec<u8> {
        (0..len).map(|_| self.code()).collect()
    }

    fn scales(&mut self, len: u32) -> Vec<f32> {
        (0..len)
            .map(|_| 0.001 + (self.next() % 1000) as f32 / 777.0)
            .collect()
    }

    fn bf16(&mut self, len: u32) -> Vec<bf16> {
        let number = |v: u64| bf16::from_f32((v % 2001) as f32 / 1000.0 - 1.0);
        (0..len).map(|_| number(self.next())).collect()
    }
}

/// Operands of a product, with an adapter of a rank.
pub(crate) struct Case {
    pub(crate) shape: Shape,
    rank: u32,
    x: Vec<u8>,
    x_scales: Vec<f32>,
    w: Vec<u8>,
    w_scales: Vec<f32>,
    t: Vec<bf16>,
    b: Vec<bf16>,
}

fn bytes_of<T: Copy, const N: usize>(numbers: &[T], bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    numbers.iter().flat_map(|&number| bytes(number)).collect()
}

pub(crate) fn f32s(bytes: &[u8]) -> Vec<f32> {
    let words = bytes.chunks_exact(4);
    words
        .map(|word| f32::from_le_bytes(word.try_into().expect("four")))
        .collect()
}

fn bf16s(bytes: &[u8]) -> Vec<bf16> {
    let words = bytes.chunks_exact(2);
    words
        .map(|word| bf16::from_le_bytes(word.try_into().expect("two")))
        .collect()
}

impl Case {
    pub(crate) fn new((m, n, k): (u32, u32, u32), rank: u32, seed: u64) -> Self {
        let shape = Shape::new(m, n, k).expect("not empty");
        let mut stream = Stream(seed * 0x9e37_79b9 + 1);
        Self {
            shape,
            rank,
            x: stream.codes(m * k),
            x_scales: stream.scales(shape.k_blocks() * shape.scale_stride()),
            w: stream.codes(n * k),
            w_scales: stream.scales(shape.k_blocks() * shape.n_blocks()),
            t: stream.bf16(m * rank),
            b: stream.bf16(n * rank),
        }
    }

    /// What the emulator says.
    pub(crate) fn expected(&self, split: u32) -> Vec<f32> {
        let operands = Operands {
            shape: self.shape,
            x: &self.x,
            x_scales: &self.x_scales,
            w: &self.w,
            w_scales: &self.w_scales,
        };
        let adapter = Adapter {
            rank: self.rank,
            t: &self.t,
            b: &self.b,
        };
        product(&operands, (self.rank > 0).then_some(&adapter), split)
    }

    pub(crate) fn operands(&self, call: &Call, output: Output) -> Vec<(Operand, Data)> {
        let y = (self.shape.m * self.shape.n) as usize * if output == Output::F32 { 4 } else { 2 };
        [
            (Operand::X, self.x.clone()),
            (Operand::XScales, bytes_of(&self.x_scales, f32::to_le_bytes)),
            (Operand::W, self.w.clone()),
            (Operand::WScales, bytes_of(&self.w_scales, f32::to_le_bytes)),
            (Operand::T, bytes_of(&self.t, bf16::to_le_bytes)),
            (Operand::B, bytes_of(&self.b, bf16::to_le_bytes)),
            (Operand::Y, vec![0xee; y]),
            (Operand::Parts, vec![0xff; call.parts as usize]),
            (Operand::Counters, vec![0; call.counters as usize * 4]),
        ]
        .map(|(name, bytes)| (name, Data::Bytes(bytes)))
        .into()
    }

    /// The result of a call of the kernel's text.
    fn run(&self, call: &Call, output: Output, seed: u64) -> Vec<u8> {
        call.check().expect("the hardware takes it");
        let run = Run {
            call,
            operands: self.operands(call, output),
            extra: Vec::new(),
            seed,
        };
        let mut outcome = run.outcome();
        let counters = outcome.remove(&Operand::Counters).unwrap_or_default();
        assert!(counters.iter().all(|&byte| byte == 0), "counters are left");
        outcome.remove(&Operand::Y).expect("a result")
    }
}

/// Bits that agree, NaN with NaN.
#[track_caller]
pub(crate) fn assert_equal(name: &str, ours: &[f32], expected: &[f32]) {
    assert_eq!(ours.len(), expected.len());
    let same = |(a, b): &(&f32, &f32)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    let wrong: Vec<_> = (ours.iter().zip(expected).enumerate())
        .filter(|(_, pair)| !same(pair))
        .collect();
    let first = wrong.first();
    assert!(
        wrong.is_empty(),
        "{name}: {} of {} differ, first {first:?}",
        wrong.len(),
        ours.len()
    );
}

fn tiles(of: impl Fn(Kernel) -> Option<Tile>) -> Vec<Tile> {
    all().into_iter().filter_map(of).collect()
}

fn prefill_tiles() -> Vec<Tile> {
    tiles(|kernel| match kernel {
        Kernel::Prefill(tile) => Some(tile),
        _ => None,
    })
}

fn decode_tiles() -> Vec<Tile> {
    tiles(|kernel| match kernel {
        Kernel::Decode(tile) => Some(tile),
        _ => None,
    })
}

#[test]
fn prefill_gives_the_emulators_bits_on_ragged_shapes() {
    for (i, tile) in prefill_tiles().into_iter().enumerate() {
        // More tiles than multiprocessors, ragged m, n and k, and a ring that turns more than once.
        let rank = if tile.lora {
            [8, 64, 72, 128][i / 2 % 4]
        } else {
            0
        };
        let case = Case::new(
            (tile.rows_a + 9, 2 * tile.rows_b + 8, 1200),
            rank,
            i as u64 + 1,
        );
        let call = Call::prefill(tile, case.shape, rank, Output::F32, 2, 3);
        let y = case.run(&call, Output::F32, 7);
        assert_equal(&call.kernel.name(), &f32s(&y), &case.expected(1));
    }
}

#[test]
fn decode_gives_the_emulators_bits_for_every_split() {
    for (i, tile) in decode_tiles().into_iter().enumerate() {
        let rank = if tile.lora {
            [8, 64, 72, 128, 16][i / 2 % 5]
        } else {
            0
        };
        for (m, split) in [(1, 3), (tile.rows_b, 1), (tile.rows_b + 3, 2)] {
            let case = Case::new((m, 136, 1712), rank, i as u64 + 11);
            let call = Call::decode(tile, case.shape, rank, Output::F32, split);
            let y = case.run(&call, Output::F32, 3);
            let name = format!("{} m {m} split {split}", call.kernel.name());
            assert_equal(&name, &f32s(&y), &case.expected(split));
        }
    }
}

#[test]
fn the_order_of_blocks_warps_and_copies_changes_no_bit() {
    let tile = decode_tiles()[0];
    let case = Case::new((5, 130, 2100 / 16 * 16), 0, 5);
    let call = Call::decode(tile, case.shape, 0, Output::F32, 5);
    let first = case.run(&call, Output::F32, 1);
    for seed in 2..12 {
        assert!(case.run(&call, Output::F32, seed) == first, "{seed}");
    }
}

#[test]
fn bf16_output_is_the_f32_rounded_to_nearest_even_also_where_n_is_odd() {
    let case = Case::new((6, 131, 272), 0, 9);
    let expected: Vec<bf16> = case.expected(1).into_iter().map(bf16::from_f32).collect();
    let calls = [
        Call::decode(decode_tiles()[0], case.shape, 0, Output::Bf16, 1),
        Call::prefill(prefill_tiles()[0], case.shape, 0, Output::Bf16, 8, 132),
    ];
    for call in calls {
        let y = case.run(&call, Output::Bf16, 1);
        assert!(bf16s(&y) == expected, "{}", call.kernel.name());
    }
}

#[test]
fn nan_codes_poison_exactly_their_row_and_column() {
    let mut case = Case::new((3, 140, 256), 0, 2);
    case.x[256 + 200] = 0x7f;
    case.w[139 * 256] = 0xff;
    for call in [
        Call::decode(decode_tiles()[0], case.shape, 0, Output::F32, 2),
        Call::prefill(prefill_tiles()[0], case.shape, 0, Output::F32, 8, 132),
    ] {
        let y = case.run(&call, Output::F32, 1);
        for (at, value) in f32s(&y).into_iter().enumerate() {
            let poisoned = at / 140 == 1 || at % 140 == 139;
            assert_eq!(value.is_nan(), poisoned, "{} at {at}", call.kernel.name());
        }
    }
}

/// The exact product in f64, with the sum of magnitudes beside it.
fn exact(case: &Case, i: u32, j: u32) -> (f64, f64) {
    let shape = case.shape;
    let value = |code: u8| f64::from(E4m3::from_bits(code).decode());
    let terms = (0..shape.k).map(|t| {
        let scale = f64::from(case.x_scales[shape.x_scale(i, t / 128)])
            * f64::from(case.w_scales[shape.w_scale(j, t / 128)]);
        value(case.x[(i * shape.k + t) as usize])
            * value(case.w[(j * shape.k + t) as usize])
            * scale
    });
    terms.fold((0.0, 0.0), |(sum, size), term| {
        (sum + term, size + term.abs())
    })
}

#[test]
fn the_plain_kernel_is_right_for_any_n_and_k() {
    for shape in [(70, 133, 301), (1, 1, 1), (64, 64, 128), (3, 260, 129)] {
        let case = Case::new(shape, 0, 4);
        let call = Call::plain(Kernel::Plain, case.shape, Output::F32);
        let y = case.run(&call, Output::F32, 1);
        for (at, &ours) in f32s(&y).iter().enumerate() {
            let (sum, size) = exact(&case, at as u32 / shape.1, at as u32 % shape.1);
            assert!(
                (f64::from(ours) - sum).abs() <= size * 1e-6,
                "{shape:?} at {at}: {ours} {sum}"
            );
        }
    }
}

#[test]
fn w8a16_is_right_for_ragged_n_and_k() {
    for (m, n, k) in [(1, 9, 1552), (3, 140, 528), (6, 300, 16)] {
        let mut case = Case::new((m, n, k), 0, 8);
        let x = Stream(77).bf16(m * k);
        case.x = bytes_of(&x, bf16::to_le_bytes);
        let call = Call::w8a16(case.shape, Output::F32);
        let y = case.run(&call, Output::F32, 1);
        for (at, &ours) in f32s(&y).iter().enumerate() {
            let (i, j) = (at as u32 / n, at as u32 % n);
            let (mut sum, mut size) = (0f64, 0f64);
            for t in 0..k {
                let w = f64::from(E4m3::from_bits(case.w[(j * k + t) as usize]).decode());
                let scale = f64::from(case.w_scales[case.shape.w_scale(j, t / 128)]);
                let term = x[(i * k + t) as usize].to_f64() * w * scale;
                sum += term;
                size += term.abs();
            }
            assert!(
                (f64::from(ours) - sum).abs() <= size * 1e-6,
                "{m} {n} {k} at {at}"
            );
        }
    }
}

/// Adapters of a batch: A, B, rank and factor.
struct Adapters {
    ranks: Vec<u32>,
    factors: Vec<f32>,
    matrices: Vec<Vec<bf16>>,
}

impl Adapters {
    fn new(ranks: &[u32], side: u32) -> Self {
        let mut stream = Stream(4242);
        Self {
            ranks: ranks.to_vec(),
            factors: (0..ranks.len()).map(|i| 0.5 + i as f32).collect(),
            matrices: ranks.iter().map(|rank| stream.bf16(rank * side)).collect(),
        }
    }

    fn operands(&self, table: Operand) -> [(Operand, Data); 3] {
        [
            (table, Data::Table((0..self.ranks.len()).collect())),
            (
                Operand::RankOf,
                Data::Bytes(bytes_of(&self.ranks, u32::to_le_bytes)),
            ),
            (
                Operand::FactorOf,
                Data::Bytes(bytes_of(&self.factors, f32::to_le_bytes)),
            ),
        ]
    }

    /// Runs a call whose `table` is of these matrices.
    fn run(
        &self,
        call: &Call,
        mut operands: Vec<(Operand, Data)>,
        table: Operand,
    ) -> HashMap<Operand, Vec<u8>> {
        operands.extend(self.operands(table));
        let matrices = self.matrices.iter();
        let run = Run {
            call,
            operands,
            extra: matrices
                .map(|matrix| bytes_of(matrix, bf16::to_le_bytes))
                .collect(),
            seed: 5,
        };
        run.outcome()
    }
}

const RUNS: &[(u32, u32)] = &[(3, 1), (20, NO_ADAPTER), (18, 0), (1, 2)];

fn adapter_of(token: u32) -> u32 {
    let mut first = 0;
    for &(count, adapter) in RUNS {
        first += count;
        if token < first {
            return adapter;
        }
    }
    NO_ADAPTER
}

#[test]
fn quantizing_gives_the_codecs_codes_and_shrinks_each_tokens_own_adapter() {
    let (m, k, stride) = (42, 1000, 256);
    let shape = Shape::new(m, 1, k).expect("not empty");
    let mut x = Stream(6).bf16(m * k);
    x[128..256].fill(bf16::ZERO);
    x[5] = bf16::from_f32(3000.0);
    // Of tokens without an adapter, so that T stays finite.
    x[10 * 1000 + 130] = bf16::NAN;
    x[11 * 1000 + 7] = bf16::NEG_INFINITY;
    let adapters = Adapters::new(&[64, 8, 256], k);
    let tiles: Vec<u32> = token_tiles(RUNS).into_flattened();
    for split in [1, 3] {
        let call = Call::quantize(shape, tiles.len() as u32 / 3, split, stride);
        call.check().expect("the hardware takes it");
        let scales = (shape.k_blocks() * shape.scale_stride()) as usize;
        let operands = vec![
            (Operand::X, Data::Bytes(bytes_of(&x, bf16::to_le_bytes))),
            (Operand::Codes, Data::Bytes(vec![0xee; (m * k) as usize])),
            (Operand::XScales, Data::Bytes(vec![0xee; scales * 4])),
            (
                Operand::Tokens,
                Data::Bytes(bytes_of(&tiles, u32::to_le_bytes)),
            ),
            (Operand::T, Data::Bytes(vec![0; (m * stride) as usize * 2])),
            (Operand::Parts, Data::Bytes(vec![0xff; call.parts as usize])),
            (
                Operand::Counters,
                Data::Bytes(vec![0; call.counters as usize * 4]),
            ),
        ];
        let outcome = adapters.run(&call, operands, Operand::AOf);
        let found = f32s(&outcome[&Operand::XScales]);
        let t = bf16s(&outcome[&Operand::T]);
        for token in 0..m {
            let row = &x[(token * k) as usize..][..k as usize];
            for (block, values) in row.chunks(128).enumerate() {
                let amax = values
                    .iter()
                    .fold(0f32, |amax, v| amax.max(v.to_f32().abs()));
                let scale = if amax == 0.0 { 1.0 } else { amax / 448.0 };
                assert_eq!(found[shape.x_scale(token, block as u32)], scale);
                for (c, value) in values.iter().enumerate() {
                    let code = E4m3::encode(value.to_f32() / scale, Overflow::Saturate);
                    // There is one NaN, whatever its sign was.
                    let code = if code.is_nan() { 0x7f } else { code.to_bits() };
                    let at = (token * k) as usize + block * 128 + c;
                    assert_eq!(
                        outcome[&Operand::Codes][at],
                        code,
                        "token {token} column {at}"
                    );
                }
            }
            let adapter = adapter_of(token);
            if adapter == NO_ADAPTER {
                continue;
            }
            let a = adapter as usize;
            for r in 0..adapters.ranks[a] {
                let column = &adapters.matrices[a][(r * k) as usize..][..k as usize];
                let dot: f64 = row
                    .iter()
                    .zip(column)
                    .map(|(x, a)| x.to_f64() * a.to_f64())
                    .sum();
                let size: f64 = row
                    .iter()
                    .zip(column)
                    .map(|(x, a)| (x.to_f64() * a.to_f64()).abs())
                    .sum();
                let (ours, factor) = (
                    t[(token * stride + r) as usize].to_f64(),
                    f64::from(adapters.factors[a]),
                );
                let bound = dot.abs() * factor / 200.0 + size * 1e-6 * factor;
                assert!(
                    (ours - dot * factor).abs() <= bound,
                    "token {token} rank {r}: {ours} {dot}"
                );
            }
        }
    }
}

#[test]
fn expanding_adds_each_tokens_own_adapter_and_leaves_the_others() {
    let (m, n, stride) = (42, 150, 256);
    let shape = Shape::new(m, n, 1).expect("not empty");
    let adapters = Adapters::new(&[64, 8, 256], n);
    let t = Stream(99).bf16(m * stride);
    let before: Vec<f32> = Stream(98)
        .bf16(m * n)
        .into_iter()
        .map(bf16::to_f32)
        .collect();
    let mut tiles = token_tiles(RUNS);
    tiles.retain(|tile| tile[2] != NO_ADAPTER);
    let call = Call::expand(shape, tiles.len() as u32, stride, Output::F32);
    call.check().expect("the hardware takes it");
    let operands = vec![
        (Operand::T, Data::Bytes(bytes_of(&t, bf16::to_le_bytes))),
        (
            Operand::Tokens,
            Data::Bytes(bytes_of(&tiles.into_flattened(), u32::to_le_bytes)),
        ),
        (Operand::Y, Data::Bytes(bytes_of(&before, f32::to_le_bytes))),
    ];
    let outcome = adapters.run(&call, operands, Operand::BOf);
    for (at, &ours) in f32s(&outcome[&Operand::Y]).iter().enumerate() {
        let (token, col) = (at as u32 / n, at as u32 % n);
        let mut sum = f64::from(before[at]);
        let adapter = adapter_of(token);
        if adapter != NO_ADAPTER {
            let rank = adapters.ranks[adapter as usize];
            let b = &adapters.matrices[adapter as usize][(col * rank) as usize..][..rank as usize];
            let t = &t[(token * stride) as usize..][..rank as usize];
            sum += t
                .iter()
                .zip(b)
                .map(|(t, b)| t.to_f64() * b.to_f64())
                .sum::<f64>();
        }
        assert!(
            (f64::from(ours) - sum).abs() < 1e-4,
            "token {token} column {col}: {ours} {sum}"
        );
    }
}

/// Mistakes in the text that every product must show: the run deadlocks, faults, or gives other numbers.
const MISTAKES: &[(&str, &str)] = &[
    // The producer waits for a phase that only consumers can end.
    (
        "mb_wait(r.empty + 8 * r.stage, r.phase ^ 1)",
        "mb_wait(r.empty + 8 * r.stage, r.phase)",
    ),
    // The consumer does not wait, or waits for the other phase.
    (
        "#define CONSUMER_BEFORE { mb_wait(r.full + 8 * r.stage, r.phase); }",
        "#define CONSUMER_BEFORE { }",
    ),
    (
        "#define CONSUMER_BEFORE { mb_wait(r.full + 8 * r.stage, r.phase); }",
        "#define CONSUMER_BEFORE { mb_wait(r.full + 8 * r.stage, r.phase ^ 1); }",
    ),
    // One warp too many or too few gives a slot back.
    ("#define EMPTY_ARRIVALS 8u", "#define EMPTY_ARRIVALS 9u"),
    ("#define EMPTY_ARRIVALS 8u", "#define EMPTY_ARRIVALS 1u"),
    // A slot is given back before it is multiplied.
    (
        "slot_product(r, group * 64, product);\n      CONSUMER_GIVE;",
        "CONSUMER_GIVE;\n      slot_product(r, group * 64, product);",
    ),
    // Fewer bytes are expected than come.
    (
        "#define SLOT_BYTES (SLOT_A + SLOT_B + SCALES * 4u)",
        "#define SLOT_BYTES (SLOT_A + SLOT_B)",
    ),
    // The phase is not exchanged at the ring's end.
    ("{ r.stage = 0; r.phase ^= 1; }", "{ r.stage = 0; }"),
    // 16 bytes along k in place of 32.
    (
        "a + 2 * step, b + 2 * step, step != 0",
        "a + step, b + 2 * step, step != 0",
    ),
    // The second warp-group multiplies the first one's rows.
    (
        "slot_product(r, group * 64, product)",
        "slot_product(r, 0, product)",
    ),
    // Scales of the next token, and of the next block of rows.
    (
        "shared_f32(r.s + r.stage * SLOT_S + token * 4)",
        "shared_f32(r.s + r.stage * SLOT_S + (token ^ 1) * 4)",
    ),
    (
        "(u64)(first_row / BLOCK) * k_blocks",
        "(u64)(first_row / BLOCK / 2) * k_blocks",
    ),
    // A part too early, and parts added in another order.
    (
        "const u32 from = split_cut(k_blocks, split, part)",
        "const u32 from = split_cut(k_blocks, split, part) + 1",
    ),
    (
        "for (u32 s = 1; s < split; ++s)\n",
        "for (u32 s = split - 1; s > 0; --s)\n",
    ),
    // The counter is not put back.
    ("if (thread == 0) *counter = 0;", ""),
];

#[test]
fn planted_mistakes_in_the_text_are_found_by_running_it() {
    let tile = decode_tiles()[0];
    // Three parts of five blocks each in a ring of four, so that it turns.
    let tile = Tile { stages: 4, ..tile };
    let case = Case::new((7, 200, 1920), 0, 3);
    let call = Call::decode(tile, case.shape, 0, Output::F32, 3);
    let expected: Vec<u8> = bytes_of(&case.expected(3), f32::to_le_bytes);
    let text = call.kernel.host_program(call.parameters.len());
    let run = Run {
        call: &call,
        operands: case.operands(&call, Output::F32),
        extra: Vec::new(),
        seed: 1,
    };
    let right = |text: &str| {
        let program = program(text);
        // Some mistakes show in some interleavings only.
        (1..6).all(|seed| {
            let run = Run {
                seed,
                operands: case.operands(&call, Output::F32),
                extra: Vec::new(),
                ..run
            };
            run.run(&program).0.is_some_and(|outcome| {
                outcome[&Operand::Y] == expected
                    && outcome[&Operand::Counters].iter().all(|&byte| byte == 0)
            })
        })
    };
    assert!(right(&text), "the text itself is right");
    for (part, mistake) in MISTAKES {
        assert!(text.contains(part), "no longer in the text: {part}");
        let wrong = text.replace(part, mistake);
        assert!(!right(&wrong), "not found: {mistake}");
    }
}
