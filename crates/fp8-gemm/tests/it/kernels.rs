//! Every kernel's text, run on the CPU, against the emulator: f32 bit for bit where the tensor core's model is exact.

use xgraft_fp8_gemm::{
    Shape,
    call::{Call, Operand, Output},
    kernel::{Form, Kernel, Tile, all},
    plan::{Choice, Gpu},
    schedule::Parts,
    trial::{Case, Content, Run, Stream, Verdict, expand, quantize},
};

use crate::host::{Host, program, run_program};

fn case((m, n, k): (u32, u32, u32), rank: u32, content: Content, seed: u64) -> Case {
    let shape = Shape::new(m, n, k).expect("not empty");
    Case::new(shape, rank, content, seed)
}

#[track_caller]
fn assert_right(name: &str, verdict: Result<Verdict, String>) {
    let verdict = verdict.unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(verdict.is_right(), "{name}: {verdict:?}");
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
        let shape = (tile.rows_a + 9, 2 * tile.rows_b + 8, 1200);
        let case = case(shape, rank, Content::Random, i as u64 + 1);
        for multiprocessors in [2, 7] {
            let gpu = Gpu {
                multiprocessors,
                ..Gpu::H100
            };
            let (band, cut) = (2, multiprocessors == 7);
            let choice = Choice::Prefill { tile, band, cut };
            let call = choice.call(gpu, case.shape, rank, Output::F32);
            assert_eq!(call.counters > 0, cut, "{}", call.kernel.name());
            let verdict = case.judge(&Host, &call, Output::F32, (choice.parts(gpu), 0));
            assert_right(&format!("{} cut {cut}", call.kernel.name()), verdict);
        }
    }
}

/// Over so many blocks.
fn decode(case: &Case, tile: Tile, rank: u32, output: Output, blocks: u32) -> (Call, Parts) {
    let call = Call::decode(tile, case.shape, rank, output, blocks);
    (call, Choice::Decode { tile, blocks }.parts(Gpu::H100))
}

fn prefill(case: &Case, tile: Tile, output: Output) -> (Call, Parts) {
    let call = Call::prefill(tile, case.shape, 0, output, (8, false), 132);
    (call, Parts::Whole)
}

#[test]
fn decode_gives_the_emulators_bits_wherever_tiles_are_cut() {
    for (i, tile) in decode_tiles().into_iter().enumerate() {
        let rank = if tile.lora {
            [8, 64, 72, 128, 16][i / 2 % 5]
        } else {
            0
        };
        // Three parts of each tile, whole tiles, cuts anywhere, as many blocks as slots, and cut tiles before whole ones.
        let products = [
            (1, 136, 6),
            (tile.rows_b, 136, 2),
            (tile.rows_b + 3, 136, 7),
            (2, 136, 132),
            (3, 600, 2),
        ];
        for (m, n, blocks) in products {
            let case = case((m, n, 1712), rank, Content::Random, i as u64 + 11);
            let (call, parts) = decode(&case, tile, rank, Output::F32, blocks);
            let verdict = case.judge(&Host, &call, Output::F32, (parts, 0));
            let name = format!("{} m {m} n {n} over {blocks}", call.kernel.name());
            assert_right(&name, verdict);
        }
    }
}

#[test]
fn hostile_numbers_give_the_emulators_bits() {
    for content in [
        Content::Zeros,
        Content::Largest,
        Content::Smallest,
        Content::WideScales,
        Content::Nans,
    ] {
        let case = case((3, 140, 1040), 0, content, 2);
        let tiles = [prefill_tiles()[0], prefill_tiles()[4]];
        let [alone, paired] = tiles.map(|tile| prefill(&case, tile, Output::F32));
        assert_eq!(paired.0.launch.cluster.0, 2);
        let decode = decode(&case, decode_tiles()[0], 0, Output::F32, 5);
        for (call, parts) in [decode, alone, paired] {
            let verdict = case.judge(&Host, &call, Output::F32, (parts, 0));
            assert_right(&format!("{} {content:?}", call.kernel.name()), verdict);
        }
    }
}

#[test]
fn nan_codes_poison_exactly_their_row_and_column() {
    let case = case((3, 140, 256), 0, Content::Nans, 2);
    for (at, value) in case.expected(Parts::Whole).into_iter().enumerate() {
        assert_eq!(value.is_nan(), at / 140 == 1 || at % 140 == 139, "{at}");
    }
}

#[test]
fn the_order_of_blocks_warps_and_copies_changes_no_bit() {
    let case = case((5, 130, 2096), 0, Content::Random, 5);
    let few = decode(&case, decode_tiles()[0], 0, Output::F32, 7);
    let many = prefill(&case, prefill_tiles()[4], Output::F32);
    for (call, parts) in [few, many] {
        let verdict = case.judge(&Host, &call, Output::F32, (parts, 10));
        assert_right(&call.kernel.name(), verdict);
    }
}

