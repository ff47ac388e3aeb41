//! The driver, through cudarc's bindings.
#![expect(unsafe_code, reason = "calls of the CUDA driver")]

use std::{
    ffi::{CStr, CString, c_int, c_void},
    mem::{MaybeUninit, zeroed},
    ptr,
    sync::{Arc, OnceLock},
};

use cudarc::driver::sys;

use crate::{
    Arg, Element, Error, Launch, Result, Swizzle, TensorMap, TensorShape,
    device::{Device, DeviceMemory},
};

/// Every function that is called here; the bindings panic where one is missing, so they are asked for first.
const SYMBOLS: &[&str] = &[
    "cuInit",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2",
    "cuCtxSetCurrent",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamSynchronize",
    "cuMemAlloc_v2",
    "cuMemFree_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuModuleGetFunction",
    "cuFuncSetAttribute",
    "cuLaunchKernelEx",
    "cuTensorMapEncodeTiled",
    "cuGetErrorName",
];

/// Whether driver and functions are there; asked once a process.
fn present() -> Result<()> {
    static MISSING: OnceLock<Option<&'static str>> = OnceLock::new();
    if let Some(missing) = MISSING.get() {
        return missing.map_or(Ok(()), |symbol| Err(Error::DriverTooOld { symbol }));
    }
    // SAFETY: the driver's own library; what it runs when it is loaded is NVIDIA's.
    let library = unsafe { libloading::Library::new("libcuda.so.1") }
        .map_err(|source| Error::DriverAbsent { source })?;
    let missing = SYMBOLS.iter().copied().find(|symbol| {
        // SAFETY: the symbol is only asked for, never called through this type.
        unsafe { library.get::<*const c_void>(symbol.as_bytes()) }.is_err()
    });
    // cudarc opens it again by the same name; it must not be unloaded between.
    std::mem::forget(library);
    let missing = MISSING.get_or_init(|| missing);
    missing.map_or(Ok(()), |symbol| Err(Error::DriverTooOld { symbol }))
}

fn check(call: &'static str, code: sys::CUresult) -> Result<()> {
    if code == sys::CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let mut name = ptr::null();
    // SAFETY: the call writes a pointer to a static string, or leaves null.
    let known = unsafe { sys::cuGetErrorName(code, &raw mut name) };
    let message = if known == sys::CUresult::CUDA_SUCCESS && !name.is_null() {
        // SAFETY: a NUL-terminated string of the driver, which lives as long as the driver.
        let name = unsafe { CStr::from_ptr(name) };
        name.to_string_lossy().into_owned()
    } else {
        format!("error {}", code as u32)
    };
    Err(Error::Driver { call, message })
}

/// The primary context of a device, and a stream in it.
#[derive(Debug)]
pub(crate) struct Context {
    device: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
    /// Whether the stream is somebody else's.
    borrowed: bool,
}

// SAFETY: handles of the driver may be used from every thread once the context is current there, which every function here sees to.
unsafe impl Send for Context {}
// SAFETY: as above; the driver locks what it shares.
unsafe impl Sync for Context {}

impl Device {
    /// The GPU with this number, on a stream of another program part: a framework's, say.
    ///
    /// # Errors
    /// As [`Device::open`].
    ///
    /// # Safety
    /// The stream must be one of the device's primary context, and must live until the device, its clones, and whatever was made of
    /// them are dropped.
    pub unsafe fn open_on(ordinal: u32, stream: u64) -> Result<Self> {
        let mut context = Context::retain(ordinal)?;
        context.stream = stream as sys::CUstream;
        context.borrowed = true;
        Self::of(context)
    }
}

impl Context {
    pub(crate) fn open(ordinal: u32) -> Result<Self> {
        let mut this = Self::retain(ordinal)?;
        let flags = sys::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: the call writes a handle in the context that is current; it is destroyed in `drop`.
        check("cuStreamCreate", unsafe {
            sys::cuStreamCreate(&raw mut this.stream, flags)
        })?;
        Ok(this)
    }

