//! The scalar definition against `ml_dtypes`, and every implementation against the scalar definition.

mod digests;
mod exhaustive;
mod golden;
mod samples;
mod slices;
