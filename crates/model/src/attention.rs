//! Attention of a batch over the cache.

use rayon::prelude::*;

use crate::decoder::Piece;
use crate::kv::KvCache;
use crate::math::softmax;
use crate::spec::Spec;

/// Queries that share the reading of keys and values.
const QUERIES: usize = 16;

/// `softmax(q Kᵀ / √d) V` for every token and head, over all positions up to the token's own.
///
/// **Shapes** `q` and `out` are `[tokens, heads, head_dim]`.
pub(crate) fn attend(
    spec: &Spec,
    cache: &KvCache,
    layer: usize,
    pieces: &[Piece<'_>],
    q: &[f32],
    out: &mut [f32],
) {
    let (width, per) = (spec.head_dim, spec.heads / spec.kv_heads);
    // Each task is one head of keys with the queries of some tokens of one sequence; it owns their part of the result.
    let mut tasks = Vec::new();
    let mut heads = out.chunks_mut(width * per);
    for piece in pieces {
        let tokens: Vec<usize> = piece.rows.clone().collect();
        for tokens in tokens.chunks((QUERIES / per).max(1)) {
            let mut outs: Vec<Vec<&mut [f32]>> = Vec::new();
            outs.resize_with(spec.kv_heads, Vec::new);
            for _ in tokens {
                for (outs, out) in outs.iter_mut().zip(&mut heads) {
                    outs.extend(out.chunks_mut(width));
                }
            }
            for (head, outs) in outs.into_iter().enumerate() {
                let first = piece.first_position + tokens[0] - piece.rows.start;
                tasks.push((
                    piece.blocks,
                    head,
                    tokens[0]..tokens[0] + tokens.len(),
                    first,
                    outs,
                ));
            }
        }
    }
    let scale = 1.0 / (width as f32).sqrt();
    tasks
        .into_par_iter()
        .with_max_len(1)
        .for_each(|(blocks, head, tokens, first, mut outs)| {
            let query = |token: usize, i: usize| {
                let at = (token * spec.heads + head * per + i) * width;
                &q[at..at + width]
            };
            let queries: Vec<&[f32]> = tokens
                .clone()
                .flat_map(|t| (0..per).map(move |i| query(t, i)))
                .collect();
            let seen = first + tokens.len();
            let [keys, values] =
                cache.head(layer, head, &blocks[..seen.div_ceil(cache.block_tokens())]);
            let mut scores = vec![0.0; queries.len() * seen];
            let mut lines: Vec<&mut [f32]> = scores.chunks_mut(seen).collect();
            keys.times_transposed(seen, &queries, &mut lines);
            for (i, line) in lines.iter_mut().enumerate() {
                let (own, later) = line.split_at_mut(first + i / per + 1);
                softmax(own, scale);
                later.fill(0.0);
            }
            let lines: Vec<&[f32]> = scores.chunks(seen).collect();
            values.times(seen, &lines, &mut outs);
        });
}
