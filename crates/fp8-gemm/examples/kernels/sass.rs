//! Instructions of a CUBIN, by nvdisasm.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use xgraft_cuda_jit::Nvrtc;

/// A found nvdisasm.
pub(crate) struct Disassembler(PathBuf);

/// How often what stands in the machine code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// wgmma on FP8 of the expected shape.
    pub(crate) qgmma: usize,
    /// wgmma on BF16.
    pub(crate) hgmma: usize,
    /// mma.sync.
    pub(crate) hmma: usize,
    /// Copies by TMA.
    pub(crate) utmaldg: usize,
    /// Those that go to all blocks of a cluster.
    pub(crate) multicast: usize,
    /// Barriers of shared memory.
    pub(crate) syncs: usize,
    /// Local memory, read or written.
    pub(crate) local: usize,
    /// Waits for the kernel in front.
    pub(crate) waits: usize,
    /// Leave for the next kernel to begin.
    pub(crate) leaves: usize,
    /// Fences of all memory.
    pub(crate) fences: usize,
    /// Atomic additions to memory.
    pub(crate) atomics: usize,
    /// Registers taken and given by setmaxnreg.
    pub(crate) setmaxreg: usize,
}

impl Disassembler {
    /// `XGRAFT_NVDISASM`, else beside NVRTC as wheels have it, else in `PATH`.
    pub(crate) fn find(nvrtc: &Nvrtc) -> Option<Self> {
        let named = std::env::var_os("XGRAFT_NVDISASM").map(PathBuf::from);
        let beside = nvrtc
            .path()
            .parent()
            .and_then(Path::parent)
            .map(|root| root.join("bin/nvdisasm"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let in_path = std::env::split_paths(&path).map(|folder| folder.join("nvdisasm"));
        let mut places = named.into_iter().chain(beside).chain(in_path);
        places.find(|place| place.is_file()).map(Self)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// What stands in a CUBIN.
    pub(crate) fn counts(&self, cubin: &[u8], qgmma: &str) -> Result<Counts, String> {
        let file = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
        std::fs::write(file.path(), cubin).map_err(|error| error.to_string())?;
        let output = Command::new(&self.0).arg("-c").arg(file.path()).output();
        let output = output.map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(Counts::of(&String::from_utf8_lossy(&output.stdout), qgmma))
    }
}

impl Counts {
    fn of(sass: &str, qgmma: &str) -> Self {
        let lines = || sass.lines().filter(|line| line.contains("/*"));
        let count = |word: &str| lines().filter(|line| has_operation(line, word)).count();
        Self {
            qgmma: lines().filter(|line| line.contains(qgmma)).count(),
            hgmma: count("HGMMA"),
            hmma: count("HMMA"),
            utmaldg: count("UTMALDG"),
            multicast: lines()
                .filter(|line| line.contains("UTMALDG.2D.MULTICAST"))
                .count(),
            syncs: count("SYNCS"),
            waits: count("ACQBULK"),
            leaves: count("PREEXIT"),
            fences: count("MEMBAR"),
            atomics: count("ATOMG"),
            local: count("LDL") + count("STL"),
            setmaxreg: count("USETMAXREG"),
        }
    }
}

/// Whether an instruction's name begins with the word: `LDL.64` and `LDL`, but not `LDLX`.
fn has_operation(line: &str, word: &str) -> bool {
    line.split_whitespace().any(|part| {
        let rest = part.strip_prefix(word);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}
