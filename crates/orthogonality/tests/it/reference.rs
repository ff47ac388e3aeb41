//! Every quantity against its definition, on a small odd shape.

use crate::dense::{Mat, near};
use crate::made::{Made, compared, noise, q_proj};

const ROWS: usize = 200;
const COLS: usize = 136;
const RANK: usize = 5;
const ALPHA: f64 = 2.0;

#[test]
fn every_quantity_is_that_of_the_dense_matrices() {
    let made = Made::new();
    let (b, a) = (Mat::normal(ROWS, RANK, 1), Mat::normal(RANK, COLS, 2));
    let l = b.times(&a).scale(ALPHA / RANK as f64);
    let w = Mat::normal(ROWS, COLS, 3);
    // not orthogonal to L, and with one direction that stands out, so that power iteration settles
    let bump = Mat::normal(ROWS, 1, 5).times(&Mat::normal(1, COLS, 6));
    let q = w
        .plus(&Mat::normal(ROWS, COLS, 4).scale(0.03))
        .plus(&l.scale(0.002))
        .plus(&bump.scale(0.01))
        .stored();
    let n = q.minus(&w);
    let module = q_proj(0);
    let adapter = made.adapter("adapter", ALPHA, &[(&module, &b, &a)]);
    let noises = [made.noise("n", std::slice::from_ref(&w), &[q])];

    let report = compared(&noises, &adapter, None).unwrap();
    assert!(report.passed(), "{:?}", report.findings);
    let found = &report.modules[0];
    assert_eq!(found.shape, [ROWS, COLS]);
    assert_eq!(
        (found.layer, found.projection.as_str()),
        (Some(0), "q_proj")
    );
    assert_eq!(found.update.rank, RANK);
    const E: f64 = 1e-5;
    near(found.update.norm, l.norm(), E);
    near(found.update.singular_values[0], l.spectral_norm(), E);
    near(
        found.update.stable_rank,
        (l.norm() / l.spectral_norm()).powi(2),
        E,
    );

    let (n2, l2) = (n.inner(&n), l.inner(&l));
    let noise = &found.noises[0];
    near(noise.norm, n.norm(), E);
    near(noise.weight_norm, w.norm(), E);
    near(noise.over_weight, n.norm() / w.norm(), E);
    near(noise.over_adapter, n.norm() / l.norm(), E);
    near(noise.adapter_over_weight, l.norm() / w.norm(), E);
    near(noise.singular_values[0], n.spectral_norm(), E);
    near(noise.stable_rank, n2 / n.spectral_norm().powi(2), E);

    let elements = (ROWS * COLS) as f64;
    let cosine = n.inner(&l) / (n2 * l2).sqrt();
    near(noise.cosine.value, cosine, E);
    near(noise.cosine.z, cosine * elements.sqrt(), E);
    near(
        noise.cosine.chance,
        (2.0 / (std::f64::consts::PI * elements)).sqrt(),
        1e-12,
    );

    let (u, v) = (b.basis(), a.t().basis());
    let (left, right) = (u.t().times(&n), n.times(&v));
    let inside = left.times(&v);
    near(noise.left.energy, left.inner(&left) / n2, E);
    near(noise.left.norm, left.norm() / n.norm(), E);
    near(noise.left.energy_chance, 5.0 / 200.0, 1e-12);
    near(noise.left.norm_chance, (5.0f64 / 200.0).sqrt(), 1e-12);
    near(noise.right.energy, right.inner(&right) / n2, E);
    near(noise.right.energy_chance, 5.0 / 136.0, 1e-12);
    near(noise.inside.energy, inside.inner(&inside) / n2, E);
    near(noise.inside.energy_chance, 25.0 / elements, 1e-12);
    near(
        noise.snr_inside_db.unwrap(),
        10.0 * (l2 / inside.inner(&inside)).log10(),
        E,
    );
    near(
        noise.snr_left_db.unwrap(),
        10.0 * (l2 / left.inner(&left)).log10(),
        E,
    );
    assert_eq!(noise.other_layer, None);
}

