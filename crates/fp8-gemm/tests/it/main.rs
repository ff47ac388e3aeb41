//! The arithmetic of the kernels against references.

mod accuracy;
mod compile;
mod host;
mod kernels;
mod products;
