//! The xgraft command line.

fn main() {}
