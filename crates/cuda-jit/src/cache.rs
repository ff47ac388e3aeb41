//! Compiled images on disk.

use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use crate::{Compiled, Error, Nvrtc, Program, Result};

/// First bytes of an entry: the format and its version.
const MAGIC: &[u8; 8] = b"xgkern01";
const DIGEST: usize = blake3::OUT_LEN;
/// Magic, digest of the rest, length of the log.
const HEADER: usize = MAGIC.len() + DIGEST + 8;

/// Where an image came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was compiled with the program.
    Shipped,
    /// It was on disk.
    Cached,
    /// It was compiled now.
    Compiled,
    /// What was on disk was damaged, so it was compiled now.
    Healed,
}

/// A folder of compiled images, which many processes may use at once.
///
/// An entry is a file named by the digest of text, options, target and compiler. It is written beside its place and renamed,
/// so that nobody sees half of one; two who make the same one write the same bytes. It carries its own checksum, and one that
/// does not fit is made again.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The cache in this folder, which is made when it is first written.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// The person's own: `XGRAFT_KERNEL_CACHE`, else `xgraft/kernels` in `XDG_CACHE_HOME` or `~/.cache`.
    pub fn of_person() -> Option<Self> {
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
        if let Some(folder) = variable("XGRAFT_KERNEL_CACHE") {
            return Some(Self::at(folder));
        }
        let caches = variable("XDG_CACHE_HOME").map(PathBuf::from);
        let caches = caches.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".cache")));
        Some(Self::at(caches?.join("xgraft/kernels")))
    }

    /// The program's image, compiled if it is not there.
    ///
    /// # Errors
    /// The text does not compile. A cache that cannot be written is no error: the image was made.
    pub fn get_or_compile(&self, nvrtc: &Nvrtc, program: &Program) -> Result<(Compiled, Origin)> {
        let file = self.file(program, &nvrtc.identity());
        let found = fs::read(&file).ok();
        let origin = match found.as_deref().map(decode) {
            Some(Some(compiled)) => return Ok((compiled, Origin::Cached)),
            Some(None) => Origin::Healed,
            None => Origin::Compiled,
        };
        let compiled = nvrtc.compile(program)?;
        let _ = self.write(&file, &compiled);
        Ok((compiled, origin))
    }

    /// The file of a program's image as a compiler makes it.
    pub fn file(&self, program: &Program, compiler: &str) -> PathBuf {
        let key = format!("{}\n{compiler}", program.digest());
        let name = blake3::hash(key.as_bytes()).to_hex();
        self.folder.join(format!("{name}.kernel"))
    }

    fn write(&self, file: &Path, compiled: &Compiled) -> Result<()> {
        write_whole(file, &encode(compiled))
    }
}

/// Writes a file under its name only when it is complete.
pub(crate) fn write_whole(file: &Path, bytes: &[u8]) -> Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let fault = |what| {
        move |source| Error::Io {
            what,
            path: file.to_owned(),
            source,
        }
    };
    fs::create_dir_all(folder).map_err(fault("make the folder of"))?;
    let mut part = tempfile::NamedTempFile::new_in(folder).map_err(fault("write beside"))?;
    part.write_all(bytes).map_err(fault("write"))?;
    part.persist(file)
        .map_err(|error| fault("write")(error.error))?;
    Ok(())
}

fn encode(compiled: &Compiled) -> Vec<u8> {
    let log = compiled.log.as_bytes();
    let mut rest = (log.len() as u64).to_le_bytes().to_vec();
    rest.extend(log);
    rest.extend(&compiled.image);
    let mut bytes = MAGIC.to_vec();
    bytes.extend(blake3::hash(&rest).as_bytes());
    bytes.extend(rest);
    bytes
}

/// What an entry holds, or nothing where it is not what was written.
fn decode(bytes: &[u8]) -> Option<Compiled> {
    if bytes.len() < HEADER || !bytes.starts_with(MAGIC) {
        return None;
    }
    let (digest, rest) = bytes[MAGIC.len()..].split_at(DIGEST);
    if blake3::hash(rest).as_bytes() != digest {
        return None;
    }
    let (len, rest) = rest.split_at(8);
    let len = usize::try_from(u64::from_le_bytes(len.try_into().ok()?)).ok()?;
    let (log, image) = rest.split_at_checked(len)?;
    Some(Compiled {
        image: image.to_vec(),
        log: String::from_utf8(log.to_vec()).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn compiled() -> Compiled {
        Compiled {
            image: b"\x7fELF and so on".to_vec(),
            log: "Used 8 registers".to_owned(),
        }
    }

    #[test]
    fn an_entry_comes_back_as_it_went_in() {
        assert_eq!(decode(&encode(&compiled())), Some(compiled()));
        let empty = Compiled {
            image: Vec::new(),
            log: String::new(),
        };
        assert_eq!(decode(&encode(&empty)), Some(empty));
    }

    proptest! {
        #[test]
        fn damage_anywhere_is_seen(at in 0usize..200, bit in 0u8..8, cut in 0usize..200) {
            let whole = encode(&compiled());
            let mut flipped = whole.clone();
            let at = at % flipped.len();
            flipped[at] ^= 1 << bit;
            prop_assert_eq!(decode(&flipped), None);
            prop_assert_eq!(decode(&whole[..cut % whole.len()]), None);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(decode(&bytes), None);
        }
    }
}
