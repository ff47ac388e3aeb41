//! Against statsmodels and SciPy: `fixtures/generators/statistics.py` made the values.

use serde_json::Value;
use xgraft_statistics::{
    Agreement, Count, Pairs, Unpaired, bootstrap, clustered, cmh, holm, macro_mean,
    normal_quantile, pass_k, pearson, power::Plan, spearman,
};

fn golden() -> Value {
    let path = xgraft_fixtures::dir().join("golden/statistics.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Runs `check` on every case of a table, which must not be empty.
fn each(table: &str, check: impl Fn(&Value)) {
    let golden = golden();
    let cases = golden[table].as_array().unwrap();
    assert!(!cases.is_empty());
    cases.iter().for_each(check);
}

#[track_caller]
fn close(ours: f64, theirs: &Value, tolerance: f64) {
    let theirs = theirs.as_f64().unwrap();
    let error = (ours - theirs).abs() / theirs.abs().max(1e-3);
    assert!(error < tolerance, "ours {ours}, theirs {theirs}");
}

fn count(case: &Value, right: &str, n: &str) -> Count {
    Count::new(case[right].as_u64().unwrap(), case[n].as_u64().unwrap())
}

fn numbers(value: &Value) -> Vec<f64> {
    let all = value.as_array().unwrap().iter();
    all.map(|v| v.as_f64().unwrap()).collect()
}

#[test]
fn wilson_intervals_are_those_of_statsmodels() {
    each("wilson", |case| {
        let interval = count(case, "right", "n").wilson(case["level"].as_f64().unwrap());
        close(interval.lo, &case["lo"], 1e-10);
        close(interval.hi, &case["hi"], 1e-10);
    });
}

#[test]
fn mcnemar_is_that_of_statsmodels_and_its_mid_p_that_of_scipy() {
    each("paired", |case| {
        let pairs = pairs(case);
        close(pairs.mcnemar(), &case["exact"], 1e-9);
        close(pairs.mcnemar_mid_p(), &case["mid_p"], 1e-9);
    });
}

fn pairs(case: &Value) -> Pairs {
    let get = |name: &str| case[name].as_u64().unwrap();
    Pairs {
        both: get("both"),
        only_a: get("only_a"),
        only_b: get("only_b"),
        neither: get("neither"),
    }
}

#[test]
fn paired_equivalence_and_interval_are_those_of_a_numeric_likelihood() {
    each("paired", |case| {
        let pairs = pairs(case);
        let test = pairs.equivalence(case["margin"].as_f64().unwrap(), 0.05);
        close(test.p_inferior, &case["p_inferior"], 1e-5);
        close(test.p_superior, &case["p_superior"], 1e-5);
        close(test.interval.lo, &case["lo"], 1e-5);
        close(test.interval.hi, &case["hi"], 1e-5);
    });
}

#[test]
fn unpaired_tests_are_those_of_statsmodels_and_of_a_numeric_likelihood() {
    each("unpaired", |case| {
        let unpaired = Unpaired {
            a: count(case, "right_a", "n_a"),
            b: count(case, "right_b", "n_b"),
        };
        close(unpaired.p(), &case["p"], 1e-9);
        let test = unpaired.equivalence(case["margin"].as_f64().unwrap(), 0.05);
        close(test.p_inferior, &case["p_inferior"], 1e-5);
        close(test.p_superior, &case["p_superior"], 1e-5);
        close(test.interval.lo, &case["lo"], 1e-5);
        close(test.interval.hi, &case["hi"], 1e-5);
        let ratio = unpaired.ratio(0.95).unwrap().interval;
        close(ratio.lo, &case["ratio_lo"], 1e-9);
        close(ratio.hi, &case["ratio_hi"], 1e-9);
    });
}

#[test]
fn stratified_odds_are_those_of_statsmodels() {
    each("cmh", |case| {
        let strata = case["tables"].as_array().unwrap().iter();
        let strata: Vec<_> = strata
            .map(|table| Unpaired {
                a: count(table, "right_a", "n_a"),
                b: count(table, "right_b", "n_b"),
            })
            .collect();
        close(cmh(&strata).unwrap(), &case["p"], 1e-9);
    });
}

#[test]
fn holms_p_values_are_those_of_statsmodels() {
    each("holm", |case| {
        let ours = holm(&numbers(&case["p"]));
        let theirs = case["adjusted"].as_array().unwrap();
        ours.iter()
            .zip(theirs)
            .for_each(|(ours, theirs)| close(*ours, theirs, 1e-12));
    });
}

#[test]
fn clustered_errors_are_those_of_statsmodels() {
    each("clustered", |case| {
        let clusters: Vec<_> = case["clusters"].as_array().unwrap().iter().collect();
        let clusters: Vec<_> = clusters.iter().map(|c| c.as_u64().unwrap()).collect();
        let ours = clustered(&numbers(&case["scores"]), &clusters, 0.95);
        close(ours.value, &case["mean"], 1e-12);
        close(ours.se, &case["se"], 1e-10);
    });
}

#[test]
fn kappas_are_those_of_statsmodels() {
    each("kappa", |case| {
        let rows = case["table"].as_array().unwrap().iter();
        let rows: Vec<Vec<u64>> = rows
            .map(|row| numbers(row).iter().map(|&n| n as u64).collect())
            .collect();
        let ours = Agreement::new(&rows).kappa(0.95).unwrap();
        close(ours.value, &case["kappa"], 1e-10);
        close(ours.se, &case["se"], 1e-10);
    });
}

#[test]
fn correlations_are_those_of_scipy() {
    each("correlation", |case| {
        let (x, y) = (numbers(&case["x"]), numbers(&case["y"]));
        let r = pearson(&x, &y, 0.95).unwrap();
        close(r.value, &case["pearson"], 1e-10);
        close(r.p, &case["pearson_p"], 1e-8);
        close(r.interval.lo, &case["lo"], 1e-9);
        close(r.interval.hi, &case["hi"], 1e-9);
        let rho = spearman(&x, &y, 0.95).unwrap();
        close(rho.value, &case["spearman"], 1e-10);
        close(rho.p, &case["spearman_p"], 1e-8);
    });
}

#[test]
fn pass_at_k_is_the_count_over_all_subsets() {
    each("pass_k", |case| {
        let attempts = count(case, "right", "n");
        let k = case["k"].as_u64().unwrap();
        close(pass_k::any_right(attempts, k).unwrap(), &case["any"], 1e-12);
        close(pass_k::all_right(attempts, k).unwrap(), &case["all"], 1e-12);
    });
}

#[test]
fn quantiles_are_those_of_scipy() {
    each("quantile", |case| {
        close(
            normal_quantile(case["p"].as_f64().unwrap()),
            &case["z"],
            1e-11,
        );
    });
}

/// The bootstrap's interval has no exact reference: SciPy's, with its own random numbers and 200,000 replicates, is near.
#[test]
fn bootstrap_intervals_are_near_those_of_scipy() {
    each("bootstrap", |case| {
        let (a, b) = (numbers(&case["a"]), numbers(&case["b"]));
        let units = a.iter().zip(&b);
        let units = vec![
            units
                .map(|(a, b)| bootstrap::Unit::question(*a, *b))
                .collect(),
        ];
        let replicates = bootstrap::replicates(&units, 50_000, 1);
        let ours = bootstrap::percentile(&replicates, 0.95, |s| s.micro[0] - s.micro[1]).unwrap();
        // One question of 200 is 0.005.
        assert!((ours.lo - case["lo"].as_f64().unwrap()).abs() < 0.0051);
        assert!((ours.hi - case["hi"].as_f64().unwrap()).abs() < 0.0051);
    });
}

/// The published evaluation's plan: 433 questions, and the differences that they show with 80 % power.
#[test]
fn least_differences_of_433_questions() {
    let plan = Plan::default();
    for (discordance, points) in [
        (0.10, 4.2),
        (0.15, 5.2),
        (0.20, 6.0),
        (0.25, 6.7),
        (0.30, 7.4),
        (0.40, 8.5),
    ] {
        let least = 100.0 * plan.paired_difference(433, discordance);
        assert!((least - points).abs() < 0.06, "{discordance}: {least}");
    }
    let unpaired = 100.0 * plan.unpaired_difference(433, 0.445);
    assert!((unpaired - 9.5).abs() < 0.05, "{unpaired}");
    assert_eq!(plan.equivalence_questions(0.05, 0.15), 514);
    assert_eq!(plan.equivalence_questions(0.03, 0.35), 3331);
}

#[test]
fn macro_means_weigh_tasks_alike() {
    // Two tasks of unequal size: 1/2 and 9/10.
    let tasks = [Count::new(1, 2), Count::new(9, 10)];
    let mean = macro_mean(&tasks, 0.95);
    assert!((mean.value - 0.7).abs() < 1e-15);
    let se = (0.125_f64 + 0.009).sqrt() / 2.0;
    assert!((mean.se - se).abs() < 1e-15);
}
