//! The interface, by its double: what a backend on CUDA must pass too.

use half::bf16;
use xgraft_block_scale::{
    BlockShape, Matrix, QuantizedMatrix, Recipe, ScaleDtype, dequantize, quantize,
};
use xgraft_fp8_gemm::{
    Error,
    call::Output,
    plan::{Gpu, Table},
    products::{Emulated, Factors, Products, Run},
};

/// Numbers without a pattern, from -1 to 1.
fn numbers(len: usize, seed: u64) -> Vec<bf16> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bf16::from_f32((state >> 40) as f32 / (1 << 23) as f32 - 1.0)
    };
    (0..len).map(|_| next()).collect()
}

fn bytes(numbers: &[bf16]) -> Vec<u8> {
    numbers.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    let words = bytes.chunks_exact(4);
    words
        .map(|word| f32::from_le_bytes(word.try_into().expect("four")))
        .collect()
}

fn weight(n: usize, k: usize) -> QuantizedMatrix {
    let data = (0..n * k)
        .map(|i| (i as f32 * 0.731).sin() * 0.05)
        .collect();
    let recipe = Recipe::f32(BlockShape::B128, ScaleDtype::F32);
    quantize(&Matrix::new(n, k, data), &recipe).expect("finite")
}

fn backend() -> Emulated {
    Emulated::new(Gpu::H100, Table::default())
}

/// m, n, k of the tests: ragged in n and k.
const M: usize = 5;
const N: usize = 200;
const K: usize = 400;

/// Y in f64 of the numbers that went in, and of each token's own adapter.
fn exact(
    x: &[bf16],
    w: &QuantizedMatrix,
    adapters: &[&Factors<'_>],
    of: &[Option<usize>],
) -> Vec<f64> {
    let w = dequantize(w);
    let dot = |a: &[bf16], b: &[bf16]| -> f64 {
        a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64()).sum()
    };
    let mut y = Vec::new();
    for (row, adapter) in x.chunks_exact(K).zip(of) {
        for col in 0..N {
            let base = row.iter().zip(&w.data[col * K..][..K]);
            let mut sum: f64 = base.map(|(x, w)| x.to_f64() * f64::from(*w)).sum();
            if let Some(f) = adapter.map(|adapter| adapters[adapter]) {
                let rank = f.rank as usize;
                let b = &f.b[col * rank..][..rank];
                let t =
                    f.a.chunks_exact(K)
                        .map(|a| dot(row, a) * f64::from(f.factor));
                sum += t.zip(b).map(|(t, b)| t * b.to_f64()).sum::<f64>();
            }
            y.push(sum);
        }
    }
    y
}

#[track_caller]
fn assert_near(ours: &[f32], exact: &[f64]) {
    let norm: f64 = exact.iter().map(|y| y * y).sum();
    let error: f64 = ours
        .iter()
        .zip(exact)
        .map(|(a, b)| (f64::from(*a) - b).powi(2))
        .sum();
    // Activations are rounded to E4M3, 2.6 % of each.
    assert!((error / norm).sqrt() < 0.04, "{}", (error / norm).sqrt());
}

#[test]
fn base_uniform_and_mixed_adapters_are_near_the_exact_product() {
    let w = weight(N, K);
    let x = numbers(M * K, 37);
    let (a0, b0) = (numbers(64 * K, 11), numbers(64 * N, 13));
    let (a1, b1) = (numbers(8 * K, 17), numbers(8 * N, 19));
    let factors = [
        Factors {
            rank: 64,
            factor: 0.02,
            a: &a0,
            b: &b0,
        },
        Factors {
            rank: 8,
            factor: 0.1,
            a: &a1,
            b: &b1,
        },
    ];
    let mut backend = backend();
    let on = backend.weight(&w).expect("right");
    let adapters = factors.map(|f| backend.adapter(&on, &f).expect("right"));
    let (m, n, k) = (M as u32, N as u32, K as u32);
    backend.reserve(m, n, k, 64).expect("room");
    let x_on = backend.write(&bytes(&x)).expect("room");
    let run = |tokens, adapter| Run { tokens, adapter };
    for runs in [
        vec![run(5, None)],
        vec![run(5, Some(0))],
        vec![run(2, Some(1)), run(0, None), run(3, Some(1))],
        vec![run(2, Some(1)), run(1, None), run(2, Some(0))],
    ] {
        let quantized = backend
            .quantize(&x_on, (M as u32, K as u32), &adapters, &runs)
            .expect("right");
        let y = backend
            .multiply(&quantized, &on, &adapters, Output::F32)
            .expect("right");
        let of: Vec<_> = runs
            .iter()
            .flat_map(|run| vec![run.adapter; run.tokens as usize])
            .collect();
        let y = f32s(&backend.read(&y).expect("read"));
        assert_near(&y, &exact(&x, &w, &[&factors[0], &factors[1]], &of));
    }
}

