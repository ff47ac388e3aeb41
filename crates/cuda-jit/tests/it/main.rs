//! Compilation, cache and shipped images with an NVRTC where there is one, and typed errors where there is none.
//!
//! A test that needs NVRTC says so and ends where there is none: the gate (`cargo xtask kernels`) shows that as skipped.

mod absent;
mod compile;
