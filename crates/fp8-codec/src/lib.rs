//! E4M3FN, E5M2 and UE8M0 numbers to and from f32 and bf16: a scalar definition and SIMD slices
