//! Ours and theirs by turns: run programs, collect what they print, compare.
//!
//! Every program prints one JSON line a case, with `cpu_s` and `wall_s` of each repetition and `peak_rss_mib` of its process.
//! On a machine that others use too, the smallest CPU time is the honest number for one thread, so ratios are taken of those;
//! what is said of wall time is said as such.

pub mod autopsy;
pub mod balance;
pub mod codec;
pub mod extract;
pub mod gpu;
mod machine;
pub mod orthogonality;
mod pairs;
mod process;
mod programs;
mod record;
mod rounds;
mod sample;
pub mod serve;
mod server;
mod table;

pub use process::{Cost, Finished, measure};
pub use programs::{Programs, Whose};
pub use record::Record;
pub use sample::{Sample, Samples};
pub use table::{Goal, Line, Show, Table};
