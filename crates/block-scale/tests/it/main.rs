//! Quantizing and dequantizing against compressed-tensors' own results and against a readable reference.

mod errors;
mod golden;
mod grouped;
mod reference;
mod shapes;
mod source;
mod strips;
