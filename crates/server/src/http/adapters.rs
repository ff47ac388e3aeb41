//! Loading and unloading adapters.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;

use super::body;
use crate::api::error::{ApiError, Result};
use crate::api::fields::Fields;
use crate::app::App;
use crate::config::RuntimeAdapters;

/// Characters of an adapter's name.
const LONGEST_NAME: usize = 128;

/// `POST /v1/load_lora_adapter`: `lora_name`, `lora_path`, and `load_inplace` to replace one of that name.
pub(super) async fn load(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<String> {
    allowed(&app)?;
    let body = body::read(&headers, body, &app).await?;
    app.loading(move |app| {
        let mut fields = Fields::parse(&body)?;
        let name = name(app, &mut fields)?;
        let path = fields.text("lora_path")?.unwrap_or_default();
        let replace = fields.flag("load_inplace", false)?;
        fields.finish(&[("base_model_name", "*")])?;
        let dir = directory(&app.config.runtime_adapters, &path)?;
        let there = app.engine.adapters();
        let is_new = !there.iter().any(|card| card.name == name);
        if is_new && there.len() >= app.config.max_adapters {
            let most = app.config.max_adapters;
            return Err(ApiError::invalid(
                "lora_name",
                format!("{most} adapters are loaded, the most that may be"),
            ));
        }
        app.engine.load_adapter(&name, &dir, replace)?;
        Ok(format!(
            "Success: LoRA adapter '{name}' added successfully."
        ))
    })
    .await
}

/// `POST /v1/unload_lora_adapter`: `lora_name`.
pub(super) async fn unload(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<String> {
    allowed(&app)?;
    let body = body::read(&headers, body, &app).await?;
    let mut fields = Fields::parse(&body)?;
    let name = name(&app, &mut fields)?;
    fields.finish(&[("lora_int_id", "*")])?;
    app.engine.unload_adapter(&name)?;
    Ok(format!(
        "Success: LoRA adapter '{name}' removed successfully."
    ))
}

fn allowed(app: &App) -> Result<()> {
    match app.config.runtime_adapters {
        RuntimeAdapters::Refused => Err(ApiError::forbidden(
            "this server was started without adapters at run time",
        )),
        RuntimeAdapters::Below(_) | RuntimeAdapters::Anywhere => Ok(()),
    }
}

/// A name that no model has, and that fits into a list of names.
fn name(app: &App, fields: &mut Fields) -> Result<String> {
    let name = fields.text("lora_name")?.unwrap_or_default();
    let is_good = |c: char| !c.is_control() && !c.is_whitespace() && c != ',';
    if name.is_empty() || name.chars().count() > LONGEST_NAME || !name.chars().all(is_good) {
        let form = format!(
            "expected 1 to {LONGEST_NAME} characters without spaces, commas and control characters"
        );
        return Err(fields.invalid("lora_name", form));
    }
    if app.config.model_names.contains(&name) {
        return Err(fields.invalid("lora_name", "the base has this name"));
    }
    Ok(name)
}

/// Where the adapter is. What lies outside is not told apart from what does not exist, which is 404 as in vLLM.
fn directory(allowed: &RuntimeAdapters, path: &str) -> Result<PathBuf> {
    const PARAM: &str = "lora_path";
    if path.is_empty() || path.chars().any(char::is_control) {
        let message = "`lora_path`: expected the path of a directory";
        return Err(ApiError::invalid(PARAM, message));
    }
    let refuse = |what: &str| ApiError::not_found(PARAM, format!("`lora_path`: expected {what}"));
    let is_adapter = |dir: &Path| dir.join("adapter_config.json").exists();
    match allowed {
        RuntimeAdapters::Below(root) => {
            let real = root.join(path).canonicalize().ok();
            real.filter(|dir| dir.starts_with(root) && is_adapter(dir))
                .filter(|dir| no_file_leads_out(root, dir))
                .ok_or_else(|| refuse("an adapter below the directory that this server allows, whose files are there too"))
        }
        RuntimeAdapters::Refused | RuntimeAdapters::Anywhere => {
            let dir = Path::new(path);
            is_adapter(dir)
                .then(|| dir.to_owned())
                .ok_or_else(|| refuse("the directory of an adapter"))
        }
    }
}

/// Whether no file of an adapter is a link to one outside the root.
fn no_file_leads_out(root: &Path, dir: &Path) -> bool {
    let inside = |name: &str| match dir.join(name).canonicalize() {
        Ok(file) => file.starts_with(root),
        // What is not there is missed, by name, when the adapter is read.
        Err(_) => true,
    };
    ["adapter_config.json", "adapter_model.safetensors"]
        .into_iter()
        .all(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_really_lies_below_the_root_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root").canonicalize().unwrap_or_else(|_| {
            std::fs::create_dir(dir.path().join("root")).unwrap();
            dir.path().join("root").canonicalize().unwrap()
        });
        std::fs::create_dir(root.join("good")).unwrap();
        std::fs::write(root.join("good/adapter_config.json"), "").unwrap();
        std::fs::create_dir(root.join("empty")).unwrap();
        std::fs::create_dir(dir.path().join("rootless")).unwrap();
        std::fs::write(root.join("file"), "").unwrap();
        std::os::unix::fs::symlink("good", root.join("inner")).unwrap();
        std::os::unix::fs::symlink(dir.path(), root.join("outer")).unwrap();
        std::fs::create_dir(root.join("linked")).unwrap();
        std::fs::write(root.join("linked/adapter_config.json"), "").unwrap();
        std::fs::write(dir.path().join("secret"), "").unwrap();
        let link = root.join("linked/adapter_model.safetensors");
        std::os::unix::fs::symlink(dir.path().join("secret"), link).unwrap();
        let allowed = RuntimeAdapters::Below(root.clone());
        let whole = root.join("good").to_string_lossy().into_owned();
        for path in ["good", "./good", "good/../good", "inner", whole.as_str()] {
            assert_eq!(
                directory(&allowed, path).unwrap(),
                root.join("good"),
                "{path}"
            );
        }
        for path in [
            "",
            "..",
            "/",
            "/etc",
            "outer",
            "outer/rootless",
            "linked",
            "../rootless",
            "file",
            "none",
            "empty",
            "a\0b",
        ] {
            let error = directory(&allowed, path).unwrap_err();
            assert_eq!(error.param(), Some("lora_path"), "{path}");
        }
    }
}
