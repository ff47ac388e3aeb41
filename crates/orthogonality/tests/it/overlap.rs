//! Two adapters.

use crate::dense::{Mat, near};
use crate::made::{Made, compared, q_proj};

/// The columns `from..to` of a matrix.
fn columns(m: &Mat, from: usize, to: usize) -> Mat {
    let data = m
        .data
        .chunks_exact(m.cols)
        .flat_map(|row| row[from..to].to_vec());
    Mat {
        rows: m.rows,
        cols: to - from,
        data: data.collect(),
    }
}

#[test]
fn an_adapter_overlaps_itself_whatever_its_factors() {
    let made = Made::new();
    let (b, a) = (Mat::normal(90, 4, 1), Mat::normal(4, 70, 2));
    // the same product, the same spaces, other factors
    let turn = Mat::normal(4, 4, 3);
    let inverse_times_a = solve(&turn, &a);
    let (b2, a2) = (b.times(&turn), inverse_times_a);
    let first = made.adapter("a", 4.0, &[(&q_proj(0), &b, &a)]);
    let second = made.adapter("b", 4.0, &[(&q_proj(0), &b2, &a2)]);
    let report = compared(&[], &first, Some(&second)).unwrap();
    let o = report.modules[0].overlap.clone().unwrap();
    for angles in [o.left, o.right] {
        near(angles.overlap, 1.0, 1e-5);
        near(angles.min, 1.0, 1e-5);
    }
    near(o.cosine.value, 1.0, 1e-5);
    near(o.left.chance, 4.0 / 90.0, 1e-12);
    assert!(
        report.words[0].starts_with("Two adapters"),
        "{:?}",
        report.words
    );
}

/// X with M·X = R, by Gauss elimination with pivots.
fn solve(m: &Mat, r: &Mat) -> Mat {
    let n = m.rows;
    let (mut m, mut r) = (m.clone(), r.clone());
    for k in 0..n {
        let pivot = (k..n)
            .max_by(|&i, &j| m.data[i * n + k].abs().total_cmp(&m.data[j * n + k].abs()))
            .unwrap();
        for j in 0..n {
            m.data.swap(k * n + j, pivot * n + j);
        }
        for j in 0..r.cols {
            r.data.swap(k * r.cols + j, pivot * r.cols + j);
        }
        for i in (0..n).filter(|i| *i != k) {
            let factor = m.data[i * n + k] / m.data[k * n + k];
            for j in 0..n {
                m.data[i * n + j] -= factor * m.data[k * n + j];
            }
            for j in 0..r.cols {
                r.data[i * r.cols + j] -= factor * r.data[k * r.cols + j];
            }
        }
    }
    for i in 0..n {
        for j in 0..r.cols {
            r.data[i * r.cols + j] /= m.data[i * n + i];
        }
    }
    r
}

#[test]
fn orthogonal_spaces_do_not_overlap_and_planted_angles_come_back() {
    let made = Made::new();
    let (q, p) = (Mat::normal(90, 8, 4).basis(), Mat::normal(70, 8, 5).basis());
    let (b, a) = (columns(&q, 0, 4), columns(&p, 0, 4).t());
    let apart = (columns(&q, 4, 8), columns(&p, 4, 8).t());
    // each column turned out of the first space by its own angle
    let cosines = [0.9, 0.5, 0.2, 0.1];
    let mut turned = columns(&q, 0, 4);
    for row in 0..90 {
        for (j, cos) in cosines.into_iter().enumerate() {
            let (x, y) = (q.data[row * 8 + j], q.data[row * 8 + 4 + j]);
            turned.data[row * 4 + j] = cos * x + f64::sqrt(1.0 - cos * cos) * y;
        }
    }
    let first = made.adapter("a", 4.0, &[(&q_proj(0), &b, &a)]);
    let second = made.adapter("b", 4.0, &[(&q_proj(0), &apart.0, &apart.1)]);
    let third = made.adapter("c", 4.0, &[(&q_proj(0), &turned, &a)]);

    let report = compared(&[], &first, Some(&second)).unwrap();
    let o = report.modules[0].overlap.clone().unwrap();
    for x in [o.left.overlap, o.right.overlap, o.left.max, o.cosine.value] {
        assert!(x.abs() < 1e-6, "{x}");
    }
    let report = compared(&[], &first, Some(&third)).unwrap();
    let o = report.modules[0].overlap.clone().unwrap();
    near(o.left.max, 0.9, 1e-5);
    near(o.left.min, 0.1, 1e-5);
    near(o.left.mean, cosines.iter().sum::<f64>() / 4.0, 1e-5);
    near(
        o.left.overlap,
        cosines.iter().map(|c| c * c).sum::<f64>() / 4.0,
        1e-5,
    );
    near(o.right.overlap, 1.0, 1e-5);
    // ⟨BA, B′A⟩ = tr(BᵀB′) for orthonormal A
    near(o.cosine.value, cosines.iter().sum::<f64>() / 4.0, 1e-5);
}

#[test]
fn independent_adapters_of_two_ranks_overlap_as_chance_says() {
    let made = Made::new();
    let first = made.adapter(
        "a",
        1.0,
        &[(
            &q_proj(0),
            &Mat::normal(300, 20, 6),
            &Mat::normal(20, 200, 7),
        )],
    );
    let second = made.adapter(
        "b",
        1.0,
        &[(
            &q_proj(0),
            &Mat::normal(300, 12, 8),
            &Mat::normal(12, 200, 9),
        )],
    );
    let report = compared(&[], &first, Some(&second)).unwrap();
    let o = report.modules[0].overlap.clone().unwrap();
    near(o.left.chance, 20.0 / 300.0, 1e-12);
    near(o.left.overlap, o.left.chance, 0.3);
    near(o.right.overlap, o.right.chance, 0.3);
    assert!(o.cosine.z.abs() < 4.0, "{:?}", o.cosine);
}
