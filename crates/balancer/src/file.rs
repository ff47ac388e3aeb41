//! A list of backends in a file: one URL a line, `#` before a remark.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::config::{BackendUrl, ConfigError};
use crate::error::Error;
use crate::health::Watch;
use crate::shared::Shared;

/// Between two looks at the file.
const PAUSE: Duration = Duration::from_secs(1);

/// Reads the list; a backend that stands there twice is one.
pub(crate) fn read(path: &Path) -> Result<Vec<BackendUrl>, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::List {
        path: path.to_owned(),
        source,
    })?;
    Ok(parse(&text)?)
}

fn parse(text: &str) -> Result<Vec<BackendUrl>, ConfigError> {
    let mut urls = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let url = BackendUrl::parse(line)?;
        if !urls.contains(&url) {
            urls.push(url);
        }
    }
    Ok(urls)
}

/// Keeps the backends as the file says, until it is dropped.
#[derive(Debug)]
pub(crate) struct Follow(Option<JoinHandle<()>>);

impl Drop for Follow {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// Adds the `listed` ones, and looks whether the list changes. What was added otherwise stays.
pub(crate) fn follow(shared: &Arc<Shared>, watch: &Watch, listed: Vec<BackendUrl>) -> Follow {
    for url in &listed {
        watch.add(url.clone());
    }
    let Some(path) = shared.config.backends_file.clone() else {
        return Follow(None);
    };
    let (shared, watch) = (shared.clone(), watch.clone());
    Follow(Some(tokio::spawn(async move {
        look(&shared, &watch, path, listed).await;
    })))
}

async fn look(shared: &Shared, watch: &Watch, path: PathBuf, mut known: Vec<BackendUrl>) {
    let mut said = String::new();
    loop {
        tokio::time::sleep(PAUSE).await;
        let reading = path.clone();
        let read = tokio::task::spawn_blocking(move || read(&reading)).await;
        let listed = match read {
            Ok(Ok(listed)) => listed,
            Ok(Err(error)) => {
                // A file that is being written is no reason to lose anybody; said once.
                let what = error.to_string();
                if what != said {
                    tracing::warn!(%error, "the list of backends stays as it was");
                    said = what;
                }
                continue;
            }
            Err(_) => return,
        };
        said.clear();
        for url in listed.iter().filter(|url| !known.contains(url)) {
            watch.add(url.clone());
        }
        for url in known.iter().filter(|url| !listed.contains(url)) {
            shared.backends.remove(url);
        }
        known = listed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_remarks_and_blank_lines() {
        let urls = parse("# mine\nhttp://a:1\n\n http://b:2 # old\nhttp://a:1/\n").unwrap();
        let urls: Vec<_> = urls.iter().map(BackendUrl::as_str).collect();
        assert_eq!(urls, ["http://a:1", "http://b:2"]);
        assert!(parse("http://a:1\nb:2").is_err());
    }
}
