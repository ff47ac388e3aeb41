//! The emulator beside f64, promoted and not.

use xgraft_fp8_codec::E4m3;
use xgraft_fp8_gemm::emulator::chain;

/// Prints the root mean square of the error over that of the exact result.
pub(crate) fn print() {
    println!(
        "emulator against f64, rms of 60 sums | random signs: promoted, not | one sign: promoted, not"
    );
    for k in [5120, 8192, 25600] {
        let (signed, same) = (errors(k, 0xff), errors(k, 0x3f));
        println!(
            "k = {k:5} | {:.1e} {:.1e} | {:.1e} {:.1e}",
            signed.0, signed.1, same.0, same.1
        );
    }
}

fn errors(k: usize, mask: u8) -> (f64, f64) {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut codes = || -> Vec<u8> {
        let mut code = || loop {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let code = (state >> 20) as u8;
            if code & 0x7f != 0x7f {
                break code & mask;
            }
        };
        (0..k).map(|_| code()).collect()
    };
    let value = |code: u8| f64::from(E4m3::from_bits(code).decode());
    let (mut promoted, mut never, mut norm) = (0.0, 0.0, 0.0);
    for _ in 0..60 {
        let (a, b) = (codes(), codes());
        let exact: f64 = a.iter().zip(&b).map(|(&a, &b)| value(a) * value(b)).sum();
        let blocks = a.chunks(128).zip(b.chunks(128));
        let sum = blocks.fold(0f32, |sum, (a, b)| sum + chain(a, b));
        promoted += (f64::from(sum) - exact).powi(2);
        never += (f64::from(chain(&a, &b)) - exact).powi(2);
        norm += exact * exact;
    }
    ((promoted / norm).sqrt(), (never / norm).sqrt())
}
