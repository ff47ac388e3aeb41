//! The files beside the weights: tokenizer, chat template, licence.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};

/// Copies what a model directory needs besides weights and configuration; returns the names, sorted.
///
/// Copied: tokenizer and vocabulary files, chat templates, generation and processor configurations, custom code, licences.
/// Not copied: weights in any format, their indexes, `config.json`, model cards, and whatever is not known.
///
/// # Errors
/// [`Error::Io`].
pub fn copy_side_files(from: &Path, to: &Path) -> Result<Vec<String>> {
    let mut copied = Vec::new();
    let listed = || -> std::io::Result<Vec<fs::DirEntry>> { fs::read_dir(from)?.collect() };
    for entry in listed().map_err(Error::io("list", from))? {
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
            continue;
        };
        let source = entry.path();
        if source.is_file() && is_side_file(&name) {
            fs::copy(&source, to.join(&name)).map_err(Error::io("copy", &source))?;
            copied.push(name);
        } else if source.is_dir() && name == "additional_chat_templates" {
            let target = to.join(&name);
            fs::create_dir_all(&target).map_err(Error::io("create", &target))?;
            for template in copy_templates(&source, &target)? {
                copied.push(format!("{name}/{template}"));
            }
        }
    }
    copied.sort();
    Ok(copied)
}

fn copy_templates(from: &Path, to: &Path) -> Result<Vec<String>> {
    let listed = || -> std::io::Result<Vec<fs::DirEntry>> { fs::read_dir(from)?.collect() };
    let mut copied = Vec::new();
    for entry in listed().map_err(Error::io("list", from))? {
        let (name, source) = (entry.file_name(), entry.path());
        if source.extension().is_some_and(|e| e == "jinja") {
            fs::copy(&source, to.join(&name)).map_err(Error::io("copy", &source))?;
            copied.push(name.to_string_lossy().into_owned());
        }
    }
    Ok(copied)
}

/// Judged by name; the list is of what `transformers`, vLLM and their tokenizers read.
fn is_side_file(name: &str) -> bool {
    const EXACT: [&str; 8] = [
        "generation_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "merges.txt",
        "preprocessor_config.json",
        "processor_config.json",
        "spiece.model",
        "sentencepiece.bpe.model",
    ];
    const STARTS: [&str; 7] = [
        "tokenizer",
        "vocab",
        "chat_template",
        "LICENSE",
        "LICENCE",
        "NOTICE",
        "USE_POLICY",
    ];
    let weights = [
        ".safetensors",
        ".bin",
        ".pt",
        ".pth",
        ".gguf",
        ".index.json",
    ];
    let known = EXACT.contains(&name) || STARTS.iter().any(|start| name.starts_with(start));
    let code = name.ends_with(".py") || name.ends_with(".tiktoken");
    (known || code) && !weights.iter().any(|end| name.ends_with(end))
}
