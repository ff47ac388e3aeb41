//! The kernels' own text on the CPU: compiled by the C++ compiler with software in place of the instructions.

use std::{
    collections::HashMap,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{LazyLock, Mutex},
};

use xgraft_cuda_jit::{Dim, Element, Swizzle};
use xgraft_fp8_gemm::{
    call::{Operand, Parameter},
    trial::{Data, Machine, Outcome, Run},
};

/// Compiled programs, by their text.
static PROGRAMS: LazyLock<(tempfile::TempDir, Mutex<HashMap<String, PathBuf>>)> =
    LazyLock::new(|| (tempfile::tempdir().expect("a folder"), Mutex::default()));

/// The program of a text.
pub(crate) fn program(text: &str) -> PathBuf {
    let mut programs = PROGRAMS.1.lock().expect("no panic while compiling");
    if let Some(program) = programs.get(text) {
        return program.clone();
    }
    let folder = PROGRAMS.0.path();
    let (source, binary) = (
        folder.join(format!("{}.cpp", programs.len())),
        folder.join(programs.len().to_string()),
    );
    std::fs::write(&source, text).expect("written");
    let output = Command::new("c++")
        .args(["-std=c++17", "-O1", "-ffp-contract=off", "-w", "-o"])
        .args([&binary, &source])
        .output()
        .unwrap_or_else(|error| {
            panic!("the kernels' text is tested with a C++ compiler, c++: {error}")
        });
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    programs.insert(text.to_owned(), binary.clone());
    binary
}

/// The CPU. Every repeat runs blocks, warps and copies in another order.
pub(crate) struct Host;

impl Machine for Host {
    fn outcome(&self, run: &Run<'_>) -> Result<Outcome, String> {
        run.call.check().map_err(|error| error.to_string())?;
        let text = run.call.kernel.host_program(run.call.parameters.len());
        let program = program(&text);
        let operands = run_program(run, &program, 1)?;
        let mut unsteady = 0;
        for repeat in 0..run.repeats {
            let again = run_program(run, &program, 2 + u64::from(repeat))?;
            let same = |(operand, bytes): (&Operand, &Vec<u8>)| {
                *operand == Operand::Parts || operands[operand] == *bytes
            };
            unsteady += u32::from(!again.iter().all(same));
        }
        Ok(Outcome { operands, unsteady })
    }
}

/// The operands of bytes after a program's run, in the order of a seed.
pub(crate) fn run_program(
    run: &Run<'_>,
    program: &PathBuf,
    seed: u64,
) -> Result<HashMap<Operand, Vec<u8>>, String> {
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let input = input(run, seed);
    let mut stdin = child.stdin.take().expect("piped");
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(&input));
        child.wait_with_output().expect("it ends")
    });
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{errors} ({})", output.status));
    }
    let mut rest = output.stdout.as_slice();
    let mut outcome = HashMap::new();
    for (operand, data) in &run.operands {
        if let Data::Bytes(bytes) = data {
            let (mine, after) = rest.split_at(bytes.len());
            outcome.insert(*operand, mine.to_vec());
            rest = after;
        }
    }
    Ok(outcome)
}

/// What no kernel in front may write, and a kernel that overlaps it reads at once.
const READ_AT_ONCE: [Operand; 3] = [Operand::W, Operand::WScales, Operand::B];

fn input(run: &Run<'_>, seed: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let launch = &run.call.launch;
    let overlaps = launch.overlap;
    let count = run.operands.len() + run.extra.len();
    bytes.extend((count as u32).to_le_bytes());
    let mut put = |kind: u8, data: &[u8]| {
        bytes.push(kind);
        bytes.extend((data.len() as u64).to_le_bytes());
        bytes.extend(data);
    };
    for (operand, data) in &run.operands {
        match data {
            Data::Bytes(data) if overlaps && !READ_AT_ONCE.contains(operand) => put(2, data),
            Data::Bytes(data) => put(0, data),
            Data::Table(places) => {
                let place = |&place: &usize| ((run.operands.len() + place) as u64).to_le_bytes();
                put(1, &places.iter().flat_map(place).collect::<Vec<_>>());
            }
        }
    }
    run.extra.iter().for_each(|data| put(0, data));
    let (Dim(x, y, z), threads) = (launch.grid, launch.block.0);
    for number in [x, y, z, threads, launch.cluster.0] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(seed.to_le_bytes());
    bytes.extend((run.call.parameters.len() as u32).to_le_bytes());
    for parameter in &run.call.parameters {
        match parameter {
            Parameter::Map(operand, map) => {
                bytes.push(0);
                bytes.extend(place(run, *operand).to_le_bytes());
                bytes.extend((map.element.bytes() as u32).to_le_bytes());
                for number in [map.rows, map.cols, map.row_stride] {
                    bytes.extend(number.to_le_bytes());
                }
                let swizzled = u32::from(map.swizzle == Swizzle::Bytes128);
                for number in [map.box_rows, map.box_cols, swizzled] {
                    bytes.extend(number.to_le_bytes());
                }
                assert!(matches!(
                    map.element,
                    Element::U8 | Element::Bf16 | Element::F32
                ));
            }
            Parameter::Pointer(operand) => {
                bytes.push(1);
                bytes.extend(place(run, *operand).to_le_bytes());
            }
            Parameter::Number(number) => {
                bytes.push(2);
                bytes.extend(number.to_le_bytes());
            }
        }
    }
    bytes
}

/// The operand's place in the input; none for one that was not given.
fn place(run: &Run<'_>, operand: Operand) -> u32 {
    let mut operands = run.operands.iter();
    let place = operands.position(|(name, _)| *name == operand);
    place.map_or(u32::MAX, |place| place as u32)
}
