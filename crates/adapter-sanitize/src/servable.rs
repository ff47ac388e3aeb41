//! The one configuration that every reader of PEFT adapters understands alike.

use std::collections::BTreeSet;

use xgraft_checkpoint::AdapterConfig;

/// The configuration of an adapter whose pairs have the given ranks and all have scale 1.
///
/// The global rank is the largest, and alpha equals the rank, globally and for each module that
/// differs, so that readers with and without `rank_pattern` apply the same scale. `saved` are
/// modules that are carried whole; none but PEFT takes them.
#[must_use]
pub fn servable_config(base: &str, ranks: &[(&str, usize)], saved: &[&str]) -> AdapterConfig {
    let leaf = |module: &str| module.rsplit('.').next().unwrap_or(module).to_owned();
    let leaves = |modules: &mut dyn Iterator<Item = &str>| -> Vec<String> {
        modules
            .map(leaf)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    };
    let r = ranks.iter().map(|(_, rank)| *rank).max().unwrap_or(1);
    let mut config = AdapterConfig::new(base, r, leaves(&mut ranks.iter().map(|(m, _)| *m)));
    for (module, rank) in ranks.iter().filter(|(_, rank)| *rank != r) {
        config.rank_pattern.push(((*module).to_owned(), *rank));
        config
            .alpha_pattern
            .push(((*module).to_owned(), *rank as f64));
    }
    config.modules_to_save = (!saved.is_empty()).then(|| leaves(&mut saved.iter().copied()));
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_module_has_scale_one_with_and_without_patterns() {
        let ranks = [
            ("model.layers.0.mlp.up_proj", 8),
            ("model.layers.1.mlp.up_proj", 32),
        ];
        let config = servable_config("base", &ranks, &[]);
        let resolver = config.resolver(Path::new("adapter_config.json")).unwrap();
        for (module, rank) in ranks {
            assert_eq!(resolver.rank(module), rank);
            assert!((resolver.scale(module) - 1.0).abs() < 1e-15);
        }
        assert!((config.lora_alpha / config.r as f64 - 1.0).abs() < 1e-15);
        assert_eq!(config.modules_to_save, None);
    }
}
