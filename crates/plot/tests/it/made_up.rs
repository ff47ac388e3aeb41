//! Output directories of an extraction and its check that never happened.

use std::{fs, path::Path};
use xgraft_plot::Source;
use xgraft_results::{Finding, Input, Manifest, Row, Tool, jsonl};

const ROLES: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

fn modules(layers: usize) -> impl Iterator<Item = (String, f64)> {
    (0..layers).flat_map(move |layer| {
        ROLES.iter().enumerate().map(move |(role, name)| {
            let depth = layer as f64 / layers as f64;
            let wave = (1.7 * layer as f64 + 2.3 * role as f64).sin();
            let kept = 0.985 - 0.012 * role as f64 - 0.03 * depth * depth + 0.004 * wave;
            (format!("model.layers.{layer}.{name}"), kept)
        })
    })
}

/// Writes `extract-<arm>` and `verify-<arm>` below `dir`, and gives them as sources.
pub(crate) fn steps(dir: &Path, layers: usize, arm: &str, lost: f64) -> Vec<Source> {
    let mut extract = vec![];
    let mut verify = vec![];
    for (module, kept) in modules(layers) {
        let kept = kept - lost;
        let row = |metric, value| Row::new(metric, value).arm(arm).module(&module);
        let residual = (1.0 - kept).sqrt();
        extract.extend([
            row("delta_norm", 3.2),
            row("delta_ratio", 0.021),
            row("energy_kept", kept),
            row("residual", residual),
            row("excess_estimated", 2.1e-4),
            row("rank", 32.0),
            row("adapter_bytes", 65536.0),
            row("seconds", 0.031),
        ]);
        extract.extend([1, 2, 4, 8, 16, 32].map(|rank| {
            let share = (f64::from(rank) / 32.0).powf(0.2);
            row("energy_at_rank", kept * share).n(rank as u64)
        }));
        verify.extend([
            row("base_error", 0.034 + 0.002 * kept),
            row("relative_error", 0.026 + 0.01 * residual * residual),
            row("update_residual", residual),
            row("optimum", 0.9995 * residual),
        ]);
    }
    let findings: Vec<_> = (0..layers)
        .map(|layer| {
            let tensor = format!("model.layers.{layer}.input_layernorm.weight");
            Finding::info("dropped-norm", tensor, "the policy takes no norms").value(1e-4)
        })
        .chain([Finding::warning("dropped-energy", "adapter", "7.1 % is dropped").hint("look")])
        .collect();
    vec![
        write(
            &dir.join(format!("extract-{arm}")),
            "extract",
            &extract,
            &findings,
        ),
        write(&dir.join(format!("verify-{arm}")), "verify", &verify, &[]),
    ]
}

fn write(dir: &Path, verb: &str, rows: &[Row], findings: &[Finding]) -> Source {
    let manifest = Manifest {
        tool: Tool::new("xgraft", "0.1.0", Some("0123456789abcdef")),
        verb: verb.to_owned(),
        config: serde_json::json!({"rank": 32, "policy": "vllm"}),
        seed: Some(0),
        inputs: vec![Input {
            role: "base".to_owned(),
            tensor: Some("w".to_owned()),
            file: "model.safetensors".to_owned(),
            blake3: "0".repeat(64),
            bytes: 131_072,
        }],
    };
    fs::create_dir_all(dir).expect("creates");
    fs::write(
        dir.join(Manifest::FILE),
        manifest.to_bytes().expect("encodes"),
    )
    .expect("writes");
    jsonl::write_file(&dir.join("rows.jsonl"), rows).expect("writes");
    jsonl::write_file(&dir.join("findings.jsonl"), findings).expect("writes");
    Source::parse(&dir.display().to_string())
}
