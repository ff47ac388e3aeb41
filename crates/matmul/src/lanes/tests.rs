use super::{Isa, Job, LANES, Lanes};

/// Every operation on one set of inputs, as bits.
struct All<'a> {
    bytes: &'a [u8; 64],
    a: &'a [f32; LANES],
    b: &'a [f32; LANES],
}

impl Job for All<'_> {
    type Out = Vec<[u32; LANES]>;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> Self::Out {
        let (a, b) = (l.load(self.a), l.load(self.b));
        let sixteen: &[u8; 16] = self.bytes.first_chunk().unwrap();
        let thirty_two: &[u8; 32] = self.bytes.first_chunk().unwrap();
        let eight: &[u8; 8] = self.bytes.first_chunk().unwrap();
        let vectors = [
            l.splat(self.a[3]),
            l.mul(a, b),
            l.fma(a, b, a),
            l.splat(l.sum(l.mul(a, b))),
            l.f32(self.bytes),
            l.bf16(thirty_two),
            l.f16(thirty_two),
            l.e4m3(sixteen),
            l.e5m2(sixteen),
            l.i8(sixteen),
            l.nibbles(eight, a),
            l.e4m3_pair(thirty_two)[0],
            l.e4m3_pair(thirty_two)[1],
        ];
        let all = [a, b, l.mul(a, b), l.fma(a, a, b)];
        assert_eq!(l.sum4(all), all.map(|v| l.sum(v)));
        let bits = |v| {
            let mut out = [0.0; LANES];
            l.store(v, &mut out);
            out.map(|x: f32| if x.is_nan() { u32::MAX } else { x.to_bits() })
        };
        vectors.into_iter().map(bits).collect()
    }
}

#[test]
fn all_instruction_sets_give_the_same_bits_for_every_byte() {
    let mut state = 1_u64;
    let mut random = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 16_777_216.0 - 0.5
    };
    for start in 0..=255_u8 {
        let bytes: [u8; 64] =
            std::array::from_fn(|i| start.wrapping_add((i as u8).wrapping_mul(37)));
        let (a, b) = (
            std::array::from_fn(|_| random()),
            std::array::from_fn(|_| random()),
        );
        let results: Vec<_> = Isa::all()
            .into_iter()
            .map(|isa| {
                isa.run(All {
                    bytes: &bytes,
                    a: &a,
                    b: &b,
                })
            })
            .collect();
        for result in &results {
            assert_eq!(result, &results[0], "bytes from {start}");
        }
    }
}