#[test]
fn bf16_output_is_the_f32_rounded_to_nearest_even_whatever_n_is() {
    for n in [131, 132, 136, 192] {
        let case = case((6, n, 272), 0, Content::Random, 9);
        for (call, parts) in [
            decode(&case, decode_tiles()[0], 0, Output::Bf16, 2),
            prefill(&case, prefill_tiles()[0], Output::Bf16),
        ] {
            let verdict = case.judge(&Host, &call, Output::Bf16, (parts, 0));
            assert_right(&format!("{} n {n}", call.kernel.name()), verdict);
        }
    }
}

#[test]
fn the_plain_kernel_is_right_for_any_n_and_k() {
    for shape in [(70, 133, 301), (1, 1, 1), (64, 64, 128), (3, 260, 129)] {
        let case = case(shape, 0, Content::Random, 4);
        let call = Call::plain(Form::Hopper, case.shape, Output::F32);
        assert_right(&format!("{shape:?}"), case.judge_plain(&Host, &call));
    }
}

#[test]
fn w8a16_is_right_for_ragged_n_and_k() {
    for (m, n, k) in [(1, 9, 1552), (3, 140, 528), (6, 300, 16)] {
        let case = case((m, n, k), 0, Content::Random, 8);
        let tokens = Stream::new(77).bf16((m * k) as usize);
        assert_right(&format!("{m} {n} {k}"), case.judge_w8a16(&Host, &tokens));
    }
}

#[test]
fn quantizing_gives_the_codecs_codes_and_shrinks_each_tokens_own_adapter() {
    for (form, split) in [(Form::Hopper, 1), (Form::Hopper, 3), (Form::Ptx, 2)] {
        let verdict = quantize(&Host, form, split, 0);
        assert_right(&format!("{form:?} split {split}"), verdict);
    }
}

#[test]
fn expanding_adds_each_tokens_own_adapter_and_leaves_the_others() {
    assert_right("expand", expand(&Host, Form::Hopper, 0));
}

/// Another result than the right one must be seen.
#[test]
fn a_wrong_number_a_wrong_repeat_and_a_counter_that_is_left_are_seen() {
    use xgraft_fp8_gemm::trial::{Machine, Outcome};
    type Spoil = fn(&mut Outcome);
    struct Spoilt(Spoil);
    impl Machine for Spoilt {
        fn outcome(&self, run: &Run<'_>) -> Result<Outcome, String> {
            let mut outcome = Host.outcome(run)?;
            (self.0)(&mut outcome);
            Ok(outcome)
        }
    }
    let case = case((2, 130, 272), 0, Content::Random, 3);
    let (call, parts) = decode(&case, decode_tiles()[0], 0, Output::F32, 3);
    let judge = |spoil| case.judge(&Spoilt(spoil), &call, Output::F32, (parts, 0));
    assert_right("as it is", judge(|_| {}));
    // One bit less is another sum, but as near; the sign is not.
    let bit: Spoil = |outcome| outcome.operands.get_mut(&Operand::Y).expect("Y")[4 * 131] ^= 1;
    let sign: Spoil =
        |outcome| outcome.operands.get_mut(&Operand::Y).expect("Y")[4 * 131 + 3] ^= 0x80;
    let verdict = judge(bit).expect("it ran");
    assert!(!verdict.is_right() && verdict.is_usable(), "{verdict:?}");
    assert!(!judge(sign).expect("it ran").is_usable());
    let spoils: [Spoil; 3] = [
        |outcome| outcome.operands.get_mut(&Operand::Y).expect("Y")[4 * 131] ^= 1,
        |outcome| {
            outcome
                .operands
                .get_mut(&Operand::Counters)
                .expect("counters")[0] = 1;
        },
        |outcome| outcome.unsteady = 1,
    ];
    for spoil in spoils {
        assert!(!judge(spoil).expect("it ran").is_right());
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
        "slot_product(r, group * 64, product);\n        CONSUMER_GIVE;",
        "CONSUMER_GIVE;\n        slot_product(r, group * 64, product);",
    ),
    // Fewer bytes are expected than come.
    (
        "#define SLOT_BYTES (SLOT_A + SLOT_B + SCALES * 4u)",
        "#define SLOT_BYTES (SLOT_A + SLOT_B)",
    ),
    // More W is brought than the ring holds, before any tokens.
    ("#define EARLY 4u", "#define EARLY 5u"),
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
    // A block begins a slot too late, or keeps its second part where its first is.
    (
        "{stream_cut(total, t.workers, worker), stream_cut",
        "{stream_cut(total, t.workers, worker) + 1, stream_cut",
    ),
    (
        "float4* mine = worker == first ? of_first :",
        "float4* mine =",
    ),
    // Parts added in another order.
    (
        "s == 0 ? of_first : of_others + s * step",
        "s == last - first ? of_first : of_others + (last - first - s) * step",
    ),
    // Tokens are read before the kernel in front has ended.
    (
        "if (!waited) {\n          wait_for_previous();",
        "if (!waited) {",
    ),
    // Tokens of the wrong slot, and of the wrong place in the ring.
    ("for (; ahead > 0; --ahead)", "for (; ahead > 1; --ahead)"),
    ("if (++stage == STAGES) stage = 0;", ""),
    // The counter is not put back.
    ("if (last) *counter = 0;", ""),
];

