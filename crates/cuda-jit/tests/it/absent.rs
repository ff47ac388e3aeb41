//! A machine without NVRTC, driver or GPU.

use xgraft_cuda_jit::{Arch, Device, Error, Jit, Nvrtc, Program, Search, Target};

#[test]
fn without_a_driver_opening_a_device_is_a_typed_error() {
    match Device::open(0) {
        Err(Error::DriverAbsent { .. } | Error::DriverTooOld { .. } | Error::Driver { .. }) => {}
        Ok(device) => assert!(device.capability().multiprocessors > 0),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn an_empty_folder_has_no_nvrtc() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = Nvrtc::open(&Search::at(folder.path())).expect_err("nothing there");
    assert!(matches!(error, Error::NvrtcAbsent { .. }), "{error}");
    let program = Program::new("p", "", Target::Cubin(Arch::SM90A));
    let jit = Jit::new(None, None).search(Search::at(folder.path()));
    let error = jit.image(&program).expect_err("nothing to compile with");
    assert!(matches!(error, Error::NvrtcAbsent { .. }), "{error}");
}

#[test]
fn a_file_that_is_no_library_is_unusable() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("libnvrtc.so.13");
    std::fs::write(&file, b"not an ELF file").expect("written");
    let error = Nvrtc::open(&Search::at(&file)).expect_err("no library");
    assert!(matches!(error, Error::NvrtcUnusable { .. }), "{error}");
}
