//! The kernels: their texts, configurations, and what each takes of a multiprocessor.

mod registry;
mod resources;
mod text;

pub use registry::{Form, Kernel, Tile, all};
pub use resources::{REGISTERS, Resources};
pub use text::wgmma;
