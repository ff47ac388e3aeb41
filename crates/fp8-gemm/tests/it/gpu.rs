//! The same trials on a GPU.

use xgraft_cuda_jit::{Cache, Device, Jit};
use xgraft_fp8_gemm::{
    cuda::Cuda,
    plan::Table,
    trial::{Trial, all, small},
};

fn judge(trials: impl FnOnce(&Cuda) -> Vec<Trial>) {
    let device = Device::open(0).expect("a GPU");
    let cuda = Cuda::new(device, Jit::new(None, Cache::of_person()));
    for trial in trials(&cuda) {
        let verdict = cuda.judge(&trial);
        let verdict = verdict.unwrap_or_else(|error| panic!("{}: {error}", trial.name()));
        assert!(verdict.is_right(), "{}: {verdict:?}", trial.name());
    }
}

#[test]
#[ignore = "gpu: needs a GPU from sm_80 on, its driver and NVRTC"]
fn every_kernel_is_right_on_small_operands_on_the_gpu() {
    judge(|cuda| small(cuda.gpu()));
}

#[test]
#[ignore = "gpu: needs a Hopper GPU, its driver and NVRTC"]
fn everything_that_a_gpu_has_to_pass_is_passed() {
    judge(|cuda| {
        let table = Table::measured().expect("parses");
        all(cuda.gpu(), &table).expect("planned")
    });
}
