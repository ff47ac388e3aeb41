//! Whether an adapter is of the weights that it is used with.

use std::path::Path;

use xgraft_results::{Finding, Input, Manifest};

/// A warning where the adapter's manifest says of what weights it was made, and `used` are others under the same names.
///
/// Of an adapter without such a manifest nothing is known.
pub(crate) fn of_other_weights<'a>(
    adapter: &Path,
    used: impl IntoIterator<Item = &'a Input>,
) -> Option<Finding> {
    let manifest = Manifest::read(&adapter.join(Manifest::FILE)).ok()?;
    let made_of = |input: &&Input| matches!(input.role.as_str(), "base" | "tuned");
    let made_of: Vec<&Input> = manifest.inputs.iter().filter(made_of).collect();
    let (mut named, mut equal) = (0, 0);
    for input in used {
        let namesakes = || made_of.iter().filter(|of| of.tensor == input.tensor);
        named += usize::from(namesakes().next().is_some());
        equal += usize::from(namesakes().any(|of| of.blake3 == input.blake3));
    }
    (named > 0 && equal == 0).then(|| {
        Finding::warning(
            "of-other-weights",
            adapter.display().to_string(),
            format!("expected the weights that its manifest names, found others under the names of all {named} that are used"),
        )
        .hint("an adapter belongs to the base that it was extracted against and to quantized copies of it")
    })
}
