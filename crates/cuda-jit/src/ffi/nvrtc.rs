//! NVRTC, bound by the path of its file.
#![expect(
    unsafe_code,
    reason = "functions of a C library, found in it by name at run time"
)]

use std::{
    ffi::{CString, c_char, c_int, c_void},
    path::{Path, PathBuf},
    ptr,
};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use crate::{Error, Program, Report, Result, Search, Target, Version, search::builtins_of};

/// The oldest NVRTC that knows `sm_90a` and CUBINs of it.
const LEAST: Version = Version {
    major: 12,
    minor: 0,
};

type Handle = *mut c_void;
type Create = unsafe extern "C" fn(
    *mut Handle,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> c_int;
type CompileProgram = unsafe extern "C" fn(Handle, c_int, *const *const c_char) -> c_int;
type Size = unsafe extern "C" fn(Handle, *mut usize) -> c_int;
type Bytes = unsafe extern "C" fn(Handle, *mut c_char) -> c_int;

/// A loaded NVRTC. It may be used from many threads.
#[derive(Debug)]
pub struct Nvrtc {
    path: PathBuf,
    version: Version,
    /// Of the file: builds of one version differ in it.
    bytes: u64,
    functions: Functions,
    // After the functions, which point into them.
    _library: Library,
    _builtins: Option<Library>,
}

#[derive(Clone, Copy, Debug)]
struct Functions {
    create: Create,
    compile: CompileProgram,
    destroy: unsafe extern "C" fn(*mut Handle) -> c_int,
    cubin_size: Size,
    cubin: Bytes,
    ptx_size: Size,
    ptx: Bytes,
    log_size: Size,
    log: Bytes,
}

/// What a compilation gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// A CUBIN (an ELF file), or PTX text that ends in a NUL as the driver wants it.
    pub image: Vec<u8>,
    /// All that compiler and assembler said.
    pub log: String,
}

impl Compiled {
    /// The assembler's account, of a CUBIN.
    pub fn report(&self) -> Report {
        Report::parse(&self.log)
    }
}

impl Nvrtc {
    /// The NVRTC of this machine, by [`Search::of_process`].
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn find() -> Result<Self> {
        Self::open(&Search::of_process())
    }

    /// The first NVRTC of a search.
    ///
    /// # Errors
    /// There is none, it does not load, or it is older than 12.0.
    pub fn open(search: &Search) -> Result<Self> {
        let path = search.library()?;
        let unusable = |source| Error::NvrtcUnusable {
            path: path.clone(),
            source,
        };
        // NVRTC asks the loader for its builtins by name; once they are loaded, the name is known wherever they lie.
        let builtins = builtins_of(&path).and_then(|file| load(&file).ok());
        let library = load(&path).map_err(unusable)?;
        let functions = Functions::of(&library).map_err(unusable)?;
        let version = version_of(&library).map_err(unusable)?;
        if version < LEAST {
            return Err(Error::NvrtcTooOld {
                path,
                found: version,
                least: LEAST,
            });
        }
        let bytes = path.metadata().map_or(0, |data| data.len());
        Ok(Self {
            path,
            version,
            bytes,
            functions,
            _library: library,
            _builtins: builtins,
        })
    }

    /// The library's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// What tells this compiler from others: version and length of the file.
    pub fn identity(&self) -> String {
        format!("nvrtc {} {}", self.version, self.bytes)
    }

    /// Compiles a program.
    ///
    /// # Errors
    /// [`Error::Compile`] with the log where the text is wrong, [`Error::Nul`] where it holds a NUL byte.
    pub fn compile(&self, program: &Program) -> Result<Compiled> {
        let c_string = |what, text: &str| {
            CString::new(text).map_err(|_| Error::Nul {
                program: program.name.clone(),
                what,
            })
        };
        let name = c_string("name", &program.name)?;
        let text = c_string("text", &program.text)?;
        let arguments: Vec<CString> = program
            .arguments()
            .iter()
            .map(|option| c_string("option", option))
            .collect::<Result<_>>()?;
        let pointers: Vec<*const c_char> = arguments.iter().map(|a| a.as_ptr()).collect();

        let running = Running::new(self.functions, &text, &name)?;
        // SAFETY: the handle lives in `running`; the pointers are to NUL-terminated strings that outlive the call, and their
        // number is the one given.
        let code = unsafe {
            (self.functions.compile)(running.handle, pointers.len() as c_int, pointers.as_ptr())
        };
        let log = running.text(
            "nvrtcGetProgramLog",
            self.functions.log_size,
            self.functions.log,
        )?;
        let log = without_times(&until_nul(&log));
        match code {
            0 => {}
            6 => {
                return Err(Error::Compile {
                    program: program.name.clone(),
                    log,
                });
            }
            code => {
                return Err(Error::Nvrtc {
                    call: "nvrtcCompileProgram",
                    code,
                });
            }
        }
        let f = self.functions;
        let image = match program.target {
            Target::Cubin(_) => running.text("nvrtcGetCUBIN", f.cubin_size, f.cubin)?,
            Target::Ptx(_) => running.text("nvrtcGetPTX", f.ptx_size, f.ptx)?,
        };
        Ok(Compiled { image, log })
    }
}

