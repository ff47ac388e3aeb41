//! The same cases on a GPU.
#![expect(
    unsafe_code,
    reason = "kernels are started with operands of the test's own making"
)]

use std::collections::HashMap;

use xgraft_cuda_jit::{Cache, Device, DeviceMemory, Jit};
use xgraft_fp8_gemm::{
    call::{Call, Operand, Output},
    cuda::Cuda,
    kernel::{Kernel, all},
};

use crate::{
    host::Data,
    kernels::{Case, assert_equal, f32s},
};

fn cuda() -> Cuda {
    let device = Device::open(0).expect("a GPU");
    Cuda::new(device, Jit::new(None, Cache::of_person()))
}

/// Y of a case on the GPU.
fn run(cuda: &Cuda, case: &Case, call: &Call) -> Vec<u8> {
    let operands = case.operands(call, Output::F32);
    let memory: HashMap<Operand, DeviceMemory> = operands
        .into_iter()
        .filter_map(|(operand, data)| match data {
            Data::Bytes(bytes) => Some((operand, cuda.device().copy_of(&bytes).expect("room"))),
            Data::Table(_) => None,
        })
        .collect();
    let list: Vec<_> = memory
        .iter()
        .map(|(operand, memory)| (*operand, memory))
        .collect();
    // SAFETY: `Case` makes every operand in the shape of its product, and `memory` lives until Y was read.
    unsafe { cuda.start(call, &list) }.expect("started");
    let y = &memory[&Operand::Y];
    let mut bytes = vec![0; y.len()];
    y.read(&mut bytes).expect("no fault on the GPU");
    bytes
}

#[test]
#[ignore = "gpu: needs a Hopper GPU, its driver and NVRTC"]
fn every_ring_kernel_gives_the_emulators_bits_on_the_gpu() {
    let cuda = cuda();
    for (i, kernel) in all().into_iter().enumerate() {
        let Some(tile) = kernel.tile() else { continue };
        let rank = if tile.lora {
            [8, 64, 72, 256][i / 2 % 4]
        } else {
            0
        };
        for (m, n, k) in [
            (1, 520, 1712),
            (tile.rows_b + 3, 200, 2096),
            (tile.rows_a + 9, 648, 1200),
        ] {
            let case = Case::new((m, n, k), rank, i as u64 + 1);
            let splits = if matches!(kernel, Kernel::Decode(_)) {
                1..4
            } else {
                1..2
            };
            for split in splits {
                let call = match kernel {
                    Kernel::Prefill(_) => {
                        Call::prefill(tile, case.shape, rank, Output::F32, 8, 132)
                    }
                    _ => Call::decode(tile, case.shape, rank, Output::F32, split),
                };
                let first = run(&cuda, &case, &call);
                let name = format!("{} {m} {n} {k} split {split}", kernel.name());
                assert_equal(&name, &f32s(&first), &case.expected(split));
                for _ in 0..20 {
                    assert!(
                        run(&cuda, &case, &call) == first,
                        "{name} is not deterministic"
                    );
                }
            }
        }
    }
}

#[test]
#[ignore = "gpu: needs a GPU from sm_80 on, its driver and NVRTC"]
fn the_plain_kernel_is_near_the_emulator_on_the_gpu() {
    let cuda = cuda();
    let kernel = if cuda.gpu().capability == (9, 0) {
        Kernel::Plain
    } else {
        Kernel::PlainPtx
    };
    for shape in [(70, 133, 301), (1, 1, 1), (3, 260, 129)] {
        let case = Case::new(shape, 0, 4);
        let call = Call::plain(kernel, case.shape, Output::F32);
        let ours = f32s(&run(&cuda, &case, &call));
        let expected = case.expected(1);
        let norm: f64 = expected.iter().map(|y| f64::from(*y).powi(2)).sum();
        let error: f64 = ours
            .iter()
            .zip(&expected)
            .map(|(a, b)| f64::from(a - b).powi(2))
            .sum();
        assert!((error / norm).sqrt() < 2e-3, "{shape:?}");
    }
}