    /// The context, made current, on the default stream.
    fn retain(ordinal: u32) -> Result<Self> {
        present()?;
        let mut device = 0;
        let mut context = ptr::null_mut();
        // SAFETY: each call writes one handle; the ones before it have succeeded. The context is released in `drop`.
        unsafe {
            check("cuInit", sys::cuInit(0))?;
            let ordinal = c_int::try_from(ordinal).unwrap_or(c_int::MAX);
            check("cuDeviceGet", sys::cuDeviceGet(&raw mut device, ordinal))?;
            let retained = sys::cuDevicePrimaryCtxRetain(&raw mut context, device);
            check("cuDevicePrimaryCtxRetain", retained)?;
        }
        let this = Self {
            device,
            context,
            stream: ptr::null_mut(),
            borrowed: false,
        };
        this.make_current()?;
        Ok(this)
    }

    pub(crate) fn make_current(&self) -> Result<()> {
        // SAFETY: the context is retained until `drop`.
        check("cuCtxSetCurrent", unsafe {
            sys::cuCtxSetCurrent(self.context)
        })
    }

    pub(crate) fn attribute(&self, which: sys::CUdevice_attribute) -> Result<u32> {
        let mut value = 0;
        // SAFETY: the call writes one number about a device that exists.
        let code = unsafe { sys::cuDeviceGetAttribute(&raw mut value, which, self.device) };
        check("cuDeviceGetAttribute", code)?;
        Ok(value.unsigned_abs())
    }

    pub(crate) fn synchronize(&self) -> Result<()> {
        self.make_current()?;
        // SAFETY: the stream lives until `drop`.
        check("cuStreamSynchronize", unsafe {
            sys::cuStreamSynchronize(self.stream)
        })
    }

    pub(crate) fn allocate(&self, bytes: usize) -> Result<u64> {
        self.make_current()?;
        let mut address = 0;
        // SAFETY: the call writes one address; a byte at least, because the driver refuses none.
        let code = unsafe { sys::cuMemAlloc_v2(&raw mut address, bytes.max(1)) };
        check("cuMemAlloc", code)?;
        Ok(address)
    }

    pub(crate) fn free(&self, address: u64) -> Result<()> {
        self.make_current()?;
        // SAFETY: only `DeviceMemory::drop` calls this, once, with an address of `allocate`.
        check("cuMemFree", unsafe { sys::cuMemFree_v2(address) })
    }

    pub(crate) fn write(&self, to: &DeviceMemory, bytes: &[u8]) -> Result<()> {
        fits(to, bytes.len())?;
        self.make_current()?;
        // In the order of our stream, which waits for no other: a copy on the default stream may still be under way when the next
        // kernel begins.
        // SAFETY: the allocation is at least as long, as was checked, and the bytes are borrowed until the stream has ended below.
        let started = unsafe {
            sys::cuMemcpyHtoDAsync_v2(
                to.address(),
                bytes.as_ptr().cast(),
                bytes.len(),
                self.stream,
            )
        };
        let ended = self.synchronize();
        check("cuMemcpyHtoDAsync", started)?;
        ended
    }

    pub(crate) fn read(&self, from: &DeviceMemory, bytes: &mut [u8]) -> Result<()> {
        fits(from, bytes.len())?;
        self.make_current()?;
        let (to, len) = (bytes.as_mut_ptr().cast(), bytes.len());
        // SAFETY: as in `write`.
        let started = unsafe { sys::cuMemcpyDtoHAsync_v2(to, from.address(), len, self.stream) };
        let ended = self.synchronize();
        check("cuMemcpyDtoHAsync", started)?;
        ended
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: both were made here, and nothing that borrows them outlives the device that holds this.
        unsafe {
            if !self.borrowed && !self.stream.is_null() {
                sys::cuStreamDestroy_v2(self.stream);
            }
            sys::cuDevicePrimaryCtxRelease_v2(self.device);
        }
    }
}

fn fits(memory: &DeviceMemory, found: usize) -> Result<()> {
    let allocated = memory.len();
    let fits = found <= allocated;
    fits.then_some(()).ok_or(Error::Length { allocated, found })
}

