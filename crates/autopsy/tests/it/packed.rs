//! Packed integers, whose codes lie across rows in their files.

use xgraft_autopsy::Verdict;
use xgraft_checkpoint::Checkpoint;
use xgraft_fixtures::golden;

use crate::support::{QWEN3, Tensor, examine, f32_tensor, lines, model, of, raw};

#[test]
fn packed_numbers_are_measured_as_their_decoded_ones() {
    for layout in [
        "ct-int8",
        "ct-int4-asym",
        "awq",
        "gptq-sorted-v1",
        "bnb-nf4",
    ] {
        let dir = golden::path(&format!("packed-{layout}"));
        let checkpoint = Checkpoint::open(&dir).unwrap();
        let weights = checkpoint.weights();
        let decoded: Vec<Tensor> = weights
            .iter()
            .map(|w| {
                let numbers = checkpoint.load(w).unwrap().0.to_f32();
                f32_tensor(&w.plain_name(), &w.shape, &numbers)
            })
            .collect();
        let decoded = model(QWEN3, &decoded);
        let (packed, plain) = (examine(&dir, None), examine(decoded.path(), None));
        let beside = examine(&dir, Some(decoded.path()));
        for weight in weights {
            let (own, other) = (
                of(&packed, &weight.tensor),
                of(&plain, &weight.plain_name()),
            );
            let mut stats = own.stats.clone().unwrap();
            // The least and the largest of each of a few groups a row.
            let saturated = stats.saturated_share.take();
            assert_eq!(saturated.is_some(), weight.is_quantized(), "{layout}");
            let few = saturated.is_none_or(|share| (1e-4..0.2).contains(&share));
            assert!(few, "{layout}: {saturated:?}");
            assert_eq!(Some(stats), other.stats, "{layout} {}", weight.tensor);
            let reference = of(&beside, &weight.tensor).reference.clone();
            let error = reference.unwrap().relative_error;
            assert_eq!(error, Some(0.0), "{layout} {}", weight.tensor);
        }
    }
}

#[test]
fn a_scale_that_cannot_be_meant_is_a_verdict_and_stops_nothing() {
    let name = "model.layers.0.mlp.up_proj";
    let config = r#"{"model_type": "qwen3", "quantization_config": {"quant_method": "compressed-tensors",
        "format": "int-quantized", "config_groups": {"group_0": {"targets": ["Linear"], "weights":
        {"num_bits": 8, "type": "int", "symmetric": true, "strategy": "channel"}}}}}"#;
    for bad in [f32::NAN, 0.0, -1.0] {
        let scales = [0.1, bad].map(f32::to_le_bytes).concat();
        let dir = model(
            config,
            &[
                raw(&format!("{name}.weight"), "I8", &[2, 4], vec![1; 8]),
                raw(&format!("{name}.weight_scale"), "F32", &[2, 1], scales),
                f32_tensor("model.norm.weight", &[4], &[1.0; 4]),
            ],
        );
        let report = examine(dir.path(), None);
        let verdict = of(&report, &format!("{name}.weight")).verdict;
        assert_eq!(verdict, Verdict::NotFinite, "{bad}: {}", lines(&report));
        assert!(of(&report, "model.norm.weight").stats.is_some(), "{bad}");
        assert!(!report.healthy, "{bad}");
    }
}
