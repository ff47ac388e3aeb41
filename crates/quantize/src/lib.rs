//! A whole checkpoint into a quantized format and back, streaming
