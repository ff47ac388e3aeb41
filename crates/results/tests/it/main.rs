//! The records against their files and their schemas.

mod jsonl;
mod schema;
mod schemas;
