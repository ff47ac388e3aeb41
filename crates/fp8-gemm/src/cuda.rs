//! A [`Call`] on a GPU.
#![expect(
    unsafe_code,
    reason = "a kernel reads and writes whatever its arguments point to"
)]

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use xgraft_cuda_jit::{Arg, Device, DeviceMemory, Function, Jit, Launch, Module, Target};

use crate::{
    Error, Result,
    call::{Call, Operand, Parameter},
    kernel::Kernel,
    plan::Gpu,
    trial::{Data, Machine, Outcome, Run, Trial, Verdict},
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

    /// A call with the addresses of its operands: tensor maps are encoded and the kernel is loaded here, not when it is started.
    ///
    /// An operand that is not given is a null pointer, which only [`Operand::Codes`] may be.
    ///
    /// # Errors
    /// As [`Self::load`]; an operand that is shorter than its tensor map, parts or counters shorter than the call asks for; what the
    /// driver refuses.
    pub fn prepare(&self, call: &Call, operands: &[(Operand, Region)]) -> Result<Prepared> {
        call.check()?;
        let find = |operand: Operand| {
            let mut operands = operands.iter();
            let found = operands.find(|(name, _)| *name == operand);
            found.map_or(Region::default(), |(_, region)| *region)
        };
        at_least("parts", find(Operand::Parts), call.parts)?;
        let counters = u64::from(call.counters) * 4;
        at_least("counters", find(Operand::Counters), counters)?;
        let mut args = Vec::with_capacity(call.parameters.len());
        for parameter in &call.parameters {
            args.push(match parameter {
                Parameter::Map(operand, shape) => {
                    let region = find(*operand);
                    at_least(operand.name(), region, shape.bytes())?;
                    Arg::Map(self.device.tensor_map(region.address, shape)?)
                }
                Parameter::Pointer(operand) => Arg::Pointer(find(*operand).address),
                Parameter::Number(number) => Arg::U32(*number),
            });
        }
        Ok(Prepared {
            function: self.load(call.kernel)?,
            launch: call.launch,
            args,
        })
    }
}

fn at_least(what: &'static str, region: Region, bytes: u64) -> Result<()> {
    let fits = region.bytes >= bytes;
    fits.then_some(()).ok_or(Error::Length {
        what,
        found: region.bytes as usize,
        expected: bytes as usize,
    })
}

/// Device memory, whoever owns it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// Its address on the device.
    pub address: u64,
    /// Its length.
    pub bytes: u64,
}

impl From<&DeviceMemory> for Region {
    fn from(memory: &DeviceMemory) -> Self {
        Self {
            address: memory.address(),
            bytes: memory.len() as u64,
        }
    }
}

/// What no kernel writes.
const READ_ONLY: [Operand; 4] = [Operand::X, Operand::W, Operand::WScales, Operand::B];

/// Runs what trials make. Nobody else can have it: a kernel believes what a run says of its operands.
struct OfTrials<'a>(&'a Cuda);

impl Machine for OfTrials<'_> {
    fn outcome(&self, run: &Run<'_>) -> std::result::Result<Outcome, String> {
        self.0.run(run).map_err(|error| in_full(&error))
    }
}

impl Cuda {
    /// Runs a trial on this GPU.
    ///
    /// # Errors
    /// What the driver says.
    pub fn judge(&self, trial: &Trial) -> std::result::Result<Verdict, String> {
        trial.judge(self.gpu(), &OfTrials(self))
    }

    fn run(&self, run: &Run<'_>) -> Result<Outcome> {
        let extra = run.extra.iter().map(|bytes| self.device.copy_of(bytes));
        let extra: Vec<DeviceMemory> = extra.collect::<std::result::Result<_, _>>()?;
        let address = |place: &usize| extra[*place].address().to_le_bytes();
        let mut operands = Vec::new();
        for (operand, data) in &run.operands {
            let bytes = match data {
                Data::Bytes(bytes) => Cow::Borrowed(bytes),
                Data::Table(places) => Cow::Owned(places.iter().flat_map(address).collect()),
            };
            operands.push((*operand, self.device.copy_of(&bytes)?, bytes));
        }
        let regions: Vec<_> = operands
            .iter()
            .map(|(operand, memory, _)| (*operand, memory.into()))
            .collect();
        let prepared = self.prepare(run.call, &regions)?;
        let mut first: Option<HashMap<Operand, Vec<u8>>> = None;
        let mut unsteady = 0;
        let written = operands
            .iter()
            .filter(|(operand, ..)| !READ_ONLY.contains(operand));
        for _ in 0..=run.repeats {
            for (_, memory, bytes) in written.clone().filter(|_| first.is_some()) {
                memory.write(bytes)?;
            }
            // SAFETY: the run is a trial's, which has every operand in the shape that its call gives it; all of it lives until it was
            // read below.
            unsafe { prepared.start() }?;
            let mut after = HashMap::new();
            for (operand, memory, _) in written.clone() {
                // Whatever is left in the parts is nobody's.
                if *operand != Operand::Parts {
                    let mut bytes = vec![0; memory.len()];
                    memory.read(&mut bytes)?;
                    after.insert(*operand, bytes);
                }
            }
            match &first {
                Some(first) => unsteady += u32::from(*first != after),
                None => first = Some(after),
            }
        }
        Ok(Outcome {
            operands: first.unwrap_or_default(),
            unsteady,
        })
    }
}

/// An error with its causes.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// A call that can be started as often as wanted.
#[derive(Clone, Debug)]
pub struct Prepared {
    function: Function,
    launch: Launch,
    args: Vec<Arg>,
}

impl Prepared {
    /// Starts the kernel on the device's stream and returns at once. Allocates nothing on the device and waits for nothing, so that
    /// a graph can be captured of it.
    ///
    /// # Errors
    /// What the driver refuses.
    ///
    /// # Safety
    /// The call must be as its constructor made it, every operand must have the shape that [`Operand`] and the call give it, tables must hold addresses of matrices of the shapes
    /// that [`Operand`] says, and all of it must live until the stream has passed the call.
    pub unsafe fn start(&self) -> Result<()> {
        // SAFETY: number, order and types of the arguments are those of the call, which the tests run against the kernel's text;
        // that the operands are as they must be is the caller's promise.
        unsafe { self.function.launch(&self.launch, &self.args) }?;
        Ok(())
    }
}
