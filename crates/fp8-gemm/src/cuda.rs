//! A [`Call`] on a GPU.
#![expect(
    unsafe_code,
    reason = "a kernel reads and writes whatever its arguments point to"
)]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use xgraft_cuda_jit::{Arg, Device, DeviceMemory, Function, Jit, Module, Target};

use crate::{
    Error, Result,
    call::{Call, Operand, Parameter},
    kernel::Kernel,
    plan::Gpu,
};

/// A GPU and the kernels that were loaded on it.
#[derive(Debug)]
pub struct Cuda {
    device: Device,
    jit: Jit,
    loaded: Mutex<HashMap<Kernel, Function>>,
}

impl Cuda {
    /// On this GPU, with images from there.
    pub fn new(device: Device, jit: Jit) -> Self {
        Self {
            device,
            jit,
            loaded: Mutex::default(),
        }
    }

    /// The GPU.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The GPU as plans see it.
    pub fn gpu(&self) -> Gpu {
        let capability = self.device.capability();
        Gpu {
            capability: (capability.major, capability.minor),
            multiprocessors: capability.multiprocessors,
        }
    }

    /// Loads a kernel, if it is not loaded: what a server does for every configuration before its first request.
    ///
    /// # Errors
    /// [`Error::Gpu`] if the GPU does not run it; no image of it, or one that does not load.
    pub fn load(&self, kernel: Kernel) -> Result<Function> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = loaded.get(&kernel) {
            return Ok(function.clone());
        }
        let capability = self.device.capability();
        let (Target::Cubin(arch) | Target::Ptx(arch)) = kernel.target();
        if !capability.runs(arch) {
            return Err(Error::Gpu {
                major: capability.major,
                minor: capability.minor,
            });
        }
        let (image, _) = self.jit.image(&kernel.program())?;
        let module: Arc<Module> = Module::load(&self.device, &image)?;
        let function = module.function(kernel.function(), kernel.resources().shared)?;
        loaded.insert(kernel, function.clone());
        Ok(function)
    }

    /// Starts a call on the device's stream and returns at once.
    ///
    /// An operand that is not given is a null pointer, which only [`Operand::Codes`] may be.
    ///
    /// # Errors
    /// As [`Self::load`]; parts or counters shorter than the call asks for; what the driver refuses.
    ///
    /// # Safety
    /// Every operand must have the shape that [`Operand`] and the call give it, tables must hold addresses of matrices of the shapes
    /// that [`Operand`] says, and all of it must live until the stream has passed the call.
    pub unsafe fn start(&self, call: &Call, operands: &[(Operand, &DeviceMemory)]) -> Result<()> {
        call.check()?;
        let find = |operand: Operand| {
            operands
                .iter()
                .find(|(name, _)| *name == operand)
                .map(|(_, memory)| *memory)
        };
        let len = |operand| find(operand).map_or(0, DeviceMemory::len);
        for (what, operand, expected) in [
            ("parts", Operand::Parts, call.parts as usize),
            ("counters", Operand::Counters, call.counters as usize * 4),
        ] {
            let found = len(operand);
            if found < expected {
                return Err(Error::Length {
                    what,
                    found,
                    expected,
                });
            }
        }
        let address = |operand| find(operand).map_or(0, DeviceMemory::address);
        let mut args = Vec::with_capacity(call.parameters.len());
        for parameter in &call.parameters {
            args.push(match parameter {
                Parameter::Map(operand, shape) => {
                    Arg::Map(self.device.tensor_map(address(*operand), shape)?)
                }
                Parameter::Pointer(operand) => Arg::Pointer(address(*operand)),
                Parameter::Number(number) => Arg::U32(*number),
            });
        }
        let function = self.load(call.kernel)?;
        // SAFETY: number, order and types of the arguments are those of the call, which the tests run against the kernel's text;
        // that the operands are as they must be is the caller's promise.
        unsafe { function.launch(&call.launch, &mut args) }?;
        Ok(())
    }
}
