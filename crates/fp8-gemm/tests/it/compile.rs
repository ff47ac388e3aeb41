//! Every configuration compiles; `cargo xtask kernels --require` runs it.

use xgraft_cuda_jit::{Nvrtc, Target};
use xgraft_fp8_gemm::kernel::all;

#[test]
#[ignore = "gpu: needs NVRTC, though no GPU"]
fn every_configuration_compiles_without_spills_stack_or_serialised_wgmma() {
    let nvrtc = Nvrtc::find().unwrap_or_else(|error| panic!("{error}"));
    for kernel in all() {
        let compiled = nvrtc
            .compile(&kernel.program())
            .unwrap_or_else(|error| panic!("{error}"));
        if matches!(kernel.target(), Target::Cubin(_)) {
            let report = compiled.report();
            assert_eq!(report.kernels.len(), 1, "{}", kernel.name());
            assert_eq!(
                (report.spills(), report.stack()),
                (0, 0),
                "{}",
                compiled.log
            );
            assert!(report.serialized.is_empty(), "{}", compiled.log);
        }
    }
}
