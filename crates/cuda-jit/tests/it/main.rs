//! Compilation, cache and shipped images with an NVRTC, ignored by name because not everybody has one; and typed errors where there is none.

mod absent;
mod compile;
