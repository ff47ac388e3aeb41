//! What is compiled, and for what.

use std::fmt;

/// A version of NVRTC or of the driver: 13.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// 13 of 13.0.
    pub major: u32,
    /// 0 of 13.0.
    pub minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// An architecture: `sm_90a`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Arch {
    /// 9 of compute capability 9.0.
    pub major: u32,
    /// 0 of compute capability 9.0.
    pub minor: u32,
    /// With the instructions of this very architecture (the `a` of `sm_90a`: wgmma, setmaxnreg), so that no later one runs it.
    pub exact: bool,
}

impl Arch {
    /// Hopper with wgmma.
    pub const SM90A: Self = Self {
        major: 9,
        minor: 0,
        exact: true,
    };
    /// Ampere, the oldest with BF16 tensor cores.
    pub const SM80: Self = Self {
        major: 8,
        minor: 0,
        exact: false,
    };
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = if self.exact { "a" } else { "" };
        write!(f, "{}{}{exact}", self.major, self.minor)
    }
}

/// What NVRTC makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Machine code of one architecture, `sm_90a`.
    Cubin(Arch),
    /// Text for the driver to compile, for this architecture and later ones, `compute_80`.
    Ptx(Arch),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cubin(arch) => write!(f, "sm_{arch}"),
            Self::Ptx(arch) => write!(f, "compute_{arch}"),
        }
    }
}

/// CUDA C++ text and a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// For messages and logs only; not in any key.
    pub name: String,
    /// The whole text: there is no include path.
    pub text: String,
    /// What to make.
    pub target: Target,
}

/// What every program is compiled with.
const COMMON: &[&str] = &["--std=c++17", "-default-device"];

impl Program {
    /// A program of this text.
    pub fn new(name: impl Into<String>, text: impl Into<String>, target: Target) -> Self {
        Self {
            name: name.into(),
            text: text.into(),
            target,
        }
    }

    /// All options, as the compiler gets them.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut all = vec![format!("--gpu-architecture={}", self.target)];
        all.extend(COMMON.iter().map(ToString::to_string));
        // The assembler's account of registers and spills goes into the log; PTX has not been assembled.
        if matches!(self.target, Target::Cubin(_)) {
            all.push("--ptxas-options=-v".to_owned());
        }
        all
    }

    /// BLAKE3 of text, options and target, in hex: the identity of the image but for the compiler's version.
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"xgraft program 1");
        for part in self.arguments().iter().chain([&self.text]) {
            // The length in front, so that no two lists of parts give the same bytes.
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_spelled_as_nvrtc_takes_them() {
        assert_eq!(Target::Cubin(Arch::SM90A).to_string(), "sm_90a");
        assert_eq!(Target::Ptx(Arch::SM80).to_string(), "compute_80");
    }

    #[test]
    fn the_digest_is_of_text_and_target_but_not_of_the_name() {
        let program = Program::new("a", "text", Target::Cubin(Arch::SM90A));
        let digest = program.digest();
        let renamed = Program {
            name: "b".to_owned(),
            ..program.clone()
        };
        assert_eq!(renamed.digest(), digest);
        let ptx = Program::new("a", "text", Target::Ptx(Arch::SM90A));
        assert_ne!(ptx.digest(), digest);
        assert_ne!(
            Program::new("a", "text ", Target::Cubin(Arch::SM90A)).digest(),
            digest
        );
    }
}
