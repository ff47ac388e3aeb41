//! The bytes of a result do not depend on the number of threads.

use xgraft_low_rank::{Config, Factors};

use crate::planted::{Planted, power_law, rank, spectra};

fn with_threads(threads: usize, d: &Planted, config: &Config) -> Factors {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap();
    pool.install(|| d.svd(config))
}

fn bits(found: &Factors) -> (Vec<u32>, Vec<u32>, Vec<u64>, Vec<u64>) {
    let narrow = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect();
    let wide = |x: &[f64]| x.iter().map(|x| x.to_bits()).collect();
    (
        narrow(&found.u),
        narrow(&found.v),
        wide(&found.singular_values),
        wide(&found.ritz),
    )
}

#[test]
fn one_two_and_three_threads_give_the_same_bytes() {
    let krylov = (Planted::new(700, 800, &power_law(400, 0.8), 1), rank(40));
    let whole = (Planted::new(150, 333, &power_law(150, 0.8), 2), rank(40));
    let (_, deficient) = spectra(300).remove(4);
    let deficient = (Planted::new(300, 400, &deficient, 3), rank(16));
    for (d, config) in [krylov, whole, deficient] {
        let expected = bits(&with_threads(1, &d, &config));
        for threads in [2, 3] {
            assert!(
                bits(&with_threads(threads, &d, &config)) == expected,
                "{threads} threads"
            );
        }
    }
}

#[test]
fn another_seed_gives_another_start_and_the_same_answer() {
    let d = Planted::new(400, 500, &power_law(300, 0.8), 1);
    let (one, two) = (
        d.svd(&rank(16)),
        d.svd(&Config {
            seed: 1,
            ..rank(16)
        }),
    );
    assert_ne!(one.u, two.u);
    assert!((one.captured2(16) / two.captured2(16) - 1.0).abs() < 1e-4);
}
