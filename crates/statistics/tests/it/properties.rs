//! What holds for every table.

use proptest::prelude::*;
use xgraft_statistics::{
    Count, Equivalence, Pairs, Unpaired,
    bootstrap::{Unit, observed, percentile, replicates},
    holm, pass_k,
};

prop_compose! {
    fn some_pairs()(both in 0..60_u64, only_a in 0..60_u64, only_b in 0..60_u64, neither in 1..60_u64) -> Pairs {
        Pairs { both, only_a, only_b, neither }
    }
}

prop_compose! {
    fn some_count()(n in 1..80_u64)(right in 0..=n, n in Just(n)) -> Count {
        Count::new(right, n)
    }
}

fn swapped(pairs: Pairs) -> Pairs {
    Pairs {
        only_a: pairs.only_b,
        only_b: pairs.only_a,
        ..pairs
    }
}

proptest! {
    #[test]
    fn wilson_holds_the_share_and_stays_in_bounds(count in some_count()) {
        let interval = count.wilson(0.95);
        prop_assert!(interval.contains(count.share()));
        prop_assert!(0.0 <= interval.lo && interval.hi <= 1.0);
    }

    #[test]
    fn swapping_the_arms_mirrors_every_paired_result(pairs in some_pairs()) {
        let other = swapped(pairs);
        prop_assert!((pairs.mcnemar() - other.mcnemar()).abs() < 1e-12);
        let (ours, theirs) = (pairs.interval(0.9), other.interval(0.9));
        prop_assert!((ours.lo + theirs.hi).abs() < 1e-9);
        prop_assert!((ours.hi + theirs.lo).abs() < 1e-9);
        let (ours, theirs) = (pairs.equivalence(0.1, 0.05), other.equivalence(0.1, 0.05));
        prop_assert!((ours.p_inferior - theirs.p_superior).abs() < 1e-9);
    }

    #[test]
    fn equivalence_is_that_the_interval_lies_inside_the_margin(pairs in some_pairs(), margin in 0.02..0.5_f64) {
        let test = pairs.equivalence(margin, 0.05);
        let inside = -margin < test.interval.lo && test.interval.hi < margin;
        // At the very edge rounding decides.
        let clear = (test.p() - 0.05).abs() > 1e-9;
        prop_assert!(!clear || inside == test.holds(), "{test:?}");
    }

    #[test]
    fn unpaired_equivalence_is_that_the_interval_lies_inside_the_margin(
        a in some_count(), b in some_count(), margin in 0.02..0.5_f64,
    ) {
        let test = Unpaired { a, b }.equivalence(margin, 0.05);
        let inside = -margin < test.interval.lo && test.interval.hi < margin;
        let clear = (test.p() - 0.05).abs() > 1e-9;
        prop_assert!(!clear || inside == test.holds(), "{test:?}");
    }

    #[test]
    fn mid_p_is_never_above_the_exact_p(pairs in some_pairs()) {
        prop_assert!(pairs.mcnemar_mid_p() <= pairs.mcnemar() + 1e-12);
        prop_assert!((0.0..=1.0).contains(&pairs.mcnemar()));
    }

    #[test]
    fn holm_never_lowers_and_keeps_the_order(p in prop::collection::vec(0.0..1.0_f64, 1..12)) {
        let adjusted = holm(&p);
        for i in 0..p.len() {
            prop_assert!(adjusted[i] >= p[i] && adjusted[i] <= 1.0);
            for j in 0..p.len() {
                prop_assert!(p[i] > p[j] || adjusted[i] <= adjusted[j]);
            }
        }
    }

    #[test]
    fn more_attempts_help_any_and_hurt_all(attempts in some_count()) {
        for k in 1..attempts.n {
            let at = |k| (pass_k::any_right(attempts, k).unwrap(), pass_k::all_right(attempts, k).unwrap());
            let ((any, all), (more_any, more_all)) = (at(k), at(k + 1));
            prop_assert!(more_any >= any - 1e-12 && more_all <= all + 1e-12);
        }
        prop_assert_eq!(pass_k::any_right(attempts, attempts.n + 1), None);
    }
}

fn tasks() -> Vec<Vec<Unit>> {
    let unit = |i: u32| Unit::question(f64::from(i % 3 / 2), f64::from(i % 5 / 4));
    vec![(0..40).map(unit).collect(), (7..17).map(unit).collect()]
}

#[test]
fn the_bootstrap_does_not_depend_on_threads() {
    let alone = rayon_pool(1, || replicates(&tasks(), 500, 3));
    let many = rayon_pool(7, || replicates(&tasks(), 500, 3));
    assert_eq!(alone, many);
    assert_ne!(alone, replicates(&tasks(), 500, 4));
    assert_eq!(alone[..100], replicates(&tasks(), 100, 3)[..]);
}

fn rayon_pool<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    pool.build().unwrap().install(work)
}

#[test]
fn a_bootstrap_of_equal_arms_finds_no_difference() {
    let same: Vec<Vec<Unit>> = vec![
        (0..50)
            .map(|i| Unit::question(f64::from(i % 2), f64::from(i % 2)))
            .collect(),
    ];
    let all = replicates(&same, 200, 0);
    let interval = percentile(&all, 0.95, |s| s.micro[0] - s.micro[1]).unwrap();
    assert_eq!((interval.lo, interval.hi), (0.0, 0.0));
    assert_eq!(observed(&same).micro, [0.5, 0.5]);
}

#[test]
fn a_share_of_zero_has_no_ratio_and_its_replicates_are_left_out() {
    let none = vec![vec![Unit::question(1.0, 0.0); 5]];
    let all = replicates(&none, 50, 0);
    assert!(percentile(&all, 0.95, |s| s.micro[0] / s.micro[1]).is_none());
    let (a, b) = (Count::new(0, 5), Count::new(1, 5));
    assert!(Unpaired { a, b }.ratio(0.95).is_none());
}

#[test]
fn equivalence_of_a_normal_estimate_is_two_z_tests() {
    // 0.01 ± 0.02 within 0.05: z of 3 below and of 2 above.
    let test = Equivalence::normal(0.05, 0.05, 0.01, 0.02);
    assert!((test.p_inferior - 0.001_349_898).abs() < 1e-8);
    assert!((test.p_superior - 0.022_750_132).abs() < 1e-8);
    assert!(test.holds() && test.interval.hi < 0.05);
}

#[test]
fn one_agreeing_question_is_no_equivalence() {
    let one = Pairs {
        both: 1,
        ..Pairs::default()
    };
    assert!(!one.equivalence(0.05, 0.05).holds());
}

#[test]
fn the_spread_of_repeats_and_of_questions_are_told_apart() {
    // Every question is right half the time: all the variance is repetition.
    let coin = vec![Count::new(50, 100); 20];
    let spread = pass_k::spread(&coin).unwrap();
    assert!(spread.between_questions < 0.05 && spread.between_runs > 0.1);
    // Half of the questions are always right: none of it is.
    let fixed: Vec<Count> = (0..20).map(|i| Count::new(100 * (i % 2), 100)).collect();
    let spread = pass_k::spread(&fixed).unwrap();
    assert!(spread.between_questions > 0.5 && spread.between_runs == 0.0);
    assert!(pass_k::spread(&[Count::new(1, 1), Count::new(0, 1)]).is_none());
}