/// And of blocks that share their tokens.
const MISTAKES_OF_CLUSTERS: &[(&str, &str)] = &[
    // A slot is given back to its own block alone, or counted so.
    (
        "if (lane < CLUSTER) mb_arrive_at(r.empty + 8 * r.stage, lane);",
        "if (lane == 0) mb_arrive_at(r.empty + 8 * r.stage, blockIdx.x % CLUSTER);",
    ),
    ("#define EMPTY_ARRIVALS 16u", "#define EMPTY_ARRIVALS 8u"),
    // A block's share comes to its own ring alone, or is the other's.
    (
        "if (CLUSTER > 1) tma_load_all(to, map, bar, x, y, ALL_BLOCKS, policy);",
        "if (CLUSTER > 1) tma_load(to, map, bar, x, y, policy);",
    ),
    (
        "const u32 to_a = r.a + rank * SHARE_A * 128",
        "const u32 to_a = r.a + (1 - rank) * SHARE_A * 128",
    ),
    ("to_s = r.s + rank * SHARE_S * 4", "to_s = r.s"),
    // The pair's rows of W are one block's, and scales are read beyond the last.
    (
        "first_row = (work.j * CLUSTER + rank) * ROWS_B;\n#pragma",
        "first_row = work.j * CLUSTER * ROWS_B;\n#pragma",
    ),
    // A block ends, or begins, while the other one is not there.
    (
        "if (CLUSTER > 1) cluster_sync();  // nobody ends",
        "// nobody ends",
    ),
    (
        "if (CLUSTER > 1) cluster_sync();\n  else __syncthreads();",
        "__syncthreads();",
    ),
    // A block adds its parts to its neighbour's, or whole tiles come twice.
    (
        "counters + first * CLUSTER + rank",
        "counters + first * CLUSTER",
    ),
    ("t.cut + worker, 0", "worker, 0"),
    // A quad's words are not turned.
    ("turn_quad(eight, lane);", ""),
];

/// Whether a text gives what it must, in every one of some interleavings.
fn is_right(run: &Run<'_>, text: &str, expected: &[u8]) -> bool {
    let program = program(text);
    // Some mistakes show in some interleavings only.
    (1..8).all(|seed| {
        run_program(run, &program, seed).is_ok_and(|outcome| {
            outcome[&Operand::Y] == expected
                && outcome[&Operand::Counters].iter().all(|&byte| byte == 0)
        })
    })
}

fn assert_found(run: &Run<'_>, expected: &[u8], mistakes: &[(&str, &str)]) {
    let text = run.call.kernel.host_program(run.call.parameters.len());
    assert!(is_right(run, &text, expected), "the text itself is right");
    for (part, mistake) in mistakes {
        assert!(text.contains(part), "no longer in the text: {part}");
        let wrong = text.replace(part, mistake);
        assert!(!is_right(run, &wrong, expected), "not found: {mistake}");
    }
}

#[test]
fn planted_mistakes_in_the_text_are_found_by_running_it() {
    // Four blocks with eight slots each of two tiles of 15, in a ring of four, so that it turns.
    let tile = Tile {
        stages: 4,
        ..decode_tiles()[0]
    };
    let case = case((7, 200, 1920), 0, Content::Random, 3);
    let (call, parts) = decode(&case, tile, 0, Output::F32, 5);
    let expected = case.expected(parts).into_iter().flat_map(f32::to_le_bytes);
    let run = Run {
        call: &call,
        operands: case.operands(&call, Output::F32),
        extra: Vec::new(),
        repeats: 0,
    };
    assert_found(&run, &expected.collect::<Vec<_>>(), MISTAKES);
}

#[test]
fn planted_mistakes_of_clusters_are_found_by_running_it() {
    let tile = Tile {
        stages: 2,
        ..prefill_tiles()[4]
    };
    assert_eq!(tile.cluster, 2);
    // Ten pairs of tiles for four clusters: six are cut, four whole.
    let case = case((130, 1100, 400), 0, Content::Random, 3);
    let choice = Choice::Prefill {
        tile,
        band: 8,
        cut: true,
    };
    let gpu = Gpu {
        multiprocessors: 8,
        ..Gpu::H100
    };
    let (call, parts) = (
        choice.call(gpu, case.shape, 0, Output::Bf16),
        choice.parts(gpu),
    );
    let expected = case.expected(parts).into_iter();
    let expected = expected.flat_map(|y| half::bf16::from_f32(y).to_le_bytes());
    let run = Run {
        call: &call,
        operands: case.operands(&call, Output::Bf16),
        extra: Vec::new(),
        repeats: 0,
    };
    assert_found(&run, &expected.collect::<Vec<_>>(), MISTAKES_OF_CLUSTERS);
}
