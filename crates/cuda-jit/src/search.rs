//! Where NVRTC may be.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use crate::{Error, Result};

/// The variable that names NVRTC's file or the folder that holds it; nothing else is looked at where it is set.
pub const VARIABLE: &str = "XGRAFT_NVRTC";

/// Where wheels put NVRTC below `site-packages`, newest layout first.
const WHEELS: &[&str] = &[
    "nvidia/cu13/lib",
    "nvidia/cuda_nvrtc/lib",
    "nvidia/cu12/lib",
];

/// Where toolkits and distributions put it.
const SYSTEM: &[&str] = &[
    "/usr/local/cuda/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
];

/// Folders to look into, in order.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// The only file or folder, where somebody named it.
    named: Option<PathBuf>,
    folders: Vec<PathBuf>,
}

impl Search {
    /// The places of this process: [`VARIABLE`]; else the wheels of the active Python environment, `LD_LIBRARY_PATH`,
    /// `CUDA_HOME` and `CUDA_PATH`, toolkits, system folders and the wheels of the system's Pythons.
    pub fn of_process() -> Self {
        Self::of(|name| env::var_os(name).filter(|value| !value.is_empty()))
    }

    fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let mut folders = Vec::new();
        for name in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
            folders.extend(variable(name).into_iter().flat_map(wheels_below));
        }
        let path = variable("LD_LIBRARY_PATH").unwrap_or_default();
        folders.extend(env::split_paths(&path).filter(|folder| folder.is_absolute()));
        for name in ["CUDA_HOME", "CUDA_PATH"] {
            folders.extend(variable(name).map(|home| Path::new(&home).join("lib64")));
        }
        folders.extend(SYSTEM.iter().map(PathBuf::from));
        folders.extend(toolkits(Path::new("/usr/local")));
        let homes = variable("HOME").map(|home| PathBuf::from(home).join(".local"));
        let prefixes = ["/usr/local", "/usr"].map(PathBuf::from);
        folders.extend(homes.into_iter().chain(prefixes).flat_map(wheels_below));
        Self {
            named: variable(VARIABLE).map(PathBuf::from),
            folders,
        }
    }

    /// One file or folder and nothing else.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            named: Some(path.into()),
            folders: Vec::new(),
        }
    }

    /// The first library in the order of the places; in a folder the newest.
    ///
    /// # Errors
    /// [`Error::NvrtcAbsent`] with every place.
    pub fn library(&self) -> Result<PathBuf> {
        let places: Vec<PathBuf> = match &self.named {
            Some(file) if file.is_file() => return Ok(file.clone()),
            // A folder of libraries, or one that wheels were unpacked into.
            Some(root) => std::iter::once(root.clone())
                .chain(WHEELS.iter().map(|wheel| root.join(wheel)))
                .collect(),
            None => self.folders.clone(),
        };
        let found = places.iter().find_map(|folder| newest(folder, is_nvrtc));
        found.ok_or(Error::NvrtcAbsent { looked: places })
    }
}

/// The builtins that belong to a library: they lie beside it, and NVRTC asks for them by name alone.
pub(crate) fn builtins_of(library: &Path) -> Option<PathBuf> {
    newest(library.parent()?, |name| {
        name.starts_with("libnvrtc-builtins.so")
    })
}

