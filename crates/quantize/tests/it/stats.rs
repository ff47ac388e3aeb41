//! What activation statistics are used for.

use std::path::Path;

use xgraft_checkpoint::{
    ActivationStats, Activations, Checkpoint, Observed, OutputDir, Quantization,
};
use xgraft_quantize::{
    Config, Conversion, Error, Known, Result, Scheme, dequantize, fingerprint, quantize,
};

use crate::{fixture, json};

/// Statistics of every linear layer in which channel i is i % 16 + 1 times as large as the first.
fn stats(source: &Checkpoint) -> ActivationStats {
    let mut observed = Observed {
        tokens: 1000,
        ..Observed::default()
    };
    let mut modules = std::collections::BTreeMap::new();
    for weight in source.weights() {
        let digest = source.load(weight).unwrap().1.to_hex();
        observed.model.insert(weight.tensor.clone(), digest);
        if weight.role.is_linear() {
            let channels = weight.matrix_shape().1;
            let mut seen = Activations::new(channels);
            seen.tokens = 1000;
            for channel in 0..channels {
                let size = (channel % 16 + 1) as f64;
                seen.amax_channel[channel] = 4.0 * size as f32;
                seen.abs_sum_channel[channel] = 1000.0 * size;
                seen.square_sum_channel[channel] = 1500.0 * size * size;
            }
            modules.insert(weight.module.clone(), seen);
        }
    }
    ActivationStats { observed, modules }
}

fn run(to: &Path, config: &Config, stats: Option<&ActivationStats>) -> Result<Conversion> {
    let source = Checkpoint::open(fixture("tiny-qwen3/tuned")).unwrap();
    let work = fingerprint("quantize", &source, None, config);
    let out = OutputDir::create(to, true, &work)?;
    let known = Known { base: None, stats };
    let done = quantize(&source, known, config, &out, &|_| Ok(()))?;
    out.commit()?;
    Ok(done)
}

fn awq() -> Config {
    Config {
        awq: true,
        ..Config::of(Scheme::Int4)
    }
}

#[test]
fn awq_moves_scales_between_layers_and_leaves_the_products_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let source = Checkpoint::open(fixture("tiny-qwen3/tuned")).unwrap();
    let stats = stats(&source);
    let (to, plain) = (folder.path().join("awq"), folder.path().join("plain"));
    let scaled = run(&to, &awq(), Some(&stats)).unwrap().report;
    let plain = run(&plain, &Config::of(Scheme::Int4), Some(&stats))
        .unwrap()
        .report;
    let [less, more] = [&scaled, &plain].map(|report| report.output().unwrap().relative());
    assert!(less < 0.97 * more, "{less} and {more}");
    assert!(scaled.scaled.iter().all(|s| s.loss <= s.loss_before));
    assert!(!to.join("channel-scales").exists());
    let written = Checkpoint::open(&to).unwrap();
    assert!(
        matches!(written.quantization(), Quantization::Grouped(g) if g.method == "compressed-tensors")
    );
    let values = |checkpoint: &Checkpoint, module: &str| {
        checkpoint
            .load(checkpoint.weight(module).unwrap())
            .unwrap()
            .0
            .to_f32()
    };
    // Column j of norm and weight: their product is the original's but for the rounding of the weight.
    for (norm, weight) in [
        ("input_layernorm", "self_attn.k_proj"),
        ("post_attention_layernorm", "mlp.gate_proj"),
    ] {
        let names = [norm, weight].map(|part| format!("model.layers.1.{part}"));
        let product = |checkpoint: &Checkpoint| -> Vec<f32> {
            let (norm, weight) = (values(checkpoint, &names[0]), values(checkpoint, &names[1]));
            let rows = weight.chunks(norm.len());
            rows.flat_map(|row| row.iter().zip(&norm).map(|(w, n)| w * n))
                .collect()
        };
        let (before, after) = (product(&source), product(&written));
        let norm2: f32 = before.iter().map(|x| x * x).sum();
        let error2: f32 = before
            .iter()
            .zip(&after)
            .map(|(x, y)| (x - y).powi(2))
            .sum();
        assert!(
            (error2 / norm2).sqrt() < 0.2,
            "{weight}: {}",
            (error2 / norm2).sqrt()
        );
        assert_ne!(values(&source, &names[0]), values(&written, &names[0]));
    }
}

#[test]
fn fixed_input_scales_are_written_and_go_with_the_codes() {
    let folder = tempfile::tempdir().unwrap();
    let source = Checkpoint::open(fixture("tiny-qwen3/tuned")).unwrap();
    let (to, bridge) = (folder.path().join("static"), folder.path().join("bridge"));
    let config = Config::of(Scheme::Fp8TensorStatic);
    run(&to, &config, Some(&stats(&source))).unwrap();
    let group = &json(&to.join("config.json"))["quantization_config"]["config_groups"]["FP8"];
    assert_eq!(group["input_activations"]["dynamic"], false);
    let written = Checkpoint::open(&to).unwrap();
    let scale = written
        .tensor("model.layers.0.mlp.up_proj.input_scale")
        .unwrap();
    assert_eq!(scale.shape, [1]);
    let mut bytes = Vec::new();
    written.read_bytes(scale, 0..2, &mut bytes).unwrap();
    // The upper half of the f32 next to 64 / 448.
    assert_eq!(bytes, half::bf16::from_f32(64.0 / 448.0).to_le_bytes());
    let work = fingerprint("dequantize", &written, None, &config);
    let out = OutputDir::create(&bridge, false, &work).unwrap();
    dequantize(&written, None, &config, &out, &|_| Ok(())).unwrap();
    out.commit().unwrap();
    let bridge = Checkpoint::open(&bridge).unwrap();
    assert!(
        bridge
            .tensors()
            .all(|tensor| !tensor.name.contains("scale"))
    );
}

#[test]
fn statistics_that_are_missing_of_another_model_or_too_few_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("out");
    let source = Checkpoint::open(fixture("tiny-qwen3/tuned")).unwrap();
    let good = stats(&source);
    let refused = |config: &Config, change: &dyn Fn(&mut ActivationStats)| {
        let mut stats = good.clone();
        change(&mut stats);
        run(&to, config, Some(&stats)).unwrap_err().to_string()
    };
    assert!(matches!(
        run(&to, &awq(), None),
        Err(Error::NeedsStats { .. })
    ));
    let few = refused(&awq(), &|stats| stats.observed.tokens = 100);
    assert!(
        few.contains("tokens: expected at least 128, found 100"),
        "{few}"
    );
    let module = "model.layers.1.mlp.down_proj";
    let missing = refused(&awq(), &|stats| drop(stats.modules.remove(module)));
    assert!(
        missing.contains(module) && missing.contains("nothing"),
        "{missing}"
    );
    let other = refused(&awq(), &|stats| {
        let digest = stats.observed.model.get_mut("model.norm.weight").unwrap();
        *digest = "00".repeat(32);
    });
    assert!(
        other.contains("model.norm.weight: expected statistics of the tensor"),
        "{other}"
    );
    let silent = refused(&Config::of(Scheme::Fp8TensorStatic), &|stats| {
        stats
            .modules
            .get_mut(module)
            .unwrap()
            .amax_channel
            .fill(0.0);
    });
    assert!(silent.contains("zero in all of 1000 tokens"), "{silent}");
}
