//! The interpreter in which the programs of one question run, kept away from everything else.
//!
//! The harness starts a launcher, which is the harness's own program again. It moves into namespaces of its own, gives up files
//! (Landlock), system calls (seccomp) and capabilities, sets limits, starts Python, and watches over it; when it ends, the
//! kernel ends everything that was started within. Python runs `driver.py`, which keeps what programs leave behind and
//! answers in frames over a pipe. The alternative, code between `fork` and `exec`, may hardly call anything; a program
//! that is started anew may do all of it in plain Rust. bubblewrap would do half of it, where it is installed.
//!
//! Modules: `policy` (what is granted), `interpreter` (the harness's side), `python` (which interpreter), `inside`
//! (the launcher), `namespace`, `confine`, `error`.

mod confine;
mod error;
mod inside;
mod interpreter;
mod namespace;
mod policy;
mod python;

pub use self::error::SandboxError;
pub use self::inside::enter;
pub use self::interpreter::{Ended, Interpreter, Language, Launcher, Ran};
pub use self::policy::{Caps, Isolation};
pub use self::python::Python;

/// The exit code of a launcher that may not have namespaces.
const NO_NAMESPACES: u8 = 70;
