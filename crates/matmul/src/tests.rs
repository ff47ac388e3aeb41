use proptest::prelude::*;

use crate::lanes::Isa;
use crate::product::{WIDE, run_with};
use crate::{Coding, Product, Rows, RowsMut, Scales, Weights, reference};

/// Numbers from a seed: bytes, scales near one, activations.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb)
    }

    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / 16_777_216.0 - 0.5
    }

    /// A byte that is no NaN in any format.
    fn bytes(&mut self, count: usize, coding: usize) -> Vec<u8> {
        let number = |random: &mut Self| match coding {
            0 => random.unit().to_le_bytes().to_vec(),
            1 => half::bf16::from_f32(random.unit()).to_le_bytes().to_vec(),
            2 => half::f16::from_f32(random.unit()).to_le_bytes().to_vec(),
            3 => vec![(random.next() as u8 & 0xf7)],
            4 => vec![(random.next() as u8 & 0xbf)],
            _ => vec![random.next() as u8],
        };
        std::iter::repeat_with(|| number(self))
            .flatten()
            .take(count)
            .collect()
    }
}

const CODINGS: usize = 8;

fn check(rows: usize, cols: usize, m: usize, which: usize, block: (usize, usize), add: bool) {
    let mut random = Random((rows * 31 + cols * 7 + m + which) as u64);
    let block_cols = if block.1 >= cols { cols } else { block.1 };
    let places = rows.div_ceil(block.0) * cols.div_ceil(block_cols);
    let values: Vec<f32> = (0..places).map(|_| random.unit() + 1.0).collect();
    let zeros = random
        .bytes(places, 5)
        .iter()
        .map(|z| z & 15)
        .collect::<Vec<_>>();
    let scales = Scales {
        values: &values,
        block_rows: block.0,
        block_cols,
    };
    let levels: [f32; 16] = std::array::from_fn(|i| i as f32);
    let coding = match which {
        0 => Coding::F32,
        1 => Coding::Bf16,
        2 => Coding::F16,
        3 => Coding::E4m3(scales),
        4 => Coding::E5m2(scales),
        5 => Coding::Int8(scales),
        6 => Coding::FourBit {
            levels: &levels,
            scales,
            zeros: None,
            middle: 8.0,
        },
        _ => Coding::FourBit {
            levels: &levels,
            scales,
            zeros: Some(&zeros),
            middle: 0.0,
        },
    };
    let codes = random.bytes(rows * coding.row_bytes(cols), which);
    let weights = Weights::new(rows, cols, &codes, coding);
    let x: Vec<f32> = (0..m * cols).map(|_| random.unit()).collect();
    let start: Vec<f32> = (0..m * rows).map(|_| random.unit()).collect();
    let mut expected = reference::product(&weights, &x);
    if add {
        expected.iter_mut().zip(&start).for_each(|(y, s)| *y += s);
    }
    for isa in Isa::all() {
        let mut y = start.clone();
        let product = Product {
            weights,
            x: Rows::new(&x, cols),
            y: RowsMut::new(&mut y, rows),
            add,
        };
        run_with(isa, vec![product]);
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&y), bits(&expected), "{isa:?}, coding {which}");
    }
}

#[test]
fn every_format_gives_the_bits_of_the_reference_for_every_number_of_rows() {
    for which in 0..CODINGS {
        for m in [1, 2, 3, 4, 5, 8, 13, WIDE, WIDE + 7] {
            check(37, 200, m, which, (1, 64), false);
        }
        check(9, 2080, WIDE + 1, which, (128, 128), true);
        check(5, 1, 1, which, (1, 16), false);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_shape_gives_the_bits_of_the_reference(
        rows in 1_usize..70, cols in 1_usize..300, m in 1_usize..40, which in 0..CODINGS,
        block_rows in 1_usize..80, block_cols in 1_usize..10, add: bool,
    ) {
        check(rows, cols, m, which, (block_rows, block_cols * 16), add);
    }
}

#[test]
fn a_row_decodes_to_what_the_reference_multiplies() {
    let codes = [0x12, 0x9a, 0xf0, 0x00];
    let levels: [f32; 16] = std::array::from_fn(|i| i as f32);
    let scales = Scales {
        values: &[0.5],
        block_rows: 1,
        block_cols: 5,
    };
    let coding = Coding::FourBit {
        levels: &levels,
        scales,
        zeros: None,
        middle: 8.0,
    };
    let mut out = [0.0; 5];
    Weights::new(1, 5, &codes, coding).decode_row(0, &mut out);
    assert_eq!(out, [-3.0, -3.5, 1.0, 0.5, -4.0]);
}

#[test]
fn several_products_at_once_are_each_what_they_are_alone() {
    let values = [1.5];
    let scales = Scales {
        values: &values,
        block_rows: 64,
        block_cols: 64,
    };
    let codes: Vec<u8> = (0..64 * 64).map(|i| (i * 7) as u8 & 0xf7).collect();
    let one = Weights::new(64, 64, &codes, Coding::E4m3(scales));
    let two = Weights::new(32, 64, &codes[..32 * 64], Coding::E4m3(scales));
    let x: Vec<f32> = (0..128).map(|i| i as f32 / 64.0 - 1.0).collect();
    let (mut a, mut b) = (vec![0.0; 128], vec![0.0; 64]);
    crate::run(vec![
        Product {
            weights: one,
            x: Rows::new(&x, 64),
            y: RowsMut::new(&mut a, 64),
            add: false,
        },
        Product {
            weights: two,
            x: Rows::new(&x, 64),
            y: RowsMut::new(&mut b, 32),
            add: false,
        },
    ]);
    assert_eq!(a, reference::product(&one, &x));
    assert_eq!(b, reference::product(&two, &x));
}
