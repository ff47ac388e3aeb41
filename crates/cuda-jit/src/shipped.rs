//! Images that come with the program.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{Error, Nvrtc, Program, Result, cache::write_whole};

/// The manifest's name in the folder.
const MANIFEST: &str = "kernels.json";

/// What a folder of images holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format: 1.
    pub version: u32,
    /// The compiler that made the images, `nvrtc 13.0 108879160`.
    pub compiler: String,
    /// One entry an image, by name.
    pub images: Vec<Entry>,
}

/// One image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The program's name.
    pub name: String,
    /// What it was compiled for, `sm_90a`.
    pub target: String,
    /// [`Program::digest`] of what it was compiled from.
    pub program: String,
    /// The file in the folder.
    pub file: String,
    /// BLAKE3 of the file.
    pub blake3: String,
    /// Length of the file.
    pub bytes: u64,
}

/// A folder of images with a manifest of their digests.
#[derive(Clone, Debug)]
pub struct Shipped {
    folder: PathBuf,
    manifest: Manifest,
}

impl Shipped {
    /// Opens a folder; the images are read when they are asked for.
    ///
    /// # Errors
    /// There is no manifest, or it is none.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self> {
        let folder = folder.into();
        let path = folder.join(MANIFEST);
        let text = fs::read(&path).map_err(|source| Error::Io {
            what: "read",
            path: path.clone(),
            source,
        })?;
        let manifest =
            serde_json::from_slice(&text).map_err(|source| Error::Manifest { path, source })?;
        Ok(Self { folder, manifest })
    }

    /// Compiles programs into a folder and writes the manifest last.
    ///
    /// # Errors
    /// One does not compile, or the folder cannot be written.
    pub fn build(folder: impl Into<PathBuf>, nvrtc: &Nvrtc, programs: &[Program]) -> Result<Self> {
        let folder = folder.into();
        let mut images = Vec::with_capacity(programs.len());
        for program in programs {
            let image = nvrtc.compile(program)?.image;
            let digest = program.digest();
            // The name is for people; the digest keeps two configurations apart.
            let file = format!("{}-{}.{}", program.name, &digest[..12], program.target);
            write_whole(&folder.join(&file), &image)?;
            images.push(Entry {
                name: program.name.clone(),
                target: program.target.to_string(),
                program: digest,
                file,
                blake3: blake3::hash(&image).to_hex().to_string(),
                bytes: image.len() as u64,
            });
        }
        let manifest = Manifest {
            version: 1,
            compiler: nvrtc.identity(),
            images,
        };
        let path = folder.join(MANIFEST);
        let text = serde_json::to_vec_pretty(&manifest).map_err(|source| Error::Manifest {
            path: path.clone(),
            source,
        })?;
        write_whole(&path, &text)?;
        Ok(Self { folder, manifest })
    }

    /// What the folder holds.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The image of exactly this program; nothing if another text, option or target was shipped.
    ///
    /// # Errors
    /// The file is missing, or is not the one that the manifest names.
    pub fn image(&self, program: &Program) -> Result<Option<Vec<u8>>> {
        let digest = program.digest();
        let mut images = self.manifest.images.iter();
        let Some(entry) = images.find(|entry| entry.program == digest) else {
            return Ok(None);
        };
        let path = self.folder.join(plain_name(&entry.file));
        let image = fs::read(&path).map_err(|source| Error::Io {
            what: "read",
            path: path.clone(),
            source,
        })?;
        let found = blake3::hash(&image).to_hex().to_string();
        if found != entry.blake3 {
            return Err(Error::Digest {
                path,
                expected: entry.blake3.clone(),
                found,
            });
        }
        Ok(Some(image))
    }
}

/// The last component, so that a manifest names files of its own folder only.
fn plain_name(file: &str) -> &Path {
    Path::new(Path::new(file).file_name().unwrap_or_default())
}
