//! Questions and trajectories as rows, from JSONL and from Parquet.
//!
//! A [`Question`] is what a benchmark asks, and the columns of Eval1 are read as such; a [`Trajectory`] is one finished attempt at it: the
//! conversation, the answer that was taken from it, and its score. Both are read one at a time by a [`Reader`], which
//! tells the two file formats apart by their first bytes, so that a file of any length is read in the memory of one row.
//!
//! The key decision is that a row is taken apart field by field and not by a derived deserializer: a mistake names file,
//! line, column, what was expected and what was found. The alternative, `serde` on the whole struct, says
//! "missing field" at best and forgets which file.
//!
//! ```
//! use xgraft_dataset::{Question, Reader};
//!
//! let file = br#"{"instance_id": 7, "task_instance_id": 0, "task_name": "crispr_delivery", "split": "val", "prompt": "?", "answer": "b"}
//! "#;
//! let rows: Vec<Question> = Reader::jsonl(&file[..], "eval.jsonl").collect::<Result<_, _>>()?;
//! assert_eq!(rows[0].answer, "b");
//!
//! let file = br#"{"instance_id": "seven"}"#;
//! let error = Reader::<Question>::jsonl(&file[..], "eval.jsonl").next().unwrap().unwrap_err();
//! assert_eq!(error.to_string(), r#"eval.jsonl:1: column `instance_id`: expected a whole number from 0, found "seven""#);
//! # Ok::<(), xgraft_dataset::Error>(())
//! ```
//!
//! Modules: `question`, `trajectory`, `distance` (one row each), `object` (fields of a row), `reader`, `jsonl`, `table` (Parquet), `error`.
//!
//! **Invariant:** no row is repaired. What cannot be meant is an error; only whoever reads a log that was cut off may
//! ask that its last half line be left out.

mod distance;
mod error;
mod jsonl;
mod object;
mod question;
mod reader;
mod table;
mod trajectory;

pub use distance::Distance;
pub use error::{Error, Result};
pub use jsonl::Writer;
pub use object::Object;
pub use question::{Question, read_questions};
pub use reader::{Reader, Record, decode};
pub use trajectory::{Class, Message, Role, Timing, Trajectory, Usage};
