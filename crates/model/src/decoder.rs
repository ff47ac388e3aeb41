//! The decoder: a batch of pieces of sequences to the logits that were asked for.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use xgraft_checkpoint::Checkpoint;
use xgraft_matmul::{Product, Rows, RowsMut, run};

use crate::attention::attend;
use crate::error::{Error, Result};
use crate::kv::KvCache;
use crate::lora::LoraAdapter;
use crate::math::{rms_norm, rms_norm_in_place, rotate, silu_times};
use crate::projection::{Group, Projection, Target, project};
use crate::spec::{Family, Spec};
use crate::tap::{Site, Tap};
use crate::weights::{Linear, vector};

/// A model, open for computing.
#[derive(Debug)]
pub struct Model {
    spec: Arc<Spec>,
    embedding: Linear,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    /// None if the embedding is the head.
    head: Option<Linear>,
    position_offset: usize,
    pool: ThreadPool,
}

/// How a model is opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Threads that compute; 0 takes one for each processor.
    pub threads: usize,
    /// Added to every position before it becomes an angle: so a test reaches positions that a model is rarely at.
    pub position_offset: usize,
}

/// Consecutive tokens of one sequence: a piece of a prompt, or the one token of a decoding step.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// The tokens, at least one.
    pub tokens: &'a [u32],
    /// Position of the first of them; all before it are in the cache already.
    pub first_position: usize,
    /// The sequence's blocks of the cache from position 0 on, enough for all of `tokens`.
    pub blocks: &'a [u32],
    /// The adapter of the whole sequence.
    pub adapter: Option<&'a LoraAdapter>,
    /// Logits are wanted for the last so many tokens.
    pub logits: usize,
}

#[derive(Debug)]
struct Layer {
    input_norm: Vec<f32>,
    post_norm: Vec<f32>,
    /// Normalizations of queries and keys by head, where the family has them.
    head_norms: Option<[Vec<f32>; 2]>,
    projections: [Linear; Projection::COUNT],
}

/// A segment's rows in the batch.
pub(crate) struct Piece<'a> {
    pub(crate) rows: Range<usize>,
    pub(crate) first_position: usize,
    pub(crate) blocks: &'a [u32],
}

impl Model {
    /// Opens a model directory: maps its weights and looks at every number once.
    ///
    /// # Errors
    /// [`Error::Config`] for what this decoder does not do, [`Error::Weight`] for a weight that is missing or has another shape,
    /// [`Error::Checkpoint`] for damaged files, [`Error::Threads`].
    pub fn open(dir: impl AsRef<Path>, options: &Options) -> Result<Model> {
        let checkpoint = Checkpoint::open(dir)?;
        let spec = Spec::of(&checkpoint)?;
        let table = [spec.vocab, spec.hidden];
        let embedding = Linear::open(&checkpoint, "model.embed_tokens", table)?;
        let head = match spec.tied {
            true => None,
            false => Some(Linear::open(&checkpoint, "lm_head", table)?),
        };
        let layers = (0..spec.layers).map(|layer| Layer::open(&checkpoint, &spec, layer));
        let pool = ThreadPoolBuilder::new()
            .num_threads(options.threads)
            .thread_name(|i| format!("compute-{i}"))
            .build()
            .map_err(|reason| Error::Threads {
                threads: options.threads,
                reason: reason.to_string(),
            })?;
        Ok(Model {
            layers: layers.collect::<Result<_>>()?,
            norm: vector(&checkpoint, "model.norm", spec.hidden)?,
            spec: Arc::new(spec),
            embedding,
            head,
            position_offset: options.position_offset,
            pool,
        })
    }

    /// Its shape.
    pub fn spec(&self) -> &Arc<Spec> {
        &self.spec
    }

    /// Bytes of its matrices, in the map or in memory.
    pub fn bytes(&self) -> usize {
        let layers = self.layers.iter().flat_map(|layer| &layer.projections);
        let all = layers.chain([&self.embedding]).chain(&self.head);
        all.map(Linear::stored_bytes).sum()
    }

