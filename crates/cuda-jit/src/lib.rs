//! CUDA C++ to a running kernel: find NVRTC, compile to CUBIN, keep it, load it, launch it.
//!
//! Nothing of CUDA is needed to build this crate or to run its tests; whatever is absent on a machine is an [`Error`] that
//! says where it was looked for.
//!
//! ```
//! use xgraft_cuda_jit::{Arch, Nvrtc, Program, Target};
//!
//! let text = r#"extern "C" __global__ void fill(float* y) { y[threadIdx.x] = 1.f; }"#;
//! let program = Program::new("fill", text, Target::Cubin(Arch::SM90A));
//! match Nvrtc::find() {
//!     Ok(nvrtc) => assert!(nvrtc.compile(&program)?.image.starts_with(b"\x7fELF")),
//!     Err(absent) => eprintln!("{absent}"),
//! }
//! # Ok::<(), xgraft_cuda_jit::Error>(())
//! ```
//!
//! # Decisions
//!
//! **CUBIN, not PTX.** [`Nvrtc::compile`] runs the assembler too, so that registers, spills and stack are known
//! ([`Report`]) without a GPU, and the driver does not compile anything at load.
//!
//! **NVRTC is bound by path.** Wheels put it where no loader looks and under a versioned name, so the library is opened where
//! [`Search`] finds it. The driver is always `libcuda.so.1`, and is called through cudarc's bindings; whether it and every
//! function that is used are there is asked first, because the bindings panic otherwise.
//!
//! **Images are found by what made them.** [`Jit`] looks among the [`Shipped`] ones, then in the [`Cache`], then compiles.
//! The key is a digest of text, options, target and compiler; an entry whose checksum is wrong is made again.
//!
//! Architecture invariant: no kernel text of its own, no notion of a matrix.

mod cache;
mod device;
mod error;
mod ffi;
mod jit;
mod launch;
mod program;
mod report;
mod search;
mod shipped;
mod tensor_map;

pub use cache::{Cache, Origin};
pub use device::{Capability, Device, DeviceMemory};
pub use error::{Error, Result};
pub use ffi::driver::{Function, Module};
pub use ffi::nvrtc::{Compiled, Nvrtc};
pub use jit::Jit;
pub use launch::{Arg, Dim, Launch, MOST_SHARED};
pub use program::{Arch, Program, Target, Version};
pub use report::{Report, Usage};
pub use search::{Search, VARIABLE};
pub use shipped::{Entry, Manifest, Shipped};
pub use tensor_map::{Element, Swizzle, TensorMap, TensorShape};
