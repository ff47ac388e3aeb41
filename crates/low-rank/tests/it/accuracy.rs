//! The factors are what they should be.

use xgraft_low_rank::{Config, Factors, Stop, exact_singular_values};

use crate::planted::{Planted, power_law, rank, spectra};

/// Largest deviation of `XᵀX` from the identity.
fn deviation(x: &[f32], r: usize) -> f64 {
    let mut gram = vec![0.0_f64; r * r];
    for row in x.chunks_exact(r.max(1)) {
        for (i, a) in row.iter().enumerate() {
            row.iter()
                .enumerate()
                .for_each(|(j, b)| gram[i * r + j] += f64::from(*a) * f64::from(*b));
        }
    }
    let expected = |at: usize| if at / r == at % r { 1.0 } else { 0.0 };
    gram.iter()
        .enumerate()
        .map(|(at, x)| (x - expected(at)).abs())
        .fold(0.0, f64::max)
}

fn assert_orthonormal(name: &str, found: &Factors) {
    let r = found.rank();
    assert_eq!(
        (found.u.len(), found.v.len()),
        (found.rows * r, found.cols * r),
        "{name}"
    );
    let (u, v) = (deviation(&found.u, r), deviation(&found.v, r));
    assert!(u < 1e-5 && v < 1e-5, "{name}: deviations {u:e} and {v:e}");
}

#[test]
fn singular_vectors_are_orthonormal() {
    for (name, spectrum) in spectra(260) {
        for (rows, cols) in [(260, 330), (330, 260)] {
            let found = Planted::new(rows, cols, &spectrum, 2).svd(&rank(16));
            assert_orthonormal(name, &found);
        }
    }
}

#[test]
fn planted_singular_values_are_found() {
    for (rows, cols) in [(200, 500), (500, 200), (64, 64)] {
        let spectrum = power_law(64, 1.0);
        let found = Planted::new(rows, cols, &spectrum, 9).svd(&rank(12));
        for (k, (found, planted)) in found.singular_values.iter().zip(&spectrum).enumerate() {
            assert!(
                (found / planted - 1.0).abs() < 1e-3,
                "{rows} x {cols}, value {k}: {found} for {planted}"
            );
        }
    }
}

#[test]
fn exact_singular_values_are_exact() {
    let spectrum = power_law(90, 1.5);
    let d = Planted::new(90, 140, &spectrum, 4);
    for (found, planted) in exact_singular_values(&d.source())
        .unwrap()
        .iter()
        .zip(&spectrum)
    {
        assert!((found - planted).abs() < 1e-6, "{found} for {planted}");
    }
}

#[test]
fn a_planted_rank_is_found_and_no_more() {
    let d = Planted::new(300, 500, &power_law(20, 0.5), 6);
    for config in [
        rank(32),
        Config {
            block: Some(8),
            ..rank(32)
        },
    ] {
        let found = d.svd(&config);
        assert_eq!(found.rank(), 20);
        assert!(found.residual2(20) < 1e-12 * found.norm2);
        assert_orthonormal("rank 20", &found);
    }
}

#[test]
fn singular_values_over_five_orders_of_magnitude_are_resolved() {
    let spectrum: Vec<f64> = (0..30)
        .map(|k| 10.0_f64.powf(-5.0 * k as f64 / 29.0))
        .collect();
    let d = Planted::new(400, 300, &spectrum, 8);
    let found = d.svd(&Config {
        block: Some(16),
        ..rank(30)
    });
    assert_orthonormal("five orders", &found);
    for (found, planted) in found.singular_values.iter().zip(&spectrum) {
        assert!(
            (found - planted).abs() < 1e-2 * planted + 1e-7,
            "{found} for {planted}"
        );
    }
}

