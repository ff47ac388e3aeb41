//! Bad input is an error that says what is bad, never a panic or a hang.

use std::cell::Cell;
use std::ops::ControlFlow;

use xgraft_cpu_gemm::F32;
use xgraft_low_rank::{Config, Error, Stop, exact_singular_values, truncated_svd};

use crate::planted::{Planted, go_on, power_law, rank};

#[test]
fn a_value_that_is_not_finite_is_named_with_its_place() {
    for (bad, thin) in [
        (f32::NAN, true),
        (f32::INFINITY, false),
        (f32::NEG_INFINITY, true),
    ] {
        let mut d = Planted::new(200, 300, &power_law(50, 1.0), 1);
        d.data[17 * 300 + 5] = bad;
        let config = if thin { rank(4) } else { rank(200) };
        let error = truncated_svd(&d.source(), &config, &go_on).unwrap_err();
        assert!(
            matches!(
                error,
                Error::NotFinite {
                    row: 17,
                    col: 5,
                    ..
                }
            ),
            "{error}"
        );
        assert!(error.to_string().ends_with("at row 17, column 5"));
        assert!(exact_singular_values(&d.source()).is_err());
    }
}

#[test]
fn products_beyond_the_range_of_f32_are_an_error() {
    let d = vec![1e38; 100 * 200];
    for config in [rank(4), rank(100)] {
        let error = truncated_svd(&F32::new(&d, 100, 200), &config, &go_on).unwrap_err();
        assert!(matches!(error, Error::Overflow { .. }), "{error}");
    }
}

#[test]
fn a_zero_or_empty_matrix_has_no_triplets() {
    for (rows, cols) in [(100, 200), (0, 5), (5, 0), (0, 0)] {
        let d = vec![0.0; rows * cols];
        let found = truncated_svd(&F32::new(&d, rows, cols), &rank(4), &go_on).unwrap();
        assert_eq!((found.rank(), found.residual2(4)), (0, 0.0));
        assert_eq!(found.optimum(4).value(), 0.0);
    }
}

#[test]
fn a_rank_above_the_sides_is_clamped() {
    let found = Planted::new(20, 30, &power_law(20, 1.0), 2).svd(&rank(1000));
    assert_eq!(found.rank(), 20);
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    let d = [1.0, 2.0, 3.0, 4.0];
    let energy = |share| Stop::Energy { share, cap: 1 };
    for config in [
        rank(0),
        Config {
            stop: energy(-0.1),
            ..rank(1)
        },
        Config {
            stop: energy(f64::NAN),
            ..rank(1)
        },
        Config {
            stop: Stop::Edge {
                sigma: f64::INFINITY,
                cap: 1,
            },
            ..rank(1)
        },
        Config {
            block: Some(0),
            ..rank(1)
        },
        Config {
            max_depth: 0,
            ..rank(1)
        },
        Config {
            tolerance: f64::NAN,
            ..rank(1)
        },
    ] {
        let error = truncated_svd(&F32::new(&d, 2, 2), &config, &go_on).unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{error}");
    }
}

#[test]
fn progress_is_told_before_each_product_and_can_stop_the_work() {
    let d = Planted::new(400, 500, &power_law(300, 0.8), 3);
    let calls = Cell::new(0);
    let count = |progress: xgraft_low_rank::Progress| {
        assert_eq!(progress.products, calls.get());
        calls.set(calls.get() + 1);
        ControlFlow::Continue(())
    };
    let found = truncated_svd(&d.source(), &rank(16), &count).unwrap();
    assert_eq!(calls.get(), found.products);

    let stop_at = |products| {
        move |progress: xgraft_low_rank::Progress| {
            if progress.products < products {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        }
    };
    for products in [0, 3] {
        let error = truncated_svd(&d.source(), &rank(16), &stop_at(products)).unwrap_err();
        assert!(matches!(error, Error::Interrupted));
    }
}