/// Encodes the map; the address is not read.
pub(crate) fn tensor_map(device: &Context, address: u64, shape: &TensorShape) -> Result<TensorMap> {
    shape.check()?;
    if !address.is_multiple_of(16) {
        return Err(Error::TensorShape {
            what: "address modulo 16",
            found: address % 16,
            expected: "a multiple of 16",
        });
    }
    device.make_current()?;
    let element = match shape.element {
        Element::U8 => sys::CUtensorMapDataType_enum::CU_TENSOR_MAP_DATA_TYPE_UINT8,
        Element::Bf16 => sys::CUtensorMapDataType_enum::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
        Element::F32 => sys::CUtensorMapDataType_enum::CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
    };
    let swizzle = match shape.swizzle {
        Swizzle::None => sys::CUtensorMapSwizzle_enum::CU_TENSOR_MAP_SWIZZLE_NONE,
        Swizzle::Bytes128 => sys::CUtensorMapSwizzle_enum::CU_TENSOR_MAP_SWIZZLE_128B,
    };
    // The contiguous side comes first, and has no stride of its own.
    let dims = [shape.cols, shape.rows];
    let strides = [shape.row_stride * shape.element.bytes()];
    let extent = [shape.box_cols, shape.box_rows];
    let steps = [1u32, 1];
    let mut map = MaybeUninit::<sys::CUtensorMap>::zeroed();
    // SAFETY: the arrays have the lengths of a tensor of two sides (sides 2, strides 1), and the map is as large and as aligned
    // as the bindings declare it.
    let code = unsafe {
        sys::cuTensorMapEncodeTiled(
            map.as_mut_ptr(),
            element,
            2,
            address as *mut c_void,
            dims.as_ptr(),
            strides.as_ptr(),
            extent.as_ptr(),
            steps.as_ptr(),
            sys::CUtensorMapInterleave_enum::CU_TENSOR_MAP_INTERLEAVE_NONE,
            swizzle,
            sys::CUtensorMapL2promotion_enum::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
            sys::CUtensorMapFloatOOBfill_enum::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
    };
    check("cuTensorMapEncodeTiled", code)?;
    // SAFETY: the call succeeded, and zeros would be a valid value too.
    Ok(TensorMap(unsafe { map.assume_init() }))
}

/// A loaded image.
#[derive(Debug)]
pub struct Module {
    device: Arc<Context>,
    module: sys::CUmodule,
}

// SAFETY: as for `Context`.
unsafe impl Send for Module {}
// SAFETY: as for `Context`.
unsafe impl Sync for Module {}

/// A kernel of a module, ready to launch.
#[derive(Clone, Debug)]
pub struct Function {
    module: Arc<Module>,
    function: sys::CUfunction,
    shared: u32,
}

// SAFETY: as for `Context`.
unsafe impl Send for Function {}
// SAFETY: as for `Context`.
unsafe impl Sync for Function {}

impl Module {
    /// Loads a CUBIN, or PTX that ends in a NUL.
    ///
    /// # Errors
    /// An image of another architecture, or one that is none.
    pub fn load(device: &Device, image: &[u8]) -> Result<Arc<Self>> {
        let device = device.context().clone();
        device.make_current()?;
        // An ELF file says how long it is; a text ends in NUL. What is neither would be read beyond its end.
        if !image.starts_with(b"\x7fELF") && image.last() != Some(&0) {
            return Err(Error::Driver {
                call: "cuModuleLoadData",
                message: "neither a CUBIN nor a text that ends in NUL".to_owned(),
            });
        }
        let mut module = ptr::null_mut();
        // SAFETY: the image is one of the two kinds whose end the driver finds by itself, as was checked.
        let code = unsafe { sys::cuModuleLoadData(&raw mut module, image.as_ptr().cast()) };
        check("cuModuleLoadData", code)?;
        Ok(Arc::new(Self { device, module }))
    }

    /// A kernel by its name, which may have up to `shared` bytes of dynamic shared memory.
    ///
    /// # Errors
    /// No kernel of that name, or more shared memory than a block can have.
    pub fn function(self: &Arc<Self>, name: &str, shared: u32) -> Result<Function> {
        self.device.make_current()?;
        let name = CString::new(name).map_err(|_| Error::Nul {
            program: name.to_owned(),
            what: "name",
        })?;
        let mut function = ptr::null_mut();
        let bytes = c_int::try_from(shared).unwrap_or(c_int::MAX);
        let which = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the module is loaded until `drop`, the name is NUL-terminated, and the function is the one just found.
        unsafe {
            let found = sys::cuModuleGetFunction(&raw mut function, self.module, name.as_ptr());
            check("cuModuleGetFunction", found)?;
            let set = sys::cuFuncSetAttribute(function, which, bytes);
            check("cuFuncSetAttribute", set)?;
        }
        Ok(Function {
            module: self.clone(),
            function,
            shared,
        })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        if self.device.make_current().is_ok() {
            // SAFETY: functions hold the module, so none is left.
            unsafe { sys::cuModuleUnload(self.module) };
        }
    }
}

impl Function {
    /// Starts the kernel on the device's stream and returns at once.
    ///
    /// # Errors
    /// A launch that [`Launch::check`] or the driver refuses.
    ///
    /// # Safety
    /// The arguments must have the number, order and types of the kernel's parameters, and every pointer among them must be to
    /// device memory that is as long as the kernel reads or writes and lives until the stream has passed the kernel.
    pub unsafe fn launch(&self, launch: &Launch, args: &[Arg]) -> Result<()> {
        launch.check()?;
        if launch.shared > self.shared {
            return Err(Error::Launch {
                what: "bytes of shared memory",
                found: launch.shared.into(),
                expected: "at most what the function was made with",
            });
        }
        let device = &self.module.device;
        device.make_current()?;
        let mut attributes = attributes(launch);
        let mut pointers: Vec<*mut c_void> = args.iter().map(pointer).collect();
        // SAFETY: a C struct of integers and pointers, for which zeros are a value.
        let mut config: sys::CUlaunchConfig = unsafe { zeroed() };
        (config.gridDimX, config.gridDimY, config.gridDimZ) =
            (launch.grid.0, launch.grid.1, launch.grid.2);
        (config.blockDimX, config.blockDimY, config.blockDimZ) =
            (launch.block.0, launch.block.1, launch.block.2);
        config.sharedMemBytes = launch.shared;
        config.hStream = device.stream;
        config.attrs = attributes.as_mut_ptr();
        config.numAttrs = attributes.len() as u32;
        // SAFETY: configuration, attributes and arguments live until the call returns, which copies them and writes none of them; that
        // the arguments fit the kernel is the caller's promise.
        let code = unsafe {
            sys::cuLaunchKernelEx(
                &raw const config,
                self.function,
                pointers.as_mut_ptr(),
                ptr::null_mut(),
            )
        };
        check("cuLaunchKernelEx", code)
    }
}

/// Cluster and overlap, where they are asked for.
fn attributes(launch: &Launch) -> Vec<sys::CUlaunchAttribute> {
    let mut all = Vec::with_capacity(2);
    // SAFETY: a C struct of integers, for which zeros are a value.
    let blank: sys::CUlaunchAttribute = unsafe { zeroed() };
    let (x, y, z) = (launch.cluster.0, launch.cluster.1, launch.cluster.2);
    if (x, y, z) != (1, 1, 1) {
        let mut cluster = blank;
        cluster.id = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
        let dim = sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x, y, z };
        cluster.value.clusterDim = dim;
        all.push(cluster);
    }
    if launch.overlap {
        let mut overlap = blank;
        overlap.id =
            sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
        overlap.value.programmaticStreamSerializationAllowed = 1;
        all.push(overlap);
    }
    all
}

/// The driver declares arguments as mutable and reads them.
fn pointer(arg: &Arg) -> *mut c_void {
    match arg {
        Arg::U32(value) => ptr::from_ref(value).cast_mut().cast(),
        Arg::Pointer(value) => ptr::from_ref(value).cast_mut().cast(),
        Arg::Map(map) => ptr::from_ref(map).cast_mut().cast(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dim;

    #[test]
    fn attributes_are_those_that_were_asked_for() {
        let mut launch = Launch {
            grid: Dim::x(8),
            block: Dim::x(128),
            cluster: Dim::x(1),
            shared: 0,
            overlap: false,
        };
        assert!(attributes(&launch).is_empty());
        (launch.cluster, launch.overlap) = (Dim::x(2), true);
        assert_eq!(attributes(&launch).len(), 2);
    }

    #[test]
    fn a_tensor_map_is_128_bytes_as_kernels_declare_it() {
        assert_eq!(size_of::<TensorMap>(), 128);
        assert_eq!(align_of::<TensorMap>(), 128);
    }
}
