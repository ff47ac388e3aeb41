//! Noise whose place is known because it was put there.

use crate::dense::{Mat, near};
use crate::made::{Made, compared, q_proj};

const ROWS: usize = 120;
const COLS: usize = 168;
const RANK: usize = 6;

/// B, A and L = B·A.
fn update() -> (Mat, Mat, Mat) {
    let (b, a) = (Mat::normal(ROWS, RANK, 1), Mat::normal(RANK, COLS, 2));
    let l = b.times(&a);
    (b, a, l)
}

/// What is known of the noise W + N − W beside L, for a planted N.
fn measured(n: &Mat) -> xgraft_orthogonality::NoiseReport {
    let made = Made::new();
    let (b, a, _) = update();
    let w = Mat::normal(ROWS, COLS, 3);
    let q = w.plus(n);
    let adapter = made.adapter("a", RANK as f64, &[(&q_proj(0), &b, &a)]);
    let noises = [made.noise("n", &[w], &[q])];
    let report = compared(&noises, &adapter, None).unwrap();
    report.modules[0].noises[0].clone()
}

/// A matrix with nothing in the column or the row space of L, of norm 1.
fn outside() -> Mat {
    let (b, a, _) = update();
    let (u, v) = (b.basis(), a.t().basis());
    let g = Mat::normal(ROWS, COLS, 4);
    let g = g.minus(&u.times(&u.t().times(&g)));
    let g = g.minus(&g.times(&v).times(&v.t()));
    g.scale(1.0 / g.norm())
}

#[test]
fn a_component_along_the_update_is_found_in_full() {
    let (_, _, l) = update();
    let (cos, sin) = (0.3, (1.0f64 - 0.09).sqrt());
    let n = l
        .scale(cos / l.norm())
        .plus(&outside().scale(sin))
        .scale(20.0);
    let found = measured(&n);
    near(found.norm, 20.0, 1e-5);
    near(found.cosine.value, cos, 1e-5);
    near(found.left.energy, cos * cos, 1e-5);
    near(found.right.energy, cos * cos, 1e-5);
    near(found.inside.energy, cos * cos, 1e-5);
    assert!(found.shuffled.z.abs() < 4.0, "{}", found.shuffled.z);
}

#[test]
fn the_sign_is_that_of_dequantized_minus_original() {
    let (_, _, l) = update();
    let found = measured(&l.scale(-0.01));
    near(found.cosine.value, -1.0, 1e-5);
    near(found.left.energy, 1.0, 1e-5);
    near(found.right.norm, 1.0, 1e-5);
    near(found.over_adapter, 0.01, 1e-5);
    near(found.snr_inside_db.unwrap(), 40.0, 1e-5);
}

#[test]
fn noise_outside_the_spaces_has_no_leakage_and_no_cosine() {
    let found = measured(&outside().scale(10.0));
    assert!(found.left.energy < 1e-10, "{}", found.left.energy);
    assert!(found.right.energy < 1e-10, "{}", found.right.energy);
    assert!(found.cosine.value.abs() < 1e-6, "{}", found.cosine.value);
}

#[test]
fn an_update_inside_the_noises_space_leaks_only_on_that_side() {
    // N = U·M with M of no relation to V: all of it in the column space, r/n of it in the row space
    let (b, _, _) = update();
    let n = b.basis().times(&Mat::normal(RANK, COLS, 8));
    let found = measured(&n);
    near(found.left.energy, 1.0, 1e-5);
    let chance = found.right.energy_chance;
    assert!(
        found.right.energy < 2.0 * chance,
        "{} {chance}",
        found.right.energy
    );
    assert!(
        found.over_white_edge > 2.0,
        "rank {RANK} stands out: {}",
        found.over_white_edge
    );
}
