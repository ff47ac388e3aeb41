//! Benchmarks: our kernels and whole programs, and other people's, by turns in one run.
//!
//! `cargo xtask bench --python PATH` builds everything in release and starts the binary `extract`, which is the
//! [`harness`]: it runs the kernels' own binaries (`codec`, `extract_kernels`, `forward`) and a probe of the machine (`read_bytes`), `xgraft` as a whole process, the peers' scripts in
//! `benches/peers` and whole servers between clients and mock backends (`traffic`), and prints one table of ratios. Every raw sample is kept in `benches/runs/<date>-<machine>/`.
//!
//! **Invariant:** a number that was not measured in this run is shown as missing.

pub mod bandwidth;
pub mod harness;
pub mod traffic;
pub mod usage;