/// `libnvrtc.so.13`, but neither its builtins nor the `.alt` one.
fn is_nvrtc(name: &str) -> bool {
    name.strip_prefix("libnvrtc.so")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The file of that kind with the highest version in its name.
fn newest(folder: &Path, of_kind: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let best = names
        .filter(|name| of_kind(name))
        .max_by_key(|name| numbers(name))?;
    Some(folder.join(best))
}

/// The numbers in a text: 13 and 0 of `libnvrtc-builtins.so.13.0`.
fn numbers(text: &str) -> Vec<u32> {
    text.split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect()
}

/// Wheel folders of every Python below a prefix.
fn wheels_below(prefix: impl Into<PathBuf>) -> Vec<PathBuf> {
    let lib = prefix.into().join("lib");
    let mut pythons: Vec<PathBuf> = subfolders(&lib, "python3");
    pythons.sort_by_key(|python| std::cmp::Reverse(numbers(&python.to_string_lossy())));
    let packages = pythons
        .iter()
        .flat_map(|python| ["site-packages", "dist-packages"].map(|name| python.join(name)));
    packages
        .flat_map(|packages| WHEELS.iter().map(move |wheel| packages.join(wheel)))
        .filter(|folder| folder.is_dir())
        .collect()
}

/// `cuda-13.0/lib64` and its like, newest first.
fn toolkits(below: &Path) -> Vec<PathBuf> {
    let mut found = subfolders(below, "cuda-");
    found.sort_by_key(|folder| std::cmp::Reverse(numbers(&folder.to_string_lossy())));
    found
        .into_iter()
        .map(|folder| folder.join("lib64"))
        .collect()
}

fn subfolders(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(root: &Path, file: &str) {
        let file = root.join(file);
        fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        fs::write(file, b"").expect("written");
    }

    fn found(search: &Search, root: &Path) -> String {
        let library = search.library().expect("found");
        let inside = library.strip_prefix(root).expect("below the root");
        inside.display().to_string()
    }

    #[test]
    fn the_newest_library_of_a_folder_is_taken_and_never_its_neighbours() {
        let root = tempfile::tempdir().expect("a folder");
        for name in [
            "libnvrtc.so.12",
            "libnvrtc.so.13",
            "libnvrtc.alt.so.14",
            "libnvrtc-builtins.so.15.0",
        ] {
            touch(root.path(), name);
        }
        let search = Search::at(root.path());
        assert_eq!(found(&search, root.path()), "libnvrtc.so.13");
        let library = search.library().expect("found");
        let builtins = builtins_of(&library).expect("beside it");
        assert!(builtins.ends_with("libnvrtc-builtins.so.15.0"));
    }

    #[test]
    fn the_wheels_of_the_active_environment_come_before_the_library_path() {
        let root = tempfile::tempdir().expect("a folder");
        let wheel = "env/lib/python3.12/site-packages/nvidia/cu13/lib/libnvrtc.so.13";
        touch(root.path(), wheel);
        touch(root.path(), "other/libnvrtc.so.13");
        let at = |name: &str| Some(root.path().join(name).into_os_string());
        let both = Search::of(|name| match name {
            "VIRTUAL_ENV" => at("env"),
            "LD_LIBRARY_PATH" => at("other"),
            _ => None,
        });
        assert_eq!(found(&both, root.path()), wheel);
        let path = Search::of(|name| match name {
            "LD_LIBRARY_PATH" => at("other"),
            _ => None,
        });
        assert_eq!(found(&path, root.path()), "other/libnvrtc.so.13");
    }

    #[test]
    fn a_folder_that_wheels_were_unpacked_into_is_enough() {
        let root = tempfile::tempdir().expect("a folder");
        let old = "nvidia/cuda_nvrtc/lib/libnvrtc.so.12";
        touch(root.path(), old);
        assert_eq!(found(&Search::at(root.path()), root.path()), old);
        touch(root.path(), "nvidia/cu13/lib/libnvrtc.so.13");
        let new = found(&Search::at(root.path()), root.path());
        assert_eq!(new, "nvidia/cu13/lib/libnvrtc.so.13");
    }

    #[test]
    fn a_place_that_was_named_is_the_only_one() {
        let root = tempfile::tempdir().expect("a folder");
        touch(root.path(), "real/libnvrtc.so.13");
        let search = Search::of(|name| match name {
            VARIABLE => Some(root.path().join("empty").into_os_string()),
            "LD_LIBRARY_PATH" => Some(root.path().join("real").into_os_string()),
            _ => None,
        });
        let error = search.library().expect_err("nothing there");
        let Error::NvrtcAbsent { looked } = &error else {
            panic!("{error}")
        };
        assert_eq!(looked[0], root.path().join("empty"));
        assert!(error.to_string().contains(VARIABLE));
    }
}
