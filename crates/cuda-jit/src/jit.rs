//! The image of a program, from wherever it can be had.

use std::sync::OnceLock;

use crate::{Cache, Nvrtc, Origin, Program, Result, Search, Shipped};

/// Looks among the shipped images, then on disk, then compiles.
///
/// NVRTC is looked for when the first program needs it, so a machine with the right images needs none.
#[derive(Debug)]
pub struct Jit {
    shipped: Option<Shipped>,
    cache: Option<Cache>,
    search: Search,
    nvrtc: OnceLock<Nvrtc>,
}

impl Jit {
    /// With these images, this cache, and the NVRTC of this process.
    pub fn new(shipped: Option<Shipped>, cache: Option<Cache>) -> Self {
        Self {
            shipped,
            cache,
            search: Search::of_process(),
            nvrtc: OnceLock::new(),
        }
    }

    /// With another place to look for NVRTC.
    #[must_use]
    pub fn search(mut self, search: Search) -> Self {
        self.search = search;
        self
    }

    /// The image of a program, and where it came from.
    ///
    /// # Errors
    /// It was not shipped and there is no NVRTC, or it does not compile. A shipped image that is damaged is an error and not
    /// compiled anew: what runs would not be what was measured.
    pub fn image(&self, program: &Program) -> Result<(Vec<u8>, Origin)> {
        if let Some(shipped) = &self.shipped
            && let Some(image) = shipped.image(program)?
        {
            return Ok((image, Origin::Shipped));
        }
        let nvrtc = self.nvrtc()?;
        match &self.cache {
            Some(cache) => {
                let (compiled, origin) = cache.get_or_compile(nvrtc, program)?;
                Ok((compiled.image, origin))
            }
            None => Ok((nvrtc.compile(program)?.image, Origin::Compiled)),
        }
    }

    fn nvrtc(&self) -> Result<&Nvrtc> {
        if let Some(nvrtc) = self.nvrtc.get() {
            return Ok(nvrtc);
        }
        let nvrtc = Nvrtc::open(&self.search)?;
        Ok(self.nvrtc.get_or_init(|| nvrtc))
    }
}
