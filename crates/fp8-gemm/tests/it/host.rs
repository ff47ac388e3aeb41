//! The kernels' own text on the CPU: compiled by the C++ compiler with software in place of the instructions.

use std::{
    collections::HashMap,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{LazyLock, Mutex},
};

use xgraft_cuda_jit::{Element, Swizzle};
use xgraft_fp8_gemm::call::{Call, Operand, Parameter};

/// An operand of a run.
pub(crate) enum Data {
    /// Bytes.
    Bytes(Vec<u8>),
    /// Addresses of extra operands, by their place among them.
    Table(Vec<usize>),
}

/// A kernel to run, its operands by name, and what tables point to.
pub(crate) struct Run<'a> {
    pub(crate) call: &'a Call,
    pub(crate) operands: Vec<(Operand, Data)>,
    pub(crate) extra: Vec<Vec<u8>>,
    pub(crate) seed: u64,
}

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

impl Run<'_> {
    /// Every operand of bytes after the run.
    pub(crate) fn outcome(&self) -> HashMap<Operand, Vec<u8>> {
        let text = self.call.kernel.host_program(self.call.parameters.len());
        let (outcome, errors) = self.run(&program(&text));
        outcome.unwrap_or_else(|| panic!("{}: {errors}", self.call.kernel.name()))
    }

    /// The operands after a program's run, or nothing and what it said.
    pub(crate) fn run(&self, program: &PathBuf) -> (Option<HashMap<Operand, Vec<u8>>>, String) {
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        let input = self.input();
        let mut stdin = child.stdin.take().expect("piped");
        let output = std::thread::scope(|scope| {
            scope.spawn(move || stdin.write_all(&input));
            child.wait_with_output().expect("it ends")
        });
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            return (None, format!("{errors} ({})", output.status));
        }
        let mut rest = output.stdout.as_slice();
        let mut outcome = HashMap::new();
        for (operand, data) in &self.operands {
            if let Data::Bytes(bytes) = data {
                let (mine, after) = rest.split_at(bytes.len());
                outcome.insert(*operand, mine.to_vec());
                rest = after;
            }
        }
        (Some(outcome), errors)
    }

    fn input(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let count = self.operands.len() + self.extra.len();
        bytes.extend((count as u32).to_le_bytes());
        let mut put = |table: bool, data: &[u8]| {
            bytes.push(u8::from(table));
            bytes.extend((data.len() as u64).to_le_bytes());
            bytes.extend(data);
        };
        for (_, data) in &self.operands {
            match data {
                Data::Bytes(data) => put(false, data),
                Data::Table(places) => {
                    let place =
                        |&place: &usize| ((self.operands.len() + place) as u64).to_le_bytes();
                    put(true, &places.iter().flat_map(place).collect::<Vec<_>>());
                }
            }
        }
        self.extra.iter().for_each(|data| put(false, data));
        let launch = &self.call.launch;
        for number in [launch.grid.0, launch.grid.1, launch.grid.2, launch.block.0] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(self.seed.to_le_bytes());
        bytes.extend((self.call.parameters.len() as u32).to_le_bytes());
        for parameter in &self.call.parameters {
            match parameter {
                Parameter::Map(operand, map) => {
                    bytes.push(0);
                    bytes.extend(self.place(*operand).to_le_bytes());
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
                    bytes.extend(self.place(*operand).to_le_bytes());
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
    fn place(&self, operand: Operand) -> u32 {
        let mut operands = self.operands.iter();
        let place = operands.position(|(name, _)| *name == operand);
        place.map_or(u32::MAX, |place| place as u32)
    }
}
