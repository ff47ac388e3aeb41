//! The tile kernels: lanes along the columns of the panel, one broadcast element of the left block per row and term.
//!
//! All accumulators of a tile stay in registers over the whole chain, and every lane is one chain of fused
//! multiply-adds, so the lanes' width and the tile's shape change no bit.
#![expect(unsafe_code, reason = "vector intrinsics over raw pointers")]

macro_rules! tile_kernel {
    (
        $(#[$doc:meta])* $module:ident, $feature:literal, $token:ident, $element:ty,
        rows [$($row:literal $low:ident $high:ident)*], lanes $lanes:literal,
        $zero:ident, $broadcast:ident, $load:ident, $store:ident, $fma:ident, $add:ident
    ) => {
        $(#[$doc])*
        pub(in crate::arch) mod $module {
            use std::arch::x86_64::{
                _MM_HINT_T0, _MM_HINT_T1, _mm_prefetch, $add, $broadcast, $fma, $load, $store, $zero,
            };

            use super::super::$token;
            use crate::arch::Tile;
            use crate::element::Element;
            use crate::left::{Layout, lead};

            const HEIGHT: usize = [$($row),*].len();
            const WIDTH: usize = 2 * $lanes;

            /// Height and width of a tile.
            pub(in crate::arch) const SHAPE: (usize, usize) = (HEIGHT, WIDTH);

            /// Runs a tile that [`Tile::check`] has passed for [`SHAPE`].
            #[inline]
            pub(in crate::arch) fn run(_: $token, layout: Layout, tile: Tile<'_, $element>) {
                const ROWS_LD: usize = <$element as Element>::ROWS_LD;
                const LEAD: usize = lead(HEIGHT);
                // SAFETY: the token proves the instruction set, and the caller has checked that a whole
                // HEIGHT x terms left tile, a terms x WIDTH strip and rows x cols results lie in the slices.
                unsafe {
                    match layout {
                        Layout::Rows => kernel::<ROWS_LD, 1>(tile),
                        Layout::Cols => kernel::<1, LEAD>(tile),
                    }
                }
            }

            /// # Safety
            /// The features must be there. `left` must hold `(HEIGHT - 1) * ROW + (terms - 1) * TERM + 1` elements,
            /// `strip` `terms * WIDTH`, `out` `(rows - 1) * ld + cols`, with `rows <= HEIGHT` and `cols <= WIDTH`.
            #[target_feature(enable = $feature)]
            unsafe fn kernel<const ROW: usize, const TERM: usize>(tile: Tile<'_, $element>) {
                let out = tile.out.as_mut_ptr();
                for i in 0..tile.rows {
                    // SAFETY: row `i` starts inside `out`; a prefetch cannot fault in any case.
                    unsafe { _mm_prefetch::<_MM_HINT_T0>(out.add(i * tile.ld).cast()) };
                }
                // One variable per accumulator: an array of them would live in memory, not in registers.
                $(let (mut $low, mut $high) = ($zero(), $zero());)*
                let mut left = tile.left.as_ptr();
                let mut strip = tile.strip.as_ptr();
                // The lines to fetch are spread over the terms, a power of two apart.
                let ahead = tile.ahead.addresses();
                let shift = (tile.terms / ahead.len().max(1)).checked_ilog2().unwrap_or(0);
                for term in 0..tile.terms {
                    if term & ((1 << shift) - 1) == 0
                        && let Some(line) = ahead.get(term >> shift)
                    {
                        _mm_prefetch::<_MM_HINT_T1>(*line);
                    }
                    // SAFETY: by the contract all addresses of this term lie in `left` and `strip`; the two
                    // pointers end at most one term behind their slices and are not read there.
                    unsafe {
                        let (first, second) = ($load(strip), $load(strip.add($lanes)));
                        $(
                            let element = $broadcast(*left.add($row * ROW));
                            $low = $fma(element, first, $low);
                            $high = $fma(element, second, $high);
                        )*
                        left = left.wrapping_add(TERM);
                        strip = strip.wrapping_add(WIDTH);
                    }
                }
                if tile.cols == WIDTH {
                    $(
                        if $row < tile.rows {
                            // SAFETY: the row is below `rows`, and has WIDTH columns inside `out`.
                            unsafe {
                                let to = out.add($row * tile.ld);
                                $store(to, $add($load(to), $low));
                                let to = to.add($lanes);
                                $store(to, $add($load(to), $high));
                            }
                        }
                    )*
                } else {
                    let mut sums = [[<$element>::default(); WIDTH]; HEIGHT];
                    $(
                        // SAFETY: a row of `sums` holds WIDTH elements.
                        unsafe {
                            let to = sums[$row].as_mut_ptr();
                            $store(to, $low);
                            $store(to.add($lanes), $high);
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

tile_kernel!(
    /// f32, 14 × 32: 28 accumulators, two vectors of the strip and one broadcast fill 31 of 32 registers.
    avx512_f32, "avx512f,avx512bw,avx512vl", Avx512, f32, rows [0 a0 b0 1 a1 b1 2 a2 b2 3 a3 b3 4 a4 b4 5 a5 b5 6 a6 b6 7 a7 b7 8 a8 b8 9 a9 b9 10 a10 b10 11 a11 b11 12 a12 b12 13 a13 b13], lanes 16,
    _mm512_setzero_ps, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_fmadd_ps, _mm512_add_ps
);

tile_kernel!(
    /// f64, 14 × 16.
    avx512_f64, "avx512f,avx512bw,avx512vl", Avx512, f64, rows [0 a0 b0 1 a1 b1 2 a2 b2 3 a3 b3 4 a4 b4 5 a5 b5 6 a6 b6 7 a7 b7 8 a8 b8 9 a9 b9 10 a10 b10 11 a11 b11 12 a12 b12 13 a13 b13], lanes 8,
    _mm512_setzero_pd, _mm512_set1_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_fmadd_pd, _mm512_add_pd
);

tile_kernel!(
    /// f32, 6 × 16: 12 accumulators, two vectors of the strip and one broadcast fill 15 of 16 registers.
    avx2_f32, "avx2,fma", Avx2, f32, rows [0 a0 b0 1 a1 b1 2 a2 b2 3 a3 b3 4 a4 b4 5 a5 b5], lanes 8,
    _mm256_setzero_ps, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_fmadd_ps, _mm256_add_ps
);

tile_kernel!(
    /// f64, 6 × 8.
    avx2_f64, "avx2,fma", Avx2, f64, rows [0 a0 b0 1 a1 b1 2 a2 b2 3 a3 b3 4 a4 b4 5 a5 b5], lanes 4,
    _mm256_setzero_pd, _mm256_set1_pd, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_fmadd_pd, _mm256_add_pd
);
