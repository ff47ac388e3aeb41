//! A list of backends in a file: one URL a line, `#` before a remark. A list that is empty, or whose last line has no end, is
//! not obeyed: somebody may be writing it, or may have failed to.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
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
    let path = || path.to_owned();
    let urls = parse(&text)?;
    match urls.is_empty() {
        true => Err(Error::EmptyList { path: path() }),
        false if !text.ends_with('\n') => Err(Error::CutList { path: path() }),
        false => Ok(urls),
    }
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

/// Obeys a list that has been the same at two looks.
async fn look(shared: &Shared, watch: &Watch, path: PathBuf, mut known: Vec<BackendUrl>) {
    let mut said = String::new();
    let mut seen = known.clone();
    let refused = &shared.metrics.list_refused;
    loop {
        tokio::time::sleep(PAUSE).await;
        let reading = path.clone();
        let read = tokio::task::spawn_blocking(move || read(&reading)).await;
        let listed = match read {
            Ok(Ok(listed)) => listed,
            Ok(Err(error)) => {
                // Said once.
                let what = error.to_string();
                if what != said {
                    tracing::warn!(%error, "the list of backends stays as it was");
                    said = what;
                }
                refused.store(true, Ordering::Relaxed);
                continue;
            }
            Err(_) => return,
        };
        said.clear();
        refused.store(false, Ordering::Relaxed);
        if seen != listed {
            seen = listed;
            continue;
        }
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

    #[test]
    fn a_list_that_is_empty_or_half_written_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list");
        let of = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read(&path).map(|urls| urls.len())
        };
        assert_eq!(of("http://a:1\nhttp://b:80\n").unwrap(), 2);
        assert!(matches!(of("# none\n"), Err(Error::EmptyList { .. })));
        assert!(matches!(of(""), Err(Error::EmptyList { .. })));
        let cut = of("http://a:1\nhttp://b:80").unwrap_err();
        assert!(matches!(cut, Error::CutList { .. }), "{cut}");
    }
}