#[test]
fn a_token_has_the_same_bits_alone_and_in_a_batch_of_the_same_plan() {
    let w = weight(N, K);
    let x = numbers(M * K, 21);
    let mut backend = backend();
    let on = backend.weight(&w).expect("right");
    let mut multiply = |x: &[bf16]| {
        let m = (x.len() / K) as u32;
        let run = Run {
            tokens: m,
            adapter: None,
        };
        let x = backend.write(&bytes(x)).expect("room");
        let x = backend
            .quantize(&x, (m, K as u32), &[], &[run])
            .expect("right");
        let y = backend.multiply(&x, &on, &[], Output::Bf16).expect("right");
        backend.read(&y).expect("read")
    };
    let all = multiply(&x);
    for (row, together) in x.chunks_exact(K).zip(all.chunks_exact(N * 2)) {
        assert!(multiply(row) == together);
    }
}

#[test]
fn what_cannot_be_multiplied_is_refused_by_name() {
    let mut backend = backend();
    let mut wrong = weight(N, K);
    wrong.block = BlockShape::ROW;
    assert!(matches!(
        backend.weight(&wrong),
        Err(Error::Weight {
            what: "scales of blocks",
            ..
        })
    ));
    let mut wrong = weight(N, K);
    wrong.scales[3] = f32::NAN;
    assert!(matches!(backend.weight(&wrong), Err(Error::Weight { .. })));

    let on = backend.weight(&weight(N, K)).expect("right");
    let (a, b) = (numbers(12 * K, 1), numbers(12 * N, 1));
    let odd = Factors {
        rank: 12,
        factor: 1.0,
        a: &a,
        b: &b,
    };
    assert!(matches!(
        backend.adapter(&on, &odd),
        Err(Error::Rank { rank: 12 })
    ));
    let short = Factors {
        rank: 8,
        factor: 1.0,
        a: &a,
        b: &b[..8 * N],
    };
    assert!(matches!(
        backend.adapter(&on, &short),
        Err(Error::Length { what: "lora_a", .. })
    ));

    let x = backend.write(&bytes(&numbers(M * K, 1))).expect("room");
    let run = Run {
        tokens: 4,
        adapter: None,
    };
    let quantized = backend.quantize(&x, (M as u32, K as u32), &[], &[run]);
    assert!(matches!(
        quantized,
        Err(Error::Length {
            what: "the tokens of all runs",
            ..
        })
    ));
}

#[test]
fn an_adapter_without_tokens_changes_nothing() {
    let (w, x) = (weight(N, K), numbers(M * K, 7));
    let mut backend = backend();
    let weight = backend.weight(&w).expect("fits");
    let factors = |rank: u32, seed: u64| {
        let (a, b) = (
            numbers(rank as usize * K, seed),
            numbers(N * rank as usize, seed + 1),
        );
        (rank, a, b)
    };
    let made = [factors(8, 20), factors(64, 30)];
    let adapters: Vec<_> = made
        .iter()
        .map(|(rank, a, b)| {
            let factors = Factors {
                rank: *rank,
                factor: 0.5,
                a,
                b,
            };
            backend.adapter(&weight, &factors).expect("fits")
        })
        .collect();
    let x = backend.write(&bytes(&x)).expect("room");
    let all = Run {
        tokens: M as u32,
        adapter: Some(0),
    };
    let none = Run {
        tokens: 0,
        adapter: Some(1),
    };
    let mut y = |runs: &[Run]| {
        let shape = (M as u32, K as u32);
        let quantized = backend
            .quantize(&x, shape, &adapters, runs)
            .expect("quantized");
        let y = backend.multiply(&quantized, &weight, &adapters, Output::F32);
        y.expect("multiplied")
    };
    assert!(y(&[all, none]) == y(&[all]));
}
