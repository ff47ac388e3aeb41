//! Where a byte lies: shared memory as TMA writes it and wgmma reads it, registers as wgmma fills them.
//!
//! These are the definitions that the kernels' constants follow; the tests read a tile back through them.

mod descriptor;
mod fragment;
mod swizzle;

pub use descriptor::Descriptor;
pub use fragment::Fragment;
pub use swizzle::{ATOM, ROW, swizzle128, tile_offset};