/// A program inside NVRTC, destroyed when dropped.
struct Running {
    functions: Functions,
    handle: Handle,
}

impl Running {
    fn new(functions: Functions, text: &CString, name: &CString) -> Result<Self> {
        let mut handle = ptr::null_mut();
        // SAFETY: the strings are NUL-terminated and outlive the call; no headers are given, so their arrays may be null;
        // `handle` is written by the call.
        let code = unsafe {
            (functions.create)(
                &raw mut handle,
                text.as_ptr(),
                name.as_ptr(),
                0,
                ptr::null(),
                ptr::null(),
            )
        };
        match code {
            0 => Ok(Self { functions, handle }),
            code => Err(Error::Nvrtc {
                call: "nvrtcCreateProgram",
                code,
            }),
        }
    }

    /// What one of the pairs of functions gives: how many bytes, and the bytes.
    fn text(&self, call: &'static str, size: Size, get: Bytes) -> Result<Vec<u8>> {
        let check = |code| match code {
            0 => Ok(()),
            code => Err(Error::Nvrtc { call, code }),
        };
        let mut len = 0;
        // SAFETY: the handle is valid until `self` is dropped, and `len` is written by the call.
        check(unsafe { size(self.handle, &raw mut len) })?;
        let mut bytes = vec![0u8; len];
        // SAFETY: as above; `bytes` has the length that the library asked for.
        check(unsafe { get(self.handle, bytes.as_mut_ptr().cast()) })?;
        Ok(bytes)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SAFETY: the handle was made by `create` and is not used again.
        unsafe { (self.functions.destroy)(&raw mut self.handle) };
    }
}

impl Functions {
    fn of(library: &Library) -> std::result::Result<Self, libloading::Error> {
        // SAFETY: the types are those of nvrtc.h, which have not changed since CUDA 11; the pointers live as long as the
        // library, which stands beside them in `Nvrtc`.
        unsafe {
            Ok(Self {
                create: *library.get(b"nvrtcCreateProgram\0")?,
                compile: *library.get(b"nvrtcCompileProgram\0")?,
                destroy: *library.get(b"nvrtcDestroyProgram\0")?,
                cubin_size: *library.get(b"nvrtcGetCUBINSize\0")?,
                cubin: *library.get(b"nvrtcGetCUBIN\0")?,
                ptx_size: *library.get(b"nvrtcGetPTXSize\0")?,
                ptx: *library.get(b"nvrtcGetPTX\0")?,
                log_size: *library.get(b"nvrtcGetProgramLogSize\0")?,
                log: *library.get(b"nvrtcGetProgramLog\0")?,
            })
        }
    }
}

fn version_of(library: &Library) -> std::result::Result<Version, libloading::Error> {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the type is that of nvrtc.h; both numbers are written by the call.
    unsafe {
        let version: libloading::os::unix::Symbol<
            unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int,
        > = library.get(b"nvrtcVersion\0")?;
        version(&raw mut major, &raw mut minor);
    }
    Ok(Version {
        major: major.unsigned_abs(),
        minor: minor.unsigned_abs(),
    })
}

fn load(file: &Path) -> std::result::Result<Library, libloading::Error> {
    // SAFETY: what the library runs when it is loaded is NVIDIA's; the file is one that the person's own environment names.
    unsafe { Library::open(Some(file), RTLD_NOW | RTLD_GLOBAL) }
}

/// The log without how long the assembler took, so that equal programs have equal logs.
fn without_times(log: &str) -> String {
    let lines = log.lines().filter(|line| !line.contains("Compile time"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn until_nul(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
