//! What needs an NVRTC; `cargo xtask kernels --require` runs it.

use std::{fs, sync::Barrier, thread};
use xgraft_cuda_jit::{Arch, Cache, Error, Jit, Nvrtc, Origin, Program, Search, Shipped, Target};

const FILL: &str = r#"extern "C" __global__ void fill(float* y) { y[threadIdx.x] = 1.f; }"#;

fn fill() -> Program {
    Program::new("fill", FILL, Target::Cubin(Arch::SM90A))
}

/// The same with another number.
fn of_twos() -> Program {
    let text = FILL.replace("1.f", "2.f");
    Program::new("fill", text, Target::Cubin(Arch::SM90A))
}

fn nvrtc() -> Nvrtc {
    Nvrtc::find().unwrap_or_else(|error| panic!("{error}"))
}

#[test]
#[ignore = "gpu: needs NVRTC, though no GPU"]
fn a_kernel_compiles_to_an_elf_file_and_its_registers_are_known() {
    let nvrtc = nvrtc();
    let compiled = nvrtc.compile(&fill()).expect("compiles");
    assert!(compiled.image.starts_with(b"\x7fELF"));
    let report = compiled.report();
    assert_eq!(report.kernels[0].name, "fill");
    assert!(report.registers() > 0 && report.spills() == 0 && report.stack() == 0);
}

#[test]
#[ignore = "gpu: needs NVRTC, though no GPU"]
fn ptx_ends_in_the_nul_that_the_driver_wants() {
    let nvrtc = nvrtc();
    let program = Program::new("fill", FILL, Target::Ptx(Arch::SM80));
    let image = nvrtc.compile(&program).expect("compiles").image;
    assert_eq!(image.last(), Some(&0));
    assert!(String::from_utf8_lossy(&image).contains(".target sm_80"));
}

#[test]
#[ignore = "gpu: needs NVRTC, though no GPU"]
fn a_wrong_text_is_an_error_with_the_log() {
    let nvrtc = nvrtc();
    let program = Program::new("broken", "this is not C", Target::Cubin(Arch::SM90A));
    let error = nvrtc.compile(&program).expect_err("no C");
    let Error::Compile { program, log } = error else {
        panic!("{error}")
    };
    assert_eq!(program, "broken");
    assert!(log.contains("error"), "{log}");
}

#[test]
#[ignore = "gpu: needs NVRTC, though no GPU"]
fn a_nul_in_the_text_is_refused_before_the_compiler_sees_half_of_it() {
    let nvrtc = nvrtc();
    let program = Program::new("nul", "int a;\0int b;", Target::Cubin(Arch::SM90A));
    let error = nvrtc.compile(&program).expect_err("a NUL");
    assert!(matches!(error, Error::Nul { what: "text", .. }));
}

#[test]
#[ignore = "gpu: needs NVRTC, though no GPU"]
fn equal_programs_compile_to_equal_bytes() {
    let nvrtc = nvrtc();
    let (one, two) = (nvrtc.compile(&fill()), nvrtc.compile(&fill()));
    assert!(one.expect("compiles") == two.expect("compiles"));
}

#[test]
#[ignore = "gpu: needs NVRTC, though no GPU"]
fn a_damaged_entry_of_the_cache_is_made_again() {
    let nvrtc = nvrtc();
    let folder = tempfile::tempdir().expect("a folder");
    let cache = Cache::at(folder.path());
    let get = || {
        let (compiled, origin) = cache.get_or_compile(&nvrtc, &fill()).expect("an image");
        (blake3::hash(&compiled.image), origin)
    };
    let (image, origin) = get();
    assert_eq!(origin, Origin::Compiled);
    assert_eq!(get(), (image, Origin::Cached));

    let file = cache.file(&fill(), &nvrtc.identity());
    let mut bytes = fs::read(&file).expect("read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&file, &bytes).expect("written");
    assert_eq!(get(), (image, Origin::Healed));
    fs::write(&file, &bytes[..10]).expect("written");
    assert_eq!(get(), (image, Origin::Healed));
    assert_eq!(get(), (image, Origin::Cached));
}

#[test]
#[ignore = "gpu: needs NVRTC, though no GPU"]
fn another_text_is_another_entry() {
    let nvrtc = nvrtc();
    let folder = tempfile::tempdir().expect("a folder");
    let cache = Cache::at(folder.path());
    let two = of_twos();
    let one = cache.get_or_compile(&nvrtc, &fill()).expect("an image");
    let two = cache.get_or_compile(&nvrtc, &two).expect("an image");
    assert_eq!(two.1, Origin::Compiled);
    assert_ne!(one.0.image, two.0.image);
}

#[test]
#[ignore = "gpu: needs NVRTC, though no GPU"]
fn many_who_write_one_entry_at_once_all_get_the_same_image() {
    let nvrtc = nvrtc();
    let folder = tempfile::tempdir().expect("a folder");
    let start = Barrier::new(8);
    let images: Vec<Vec<u8>> = thread::scope(|scope| {
        let work = || {
            start.wait();
            let cache = Cache::at(folder.path());
            let image = cache.get_or_compile(&nvrtc, &fill()).expect("an image");
            image.0.image
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        ended.map(|image| image.expect("no panic")).collect()
    });
    assert!(images.iter().all(|image| *image == images[0]));
    // One entry, and nothing half written beside it.
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
}

#[test]
#[ignore = "gpu: needs NVRTC, though no GPU"]
fn shipped_images_need_no_compiler_and_are_held_against_their_digest() {
    let nvrtc = nvrtc();
    let folder = tempfile::tempdir().expect("a folder");
    let built = Shipped::build(folder.path(), &nvrtc, &[fill()]).expect("built");
    let shipped = Shipped::open(folder.path()).expect("opened");
    assert_eq!(shipped.manifest(), built.manifest());

    let nowhere = folder.path().join("nowhere");
    let jit = Jit::new(Some(shipped), None).search(Search::at(&nowhere));
    let (image, origin) = jit.image(&fill()).expect("shipped");
    assert_eq!(origin, Origin::Shipped);
    assert_eq!(image, nvrtc.compile(&fill()).expect("compiles").image);
    let error = jit.image(&of_twos()).expect_err("not shipped, no compiler");
    assert!(matches!(error, Error::NvrtcAbsent { .. }));

    let file = folder.path().join(&built.manifest().images[0].file);
    fs::write(&file, b"\x7fELF of somebody else").expect("written");
    let error = jit.image(&fill()).expect_err("another file");
    assert!(matches!(error, Error::Digest { .. }), "{error}");
}
