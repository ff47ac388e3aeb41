//! Which files go along with the weights.

use xgraft_checkpoint::copy_side_files;

use crate::support::{Model, contents};

#[test]
fn tokenizer_template_and_licence_go_along_and_weights_do_not() {
    let kept = [
        "LICENSE",
        "added_tokens.json",
        "additional_chat_templates/tool.jinja",
        "chat_template.jinja",
        "generation_config.json",
        "merges.txt",
        "modeling_custom.py",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "vocab.json",
    ];
    let left = [
        "config.json",
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "tokenizer.safetensors",
        "README.md",
        "manifest.json",
        "adapter_config.json",
        ".gitattributes",
        "original/consolidated.00.pth",
    ];
    let (from, to) = (
        Model {
            temp: tempfile::tempdir().unwrap(),
        },
        tempfile::tempdir().unwrap(),
    );
    for name in kept.iter().chain(&left) {
        from.file(name, name.as_bytes());
    }
    std::os::unix::fs::symlink("vocab.json", from.path("tokenizer.link")).unwrap();
    let copied = copy_side_files(from.dir(), to.path()).unwrap();
    let mut expected: Vec<String> = kept.iter().map(|n| (*n).to_owned()).collect();
    expected.push("tokenizer.link".to_owned());
    expected.sort();
    assert_eq!(copied, expected);
    assert!(
        !to.path().join("tokenizer.link").is_symlink(),
        "the bytes are copied, not the link"
    );
    assert_eq!(contents(to.path()).len(), expected.len());
}
