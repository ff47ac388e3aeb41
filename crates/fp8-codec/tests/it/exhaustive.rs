//! Every implementation against the scalar definition, on all codes, all bf16, all critical f32 and a large sample.

use half::bf16;
use xgraft_fp8_codec::{Codec, Overflow, Quotient, Scaled};

use crate::samples::{FORMATS, all_bf16, critical, implementations, random_f32, scales};

const OVERFLOWS: [Overflow; 2] = [Overflow::Saturate, Overflow::NonFinite];
const QUOTIENTS: [Quotient; 2] = [Quotient::F32, Quotient::Bf16];

/// Fails with the first element at which the two differ.
fn assert_codes(found: &[u8], expected: &[u8], context: impl Fn(usize) -> String) {
    if let Some(i) = found.iter().zip(expected).position(|(a, b)| a != b) {
        panic!(
            "{:#04x} instead of {:#04x}: {}",
            found[i],
            expected[i],
            context(i)
        );
    }
    assert_eq!(found.len(), expected.len());
}

#[test]
fn every_implementation_encodes_f32_as_the_scalar_definition() {
    for format in FORMATS {
        let mut inputs = critical(format);
        inputs.extend(random_f32(1, 1 << 22));
        for overflow in OVERFLOWS {
            let expected: Vec<u8> = inputs.iter().map(|&x| format.encode(x, overflow)).collect();
            for codec in Codec::available() {
                let mut found = vec![0; inputs.len()];
                codec.encode_f32(format, overflow, &inputs, &mut found);
                assert_codes(&found, &expected, |i| {
                    format!("{} {format:?} {overflow:?} {:e}", codec.name(), inputs[i])
                });
            }
        }
    }
}

#[test]
fn every_implementation_encodes_all_bf16_as_the_scalar_definition() {
    let inputs = all_bf16();
    for format in FORMATS {
        for overflow in OVERFLOWS {
            let encode = |x: &bf16| format.encode(x.to_f32(), overflow);
            let expected: Vec<u8> = inputs.iter().map(encode).collect();
            for codec in Codec::available() {
                let mut found = vec![0; inputs.len()];
                codec.encode_bf16(format, overflow, &inputs, &mut found);
                assert_codes(&found, &expected, |i| {
                    format!("{} {format:?} {overflow:?} {:e}", codec.name(), inputs[i])
                });
            }
        }
    }
}

#[test]
fn every_implementation_divides_and_encodes_f32_as_the_scalar_definition() {
    for format in FORMATS {
        let critical = critical(format);
        let random = random_f32(2, 1 << 14);
        for scale in scales() {
            // Products with the scale put the quotients near the critical values.
            let near = critical.iter().map(|x| x * scale);
            let inputs: Vec<f32> = near.chain(random.iter().copied()).collect();
            for quotient in QUOTIENTS {
                let rule = Scaled {
                    format,
                    scale,
                    quotient,
                };
                let expected: Vec<u8> = inputs.iter().map(|&x| rule.encode(x)).collect();
                for codec in implementations() {
                    let mut found = vec![0; inputs.len()];
                    codec.encode_scaled_f32(&rule, &inputs, &mut found);
                    assert_codes(&found, &expected, |i| {
                        format!("{} {rule:?} {:e}", codec.name(), inputs[i])
                    });
                }
            }
        }
    }
}

#[test]
fn every_implementation_divides_and_encodes_all_bf16_as_the_scalar_definition() {
    let inputs = all_bf16();
    // Neighbours of equal exponent are mostly all inside a look-up table's bounds or all outside.
    // A stride prime to 2^16 mixes them, and half of the time there is no subnormal quotient beside.
    let mixed: Vec<bf16> = (0..1 << 16)
        .map(|i: usize| inputs[i * 0x2f35 % (1 << 16)])
        .collect();
    let mut scales = scales();
    scales.extend(
        random_f32(3, 64)
            .into_iter()
            .filter(|scale| *scale > 0.0 && scale.is_finite()),
    );
    for format in FORMATS {
        for &scale in &scales {
            for quotient in QUOTIENTS {
                let rule = Scaled {
                    format,
                    scale,
                    quotient,
                };
                for inputs in [&inputs, &mixed] {
                    let expected: Vec<u8> =
                        inputs.iter().map(|x| rule.encode(x.to_f32())).collect();
                    for codec in implementations() {
                        let mut found = vec![0; inputs.len()];
                        codec.encode_scaled_bf16(&rule, inputs, &mut found);
                        assert_codes(&found, &expected, |i| {
                            format!("{} {rule:?} {:e}", codec.name(), inputs[i])
                        });
                    }
                }
            }
        }
    }
}

#[test]
fn every_implementation_decodes_all_codes_as_the_scalar_definition() {
    // Several times all codes, so that vector loops run and not only their ends.
    let codes: Vec<u8> = (0..=u8::MAX).cycle().take(1024 + 7).collect();
    let infinities = [f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, -1.5, f32::MAX];
    for format in FORMATS {
        for scale in scales().into_iter().chain(infinities) {
            for codec in Codec::available() {
                let mut wide = vec![0.0; codes.len()];
                let mut narrow = vec![bf16::ZERO; codes.len()];
                codec.decode_scaled_f32(format, scale, &codes, &mut wide);
                codec.decode_scaled_bf16(format, scale, &codes, &mut narrow);
                for (i, &code) in codes.iter().enumerate() {
                    let expected = format.decode(code) * scale;
                    let context = || format!("{} {format:?} {code:#04x} x {scale:e}", codec.name());
                    if format.is_nan(code) || !expected.is_nan() {
                        assert_eq!(wide[i].to_bits(), expected.to_bits(), "{}", context());
                        let rounded = bf16::from_f32(expected).to_bits();
                        assert_eq!(narrow[i].to_bits(), rounded, "{} to bf16", context());
                    } else {
                        assert!(wide[i].is_nan() && narrow[i].is_nan(), "{}", context());
                    }
                }
            }
        }
    }
}

#[test]
fn a_nan_scale_makes_every_value_nan() {
    let codes: Vec<u8> = (0..=u8::MAX).collect();
    for codec in Codec::available() {
        for format in FORMATS {
            let mut wide = [0.0; 256];
            let mut narrow = [bf16::ZERO; 256];
            let scale = f32::from_bits(0x7fff_ffff);
            codec.decode_scaled_f32(format, scale, &codes, &mut wide);
            codec.decode_scaled_bf16(format, scale, &codes, &mut narrow);
            assert!(wide.iter().all(|x| x.is_nan()));
            assert!(narrow.iter().all(|x| x.is_nan()));
        }
    }
}

#[test]
fn decoding_without_a_scale_is_exact() {
    let codes: Vec<u8> = (0..=u8::MAX).collect();
    for codec in Codec::available() {
        for format in FORMATS {
            let mut values = [0.0; 256];
            codec.decode_f32(format, &codes, &mut values);
            let expected: Vec<u32> = codes.iter().map(|&c| format.decode(c).to_bits()).collect();
            assert_eq!(values.map(f32::to_bits).as_slice(), expected);
            let mut narrow = [bf16::ZERO; 256];
            codec.decode_bf16(format, &codes, &mut narrow);
            let widened = narrow.map(|x| x.to_f32().to_bits());
            assert_eq!(widened.as_slice(), expected);
        }
    }
}
