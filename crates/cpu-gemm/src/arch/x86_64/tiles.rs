//! The tile kernels: lanes along one operand, one broadcast element of the other per row and term.
//!
//! All accumulators of a tile stay in registers over the whole chain, and every lane is one chain of fused
//! multiply-adds, so the lanes' width and the tile's shape change no bit.
#![expect(unsafe_code, reason = "vector intrinsics over raw pointers")]

/// An array of the values of an expression in which `$v` counts the vectors of a tile. Unlike a loop it leaves the elements in registers.
macro_rules! vectors {
    (2, $v:ident, $value:expr) => {
        [vectors!(@ 0, $v, $value), vectors!(@ 1, $v, $value)]
    };
    (3, $v:ident, $value:expr) => {
        [vectors!(@ 0, $v, $value), vectors!(@ 1, $v, $value), vectors!(@ 2, $v, $value)]
    };
    (@ $at:literal, $v:ident, $value:expr) => {{
        const $v: usize = $at;
        $value
    }};
}

macro_rules! kernel {
    (
        $module:ident: $feature:literal, $token:ident, $element:ty, $lanes:literal lanes,
        [$($row:literal $chains:ident)*] x $vectors:tt, block $block:ident, strip $strip:ident, narrow $narrow:ident, wide $wide:ident,
        strides $row_step:expr, $narrow_step:expr, $wide_step:expr;
        $zero:ident, $broadcast:ident, $load:ident, $store:ident, $fma:ident, $add:ident
    ) => {
        pub(in crate::arch) mod $module {
            use std::arch::x86_64::{
                _MM_HINT_T0, _MM_HINT_T1, _mm_prefetch, $add, $broadcast, $fma, $load, $store, $zero,
            };

            use super::super::super::$token;
            use crate::arch::Tile;

            /// Height and width of a tile.
            pub(in crate::arch) const SHAPE: (usize, usize) = ([$($row),*].len(), $vectors * $lanes);

            /// Distances in the operand that is broadcast, of rows and of terms, and in the other one, of terms.
            const STEPS: (usize, usize, usize) = ($row_step, $narrow_step, $wide_step);

            /// Runs a tile that [`Tile::check`] has passed for [`SHAPE`].
            #[inline]
            pub(in crate::arch) fn run(_: $token, tile: Tile<'_, $element>) {
                // SAFETY: the token proves the instruction set, and the caller has checked that a whole tile of both
                // operands and `rows` x `cols` results lie in the slices.
                unsafe { kernel(tile) }
            }

            /// # Safety
            /// The features must be there, and the tile must have passed [`Tile::check`] for [`SHAPE`].
            #[target_feature(enable = $feature)]
            unsafe fn kernel(tile: Tile<'_, $element>) {
                let out = tile.out.as_mut_ptr();
                for i in 0..tile.rows {
                    // SAFETY: row `i` starts inside `out`; a prefetch cannot fault in any case.
                    unsafe { _mm_prefetch::<_MM_HINT_T0>(out.add(i * tile.ld).cast()) };
                }
                $(let mut $chains = vectors!($vectors, _V, $zero());)*
                let (mut $block, mut $strip) = (tile.block.as_ptr(), tile.strip.as_ptr());
                // The lines to fetch are spread over the terms, a power of two apart.
                let ahead = tile.ahead.addresses();
                let shift = (tile.terms / ahead.len().max(1)).checked_ilog2().unwrap_or(0);
                for term in 0..tile.terms {
                    if term & ((1 << shift) - 1) == 0
                        && let Some(line) = ahead.get(term >> shift)
                    {
                        _mm_prefetch::<_MM_HINT_T1>(*line);
                    }
                    // SAFETY: by the contract all addresses of this term lie in block and strip; the two pointers end
                    // at most one term behind and are not read there.
                    unsafe {
                        let vector = vectors!($vectors, V, $load($wide.add(V * $lanes)));
                        $(
                            let element = $broadcast(*$narrow.add($row * STEPS.0));
                            $chains = vectors!($vectors, V, $fma(element, vector[V], $chains[V]));
                        )*
                        $narrow = $narrow.wrapping_add(STEPS.1);
                        $wide = $wide.wrapping_add(STEPS.2);
                    }
                }
                if tile.cols == SHAPE.1 {
                    $(
                        if $row < tile.rows {
                            // SAFETY: the row is below `rows`, and has all columns of a tile inside `out`.
                            unsafe {
                                let to = out.add($row * tile.ld);
                                vectors!($vectors, V, {
                                    let to = to.add(V * $lanes);
                                    $store(to, $add($load(to), $chains[V]));
                                });
                            }
                        }
                    )*
                } else {
                    let mut sums = [[<$element>::default(); SHAPE.1]; SHAPE.0];
                    $(
                        // SAFETY: a row of `sums` holds all columns of a tile.
                        unsafe {
                            let to = sums[$row].as_mut_ptr();
                            vectors!($vectors, V, $store(to.add(V * $lanes), $chains[V]));
                        }
                    )*
                    for (out, sums) in tile.out.chunks_mut(tile.ld).zip(&sums).take(tile.rows) {
                        for (out, sum) in out[..tile.cols].iter_mut().zip(sums) {
                            *out += sum;
                        }
                    }
                }
            }
        }
    };
}

