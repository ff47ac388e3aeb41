//! Which layers' input channels may be scaled, and what takes the inverse.

use xgraft_checkpoint::{Checkpoint, NormKind, Role, Weight};

/// A layer or norm whose output channels are divided, and the layers that read them.
#[derive(Debug, Clone)]
pub(crate) struct Mapping<'a> {
    pub(crate) smooth: &'a Weight,
    pub(crate) balance: Vec<&'a Weight>,
}

/// The mappings of llm-compressor for Qwen3 and Llama, layer by layer: norms before q, k, v and gate, up; v before o, where o
/// reads the channels of v one by one (no grouped queries); up before down.
///
/// A mapping is left out if one of its linear layers is not `taken`, and all of a layer with linear layers that are not known.
pub(crate) fn mappings<'a>(
    source: &'a Checkpoint,
    taken: &dyn Fn(&Weight) -> bool,
) -> Vec<Mapping<'a>> {
    use Role::{Down, Gate, K, Norm, O, Q, Up, V};
    let layers = (0..source.layer_count()).flat_map(|layer| {
        let of_layer = move |w: &&Weight| w.layer() == Some(layer);
        let weights: Vec<&Weight> = source.weights().iter().filter(of_layer).collect();
        let is_known = weights.iter().all(|w| w.role != Role::OtherLinear);
        let find = |role: Role| {
            let mut found = weights.iter().filter(|w| w.role == role && is_weight(w));
            found.next().copied().filter(|_| is_known)
        };
        let mapping = |smooth: Role, balance: &[Role]| {
            let smooth = find(smooth)?;
            let balance: Option<Vec<&Weight>> = balance.iter().map(|role| find(*role)).collect();
            let balance = balance?;
            let fits = balance
                .iter()
                .all(|w| w.matrix_shape().1 == smooth.shape[0]);
            let linear = balance.iter().chain([&smooth]);
            let all = linear.filter(|w| w.role.is_linear()).all(|w| taken(w));
            (fits && all).then_some(Mapping { smooth, balance })
        };
        [
            mapping(Norm(NormKind::Input), &[Q, K, V]),
            mapping(V, &[O]),
            mapping(Norm(NormKind::PostAttention), &[Gate, Up]),
            mapping(Up, &[Down]),
        ]
    });
    layers.flatten().collect()
}

fn is_weight(weight: &Weight) -> bool {
    weight.tensor.ends_with(".weight")
}