#[test]
fn the_scale_of_the_matrix_does_not_matter() {
    let plain = Planted::new(200, 300, &power_law(50, 1.0), 12);
    let expected = plain.svd(&rank(8));
    for scale in [1e-25_f32, 1e-10, 1e10, 1e15] {
        let data = plain.data.iter().map(|x| x * scale).collect();
        let found = Planted {
            data,
            ..Planted {
                rows: 200,
                cols: 300,
                data: Vec::new(),
            }
        }
        .svd(&rank(8));
        for (found, expected) in found.singular_values.iter().zip(&expected.singular_values) {
            let ratio = found / expected / f64::from(scale);
            assert!((ratio - 1.0).abs() < 1e-4, "scale {scale}: {ratio}");
        }
    }
}

#[test]
fn energy_asks_for_as_few_triplets_as_keep_the_share() {
    let spectrum = power_law(100, 1.0);
    let d = Planted::new(400, 500, &spectrum, 13);
    let total: f64 = spectrum.iter().map(|s| s * s).sum();
    let mut kept = 0.0;
    let wanted = spectrum
        .iter()
        .position(|s| {
            kept += s * s;
            kept >= 0.95 * total
        })
        .unwrap()
        + 1;
    let found = d.svd(&Config {
        stop: Stop::Energy {
            share: 0.95,
            cap: 64,
        },
        ..Config::default()
    });
    assert_eq!(found.rank(), wanted);
    assert!(found.captured2(wanted) >= 0.9499 * found.norm2);
    let capped = d.svd(&Config {
        stop: Stop::Energy {
            share: 0.999,
            cap: 10,
        },
        ..Config::default()
    });
    assert_eq!(capped.rank(), 10);
}

#[test]
fn an_edge_asks_for_what_stands_out_of_it() {
    let spectrum: Vec<f64> = (0..300).map(|k| if k < 21 { 3.0 } else { 0.5 }).collect();
    let d = Planted::new(300, 420, &spectrum, 14);
    let found = d.svd(&Config {
        stop: Stop::Edge {
            sigma: 1.0,
            cap: 64,
        },
        ..Config::default()
    });
    assert_eq!(found.rank(), 21);
    let none = d.svd(&Config {
        stop: Stop::Edge {
            sigma: 10.0,
            cap: 64,
        },
        ..Config::default()
    });
    assert_eq!(none.rank(), 0);
}

#[test]
fn truncation_keeps_the_first_triplets_and_their_residual() {
    let d = Planted::new(120, 150, &power_law(120, 0.7), 15);
    let mut found = d.svd(&rank(20));
    let (full, said) = (found.clone(), found.residual2(7));
    found.truncate(7);
    assert_eq!(
        (found.rank(), found.u.len(), found.v.len()),
        (7, 120 * 7, 150 * 7)
    );
    assert_eq!(found.u[7..14], full.u[20..27]);
    assert!((found.measure(&d.source()) / said - 1.0).abs() < 1e-5);
    assert_eq!(found.residual2(7), said);
}

#[test]
fn tiny_shapes_work() {
    for (rows, cols) in [(1, 1), (1, 9), (9, 1), (2, 3), (5, 5)] {
        let spectrum = power_law(rows.min(cols), 1.0);
        let found = Planted::new(rows, cols, &spectrum, 16).svd(&rank(64));
        assert_eq!(found.rank(), rows.min(cols), "{rows} x {cols}");
        assert_orthonormal("tiny", &found);
        assert!(found.residual2(found.rank()) < 1e-12);
    }
}

#[test]
fn an_eigenvalue_more_frequent_than_a_block_is_wide_is_found_in_full() {
    let spectrum: Vec<f64> = (0..200).map(|k| if k < 50 { 2.0 } else { 1.0 }).collect();
    let d = Planted::new(240, 200, &spectrum, 17);
    let found = d.svd(&Config {
        block: Some(8),
        ..rank(40)
    });
    assert_eq!(found.rank(), 40);
    assert!(found.basis < 200);
    assert!(
        found.singular_values.iter().all(|s| (s - 2.0).abs() < 1e-4),
        "{:?}",
        found.singular_values
    );
}