/// The two kernels of an instruction set and number type.
macro_rules! kernels {
    (
        $(#[$doc:meta])* $module:ident: $feature:literal, $token:ident, $element:ty, $lanes:literal lanes,
        rows $rows:tt x $rows_vectors:tt, cols $cols:tt x $cols_vectors:tt;
        $($intrinsic:ident)*
    ) => {
        $(#[$doc])*
        pub(in crate::arch) mod $module {
            kernel!(
                rows: $feature, $token, $element, $lanes lanes, $rows x $rows_vectors,
                block narrow, strip wide, narrow narrow, wide wide,
                strides <$element as crate::element::Element>::ROWS_LD, 1, SHAPE.1;
                $($intrinsic),*
            );
            kernel!(
                cols: $feature, $token, $element, $lanes lanes, $cols x $cols_vectors,
                block wide, strip narrow, narrow narrow, wide wide,
                strides 1, SHAPE.0, <$element as crate::element::Element>::COLS_LD;
                $($intrinsic),*
            );
        }
    };
}

kernels!(
    /// 14 × 32 and 8 × 48: accumulators, vectors and one broadcast fill 31 and 28 of 32 registers.
    avx512_f32: "avx512f,avx512bw,avx512vl", Avx512, f32, 16 lanes,
    rows [0 c0 1 c1 2 c2 3 c3 4 c4 5 c5 6 c6 7 c7 8 c8 9 c9 10 c10 11 c11 12 c12 13 c13] x 2,
    cols [0 c0 1 c1 2 c2 3 c3 4 c4 5 c5 6 c6 7 c7] x 3;
    _mm512_setzero_ps _mm512_set1_ps _mm512_loadu_ps _mm512_storeu_ps _mm512_fmadd_ps _mm512_add_ps
);

kernels!(
    /// 14 × 16 and 8 × 24.
    avx512_f64: "avx512f,avx512bw,avx512vl", Avx512, f64, 8 lanes,
    rows [0 c0 1 c1 2 c2 3 c3 4 c4 5 c5 6 c6 7 c7 8 c8 9 c9 10 c10 11 c11 12 c12 13 c13] x 2,
    cols [0 c0 1 c1 2 c2 3 c3 4 c4 5 c5 6 c6 7 c7] x 3;
    _mm512_setzero_pd _mm512_set1_pd _mm512_loadu_pd _mm512_storeu_pd _mm512_fmadd_pd _mm512_add_pd
);

kernels!(
    /// 6 × 16 and 4 × 24: accumulators, vectors and one broadcast fill 15 and 16 of 16 registers.
    avx2_f32: "avx2,fma", Avx2, f32, 8 lanes,
    rows [0 c0 1 c1 2 c2 3 c3 4 c4 5 c5] x 2,
    cols [0 c0 1 c1 2 c2 3 c3] x 3;
    _mm256_setzero_ps _mm256_set1_ps _mm256_loadu_ps _mm256_storeu_ps _mm256_fmadd_ps _mm256_add_ps
);

kernels!(
    /// 6 × 8 and 4 × 12.
    avx2_f64: "avx2,fma", Avx2, f64, 4 lanes,
    rows [0 c0 1 c1 2 c2 3 c3 4 c4 5 c5] x 2,
    cols [0 c0 1 c1 2 c2 3 c3] x 3;
    _mm256_setzero_pd _mm256_set1_pd _mm256_loadu_pd _mm256_storeu_pd _mm256_fmadd_pd _mm256_add_pd
);
