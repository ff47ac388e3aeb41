//! Who computes what: tiles of Y over blocks of the grid, blocks of k over the parts of a split.

mod split;
mod tiles;

pub use split::split_range;
pub use tiles::Tiles;
