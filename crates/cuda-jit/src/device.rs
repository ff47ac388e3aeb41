//! A GPU, its stream, and memory on it.

use std::sync::Arc;

use cudarc::driver::sys::CUdevice_attribute as Attribute;

use crate::{
    Arch, Result, TensorMap, TensorShape,
    ffi::driver::{self, Context},
};

/// What a GPU is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// 9 of compute capability 9.0.
    pub major: u32,
    /// 0 of compute capability 9.0.
    pub minor: u32,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Most shared memory that a block may have, in bytes.
    pub shared: u32,
    /// Second-level cache, in bytes.
    pub l2: u32,
}

impl Capability {
    /// Whether it runs machine code or text made for an architecture.
    pub fn runs(&self, arch: Arch) -> bool {
        match arch.exact {
            true => (self.major, self.minor) == (arch.major, arch.minor),
            false => (self.major, self.minor) >= (arch.major, arch.minor),
        }
    }
}

/// A GPU and one stream on it; everything launched through it runs in order.
#[derive(Clone, Debug)]
pub struct Device {
    context: Arc<Context>,
    capability: Capability,
}

impl Device {
    /// The GPU with this number.
    ///
    /// # Errors
    /// No driver, a driver without a function that is used, or no such GPU.
    pub fn open(ordinal: u32) -> Result<Self> {
        Self::of(Context::open(ordinal)?)
    }

    pub(crate) fn of(context: Context) -> Result<Self> {
        let ask = |which| context.attribute(which);
        let capability = Capability {
            major: ask(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            minor: ask(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
            multiprocessors: ask(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            shared: ask(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
            l2: ask(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?,
        };
        Ok(Self {
            context: Arc::new(context),
            capability,
        })
    }

    /// What it is.
    pub fn capability(&self) -> Capability {
        self.capability
    }

    /// Waits until everything launched has ended.
    ///
    /// # Errors
    /// What a kernel did wrong shows here.
    pub fn synchronize(&self) -> Result<()> {
        self.context.synchronize()
    }

    /// Memory that holds these bytes.
    ///
    /// # Errors
    /// There is not enough.
    pub fn copy_of(&self, bytes: &[u8]) -> Result<DeviceMemory> {
        let memory = DeviceMemory {
            address: self.context.allocate(bytes.len())?,
            bytes: bytes.len(),
            context: self.context.clone(),
        };
        self.context.write(&memory, bytes)?;
        Ok(memory)
    }

    /// How TMA sees a matrix at this address of device memory.
    ///
    /// # Errors
    /// As [`TensorShape::check`], and an address that is no multiple of 16.
    pub fn tensor_map(&self, address: u64, shape: &TensorShape) -> Result<TensorMap> {
        driver::tensor_map(&self.context, address, shape)
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }
}

/// Memory on a GPU, given back when dropped.
#[derive(Debug)]
pub struct DeviceMemory {
    address: u64,
    bytes: usize,
    context: Arc<Context>,
}

impl DeviceMemory {
    /// Its address on the device.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Writes its first bytes, after everything launched has ended.
    ///
    /// # Errors
    /// More bytes than were allocated; and what a kernel did wrong shows here.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        self.context.write(self, bytes)
    }

    /// Reads its first bytes, after everything launched has ended.
    ///
    /// # Errors
    /// More bytes than were allocated; and what a kernel did wrong shows here.
    pub fn read(&self, bytes: &mut [u8]) -> Result<()> {
        self.context.read(self, bytes)
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        // Kernels may still use it. A device that is lost has no memory to give back.
        if self.context.synchronize().is_ok() {
            let _ = self.context.free(self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_machine_code_runs_on_its_own_architecture_only() {
        let gpu = |major, minor| Capability {
            major,
            minor,
            multiprocessors: 132,
            shared: 232_448,
            l2: 50 << 20,
        };
        assert!(gpu(9, 0).runs(Arch::SM90A) && gpu(9, 0).runs(Arch::SM80));
        assert!(!gpu(10, 0).runs(Arch::SM90A) && gpu(10, 0).runs(Arch::SM80));
        assert!(gpu(8, 6).runs(Arch::SM80) && !gpu(7, 5).runs(Arch::SM80));
    }
}