#[test]
fn a_cosine_at_chance_level_is_right_to_a_small_part_of_its_spread() {
    let made = Made::new();
    let (rows, cols) = (700, 900);
    let (b, a) = (Mat::normal(rows, 16, 31), Mat::normal(16, cols, 32));
    let l = b.times(&a);
    let w = Mat::normal(rows, cols, 33);
    let q = w.map(|x| (x * 7.0).round() / 7.0).stored();
    let n = q.minus(&w);
    let adapter = made.adapter("a", 16.0, &[(&q_proj(0), &b, &a)]);
    let noises = [made.noise("n", &[w], &[q])];
    let report = compared(&noises, &adapter, None).unwrap();
    let z = n.inner(&l) / (n.norm() * l.norm()) * ((rows * cols) as f64).sqrt();
    let found = report.modules[0].noises[0].cosine.z;
    assert!((found - z).abs() < 1e-4, "{found} {z}");
    assert!(z.abs() < 4.0, "{z}");
}

#[test]
fn a_negative_scale_and_a_pair_of_less_rank_are_what_they_multiply_to() {
    let made = Made::new();
    // five columns of which two are the same: rank 4
    let mut b = Mat::normal(60, 5, 11);
    for row in b.data.chunks_exact_mut(5) {
        row[4] = row[0];
    }
    let a = Mat::normal(5, 50, 12);
    let l = b.times(&a).scale(-3.0 / 5.0);
    let w = Mat::normal(60, 50, 13);
    let q = w
        .plus(&l.scale(0.01))
        .plus(&Mat::normal(60, 50, 14).scale(0.01))
        .stored();
    let n = q.minus(&w);
    let adapter = made.adapter("adapter", -3.0, &[(&q_proj(0), &b, &a)]);
    let noises = [made.noise("n", &[w], &[q])];
    let report = compared(&noises, &adapter, None).unwrap();
    let found = &report.modules[0];
    assert_eq!(found.update.rank, 4);
    near(found.update.norm, l.norm(), 1e-5);
    near(
        found.noises[0].cosine.value,
        n.inner(&l) / (n.norm() * l.norm()),
        1e-5,
    );
    near(found.noises[0].left.energy_chance, 4.0 / 60.0, 1e-12);
}

#[test]
fn the_bytes_do_not_depend_on_the_number_of_threads() {
    let made = Made::new();
    let (rows, cols) = (330, 410);
    let layers: Vec<Mat> = (0..2).map(|i| Mat::normal(rows, cols, i)).collect();
    let rounded: Vec<Mat> = layers
        .iter()
        .map(|w| w.map(|x| (x * 8.0).round() / 8.0))
        .collect();
    let others: Vec<Mat> = layers
        .iter()
        .map(|w| w.map(|x| (x * 5.0).round() / 5.0))
        .collect();
    let (b, a) = (Mat::normal(rows, 6, 20), Mat::normal(6, cols, 21));
    let (b2, a2) = (Mat::normal(rows, 6, 22), Mat::normal(6, cols, 23));
    let (first, second) = (q_proj(0), q_proj(1));
    let adapter = made.adapter("a", 6.0, &[(&first, &b, &a), (&second, &b2, &a2)]);
    let other = made.adapter("a2", 6.0, &[(&first, &b2, &a), (&second, &b, &a2)]);
    made.checkpoint("w", &layers);
    made.checkpoint("q", &rounded);
    made.checkpoint("p", &others);
    let open = |name: &str| xgraft_checkpoint::Checkpoint::open(made.path(name)).unwrap();
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let noises = [
            noise("q", open("w"), open("q")),
            noise("p", open("w"), open("p")),
        ];
        let report = pool.install(|| compared(&noises, &adapter, Some(&other)).unwrap());
        serde_json::to_string(&report).unwrap()
    };
    let one = with(1);
    assert_eq!(one, with(2));
    assert_eq!(one, with(5));
}
