//! Who computes what: tiles of Y and slots of tiles over the blocks of the grid, blocks of k over the parts of a split.

mod parts;
mod split;
mod stream;
mod tiles;

pub use parts::{Parts, Work, slots};
pub use split::split_range;
pub use stream::StreamK;
pub use tiles::Tiles;
