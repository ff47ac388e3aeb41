//! The arithmetic of the kernels against references.

mod accuracy;
mod compile;
mod gpu;
mod host;
mod kernels;
mod products;