    /// Computes the segments and keeps their keys and values; puts the logits that were asked for into `logits`, which is
    /// cleared first.
    ///
    /// **Shapes** `logits` becomes `[sum of Segment::logits, vocab]`, row-major, in the order of the segments.
    ///
    /// # Panics
    /// If a token is outside the vocabulary, a segment is empty or asks for more logits than it has tokens, its blocks do not
    /// reach its last position or are not in the cache.
    pub fn forward(&self, cache: &mut KvCache, batch: &[Segment<'_>], logits: &mut Vec<f32>) {
        self.forward_tapped(cache, batch, logits, None);
    }

    /// As [`Self::forward`]; `tap` sees the input of every projection, and what it leaves there is multiplied.
    ///
    /// Rows come in the order of the segments as long as none has an adapter, else adapter by adapter.
    ///
    /// # Panics
    /// As [`Self::forward`].
    pub fn forward_tapped(
        &self,
        cache: &mut KvCache,
        batch: &[Segment<'_>],
        logits: &mut Vec<f32>,
        tap: Option<&mut dyn Tap>,
    ) {
        logits.clear();
        if batch.is_empty() {
            return;
        }
        self.pool.install(|| self.run(cache, batch, logits, tap));
    }

    fn run(
        &self,
        cache: &mut KvCache,
        batch: &[Segment<'_>],
        logits: &mut Vec<f32>,
        tap: Option<&mut dyn Tap>,
    ) {
        let spec = &*self.spec;
        let order = by_adapter(batch);
        let (pieces, groups) = lay_out(batch, &order);
        let rows = pieces.last().map_or(0, |piece| piece.rows.end);
        let mut hidden = vec![0.0; rows * spec.hidden];
        let tokens = order.iter().flat_map(|at| batch[*at].tokens);
        for (row, token) in hidden.chunks_mut(spec.hidden).zip(tokens) {
            self.embedding.row(*token as usize, row);
        }
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for piece in &pieces {
            for i in 0..piece.rows.len() {
                let position = piece.first_position + i + self.position_offset;
                spec.rope.angles(position, &mut cos, &mut sin);
            }
        }
        let angles = Angles { cos, sin };
        let mut buffers = Buffers::new(spec, rows, tap);
        for (at, layer) in self.layers.iter().enumerate() {
            layer.attention(
                spec,
                at,
                cache,
                (&pieces, &groups),
                &angles,
                &mut hidden,
                &mut buffers,
            );
            layer.feed_forward(spec, at, &groups, &mut hidden, &mut buffers);
        }
        self.logits(batch, &order, &pieces, &hidden, logits);
    }

    fn logits(
        &self,
        batch: &[Segment<'_>],
        order: &[usize],
        pieces: &[Piece<'_>],
        hidden: &[f32],
        logits: &mut Vec<f32>,
    ) {
        let spec = &*self.spec;
        let mut rows_of: Vec<Range<usize>> = vec![0..0; batch.len()];
        for (at, piece) in order.iter().zip(pieces) {
            rows_of[*at] = piece.rows.end - batch[*at].logits..piece.rows.end;
        }
        let rows: Vec<usize> = rows_of.into_iter().flatten().collect();
        if rows.is_empty() {
            return;
        }
        let mut normed = vec![0.0; rows.len() * spec.hidden];
        for (row, out) in rows.iter().zip(normed.chunks_mut(spec.hidden)) {
            let x = &hidden[row * spec.hidden..][..spec.hidden];
            rms_norm(x, &self.norm, spec.norm_eps, out);
        }
        logits.resize(rows.len() * spec.vocab, 0.0);
        run(vec![Product {
            weights: self.head.as_ref().unwrap_or(&self.embedding).view(),
            x: Rows::new(&normed, spec.hidden),
            y: RowsMut::new(logits, spec.vocab),
            add: false,
        }]);
    }
}

/// Cosines and sines of all rows, `[rows, head_dim / 2]`.
struct Angles {
    cos: Vec<f32>,
    sin: Vec<f32>,
}

/// What a layer needs between its steps, for all rows of the batch.
struct Buffers<'t> {
    normed: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    mixed: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    tap: Option<&'t mut dyn Tap>,
}

impl<'t> Buffers<'t> {
    fn new(spec: &Spec, rows: usize, tap: Option<&'t mut dyn Tap>) -> Buffers<'t> {
        let of = |width: usize| vec![0.0; rows * width];
        let keys = spec.kv_heads * spec.head_dim;
        Buffers {
            normed: of(spec.hidden),
            q: of(spec.heads * spec.head_dim),
            k: of(keys),
            v: of(keys),
            mixed: of(spec.heads * spec.head_dim),
            gate: of(spec.intermediate),
            up: of(spec.intermediate),
            tap,
        }
    }

    /// Shows the input of a site to the tap, if there is one.
    fn show(&mut self, layer: usize, site: Site) {
        let Some(tap) = self.tap.as_deref_mut() else {
            return;
        };
        tap.input(
            layer,
            site,
            match site {
                Site::Attention | Site::FeedForward => &mut self.normed,
                Site::AttentionOutput => &mut self.mixed,
                Site::Down => &mut self.gate,
            },
        );
    }
}

impl Layer {
    fn open(checkpoint: &Checkpoint, spec: &Spec, layer: usize) -> Result<Layer> {
        let norm =
            |name: &str, len| vector(checkpoint, &format!("model.layers.{layer}.{name}"), len);
        let open = |p: Projection| Linear::open(checkpoint, &p.module(layer), p.shape(spec));
        use Projection::{Down, Gate, K, O, Q, Up, V};
        Ok(Layer {
            input_norm: norm("input_layernorm", spec.hidden)?,
            post_norm: norm("post_attention_layernorm", spec.hidden)?,
            head_norms: match spec.family {
                Family::Qwen3 => Some([
                    norm("self_attn.q_norm", spec.head_dim)?,
                    norm("self_attn.k_norm", spec.head_dim)?,
                ]),
                Family::Llama => None,
            },
            projections: [
                open(Q)?,
                open(K)?,
                open(V)?,
                open(O)?,
                open(Gate)?,
                open(Up)?,
                open(Down)?,
            ],
        })
    }

    fn target<'a>(&'a self, projection: Projection, y: &'a mut [f32], add: bool) -> Target<'a> {
        Target {
            projection,
            linear: &self.projections[projection as usize],
            y,
            add,
        }
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "what a layer of a batch stands on"
    )]
    fn attention(
        &self,
        spec: &Spec,
        layer: usize,
        cache: &mut KvCache,
        (pieces, groups): (&[Piece<'_>], &[Group<'_>]),
        angles: &Angles,
        hidden: &mut [f32],
        b: &mut Buffers<'_>,
    ) {
        norm_rows(hidden, &self.input_norm, spec.norm_eps, &mut b.normed);
        b.show(layer, Site::Attention);
        let targets = vec![
            self.target(Projection::Q, &mut b.q, false),
            self.target(Projection::K, &mut b.k, false),
            self.target(Projection::V, &mut b.v, false),
        ];
        project(&b.normed, layer, groups, targets);
        self.turn(spec, angles, &mut b.q, 0);
        self.turn(spec, angles, &mut b.k, 1);
        let width = spec.kv_heads * spec.head_dim;
        for piece in pieces {
            for (i, row) in piece.rows.clone().enumerate() {
                let at = row * width..(row + 1) * width;
                let position = piece.first_position + i;
                cache.put(layer, piece.blocks, position, &b.k[at.clone()], &b.v[at]);
            }
        }
        attend(spec, cache, layer, pieces, &b.q, &mut b.mixed);
        b.show(layer, Site::AttentionOutput);
        project(
            &b.mixed,
            layer,
            groups,
            vec![self.target(Projection::O, hidden, true)],
        );
    }

    /// Normalizes and rotates the heads of all rows; `which` is 0 for queries, 1 for keys.
    fn turn(&self, spec: &Spec, angles: &Angles, rows: &mut [f32], which: usize) {
        let (width, half) = (spec.head_dim, spec.head_dim / 2);
        let heads = [spec.heads, spec.kv_heads][which];
        let norm = self.head_norms.as_ref().map(|norms| &norms[which]);
        each_row(rows, heads * width, |row, heads| {
            let at = row * half..(row + 1) * half;
            for head in heads.chunks_mut(width) {
                if let Some(norm) = norm {
                    rms_norm_in_place(head, norm, spec.norm_eps);
                }
                rotate(head, &angles.cos[at.clone()], &angles.sin[at.clone()]);
            }
        });
    }

    fn feed_forward(
        &self,
        spec: &Spec,
        layer: usize,
        groups: &[Group<'_>],
        hidden: &mut [f32],
        b: &mut Buffers<'_>,
    ) {
        norm_rows(hidden, &self.post_norm, spec.norm_eps, &mut b.normed);
        b.show(layer, Site::FeedForward);
        let targets = vec![
            self.target(Projection::Gate, &mut b.gate, false),
            self.target(Projection::Up, &mut b.up, false),
        ];
        project(&b.normed, layer, groups, targets);
        let (width, up) = (spec.intermediate, &b.up);
        each_row(&mut b.gate, width, |row, gate| {
            silu_times(gate, &up[row * width..][..width]);
        });
        b.show(layer, Site::Down);
        project(
            &b.gate,
            layer,
            groups,
            vec![self.target(Projection::Down, hidden, true)],
        );
    }
}

fn norm_rows(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let width = weight.len();
    each_row(out, width, |row, out| {
        rms_norm(&x[row * width..][..width], weight, eps, out);
    });
}

/// Elements of a matrix from which its rows are spread over threads.
const SPREAD: usize = 1 << 15;

fn each_row(rows: &mut [f32], width: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    if rows.len() < SPREAD {
        rows.chunks_mut(width)
            .enumerate()
            .for_each(|(row, x)| f(row, x));
    } else {
        let least = (SPREAD / 2 / width).max(1);
        let rows = rows.par_chunks_mut(width).enumerate().with_min_len(least);
        rows.for_each(|(row, x)| f(row, x));
    }
}

/// The segments' order in the batch: base rows first, then adapter by adapter.
fn by_adapter(batch: &[Segment<'_>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..batch.len()).collect();
    order.sort_by_key(|at| batch[*at].adapter.map(|a| std::ptr::from_ref(a).addr()));
    order
}

/// Rows of the segments, and groups of rows that run on one adapter.
fn lay_out<'a>(batch: &[Segment<'a>], order: &[usize]) -> (Vec<Piece<'a>>, Vec<Group<'a>>) {
    let mut pieces = Vec::with_capacity(batch.len());
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut row = 0;
    for at in order {
        let segment = &batch[*at];
        assert!(!segment.tokens.is_empty(), "an empty segment");
        assert!(
            segment.logits <= segment.tokens.len(),
            "more logits than tokens"
        );
        let rows = row..row + segment.tokens.len();
        row = rows.end;
        match groups.last_mut() {
            Some(group) if same(group.adapter, segment.adapter) => group.rows.end = rows.end,
            _ => groups.push(Group {
                rows: rows.clone(),
                adapter: segment.adapter,
            }),
        }
        pieces.push(Piece {
            rows,
            first_position: segment.first_position,
            blocks: segment.blocks,
        });
    }
    (pieces, groups)
}

fn same(a: Option<&LoraAdapter>, b: Option<&LoraAdapter>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => std::ptr::eq(a, b),
        _ => false,
    }
}
