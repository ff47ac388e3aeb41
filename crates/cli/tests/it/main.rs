//! The binary from outside: what it prints, where, and how it ends.

mod bad_input;
mod support;
mod verbs;
