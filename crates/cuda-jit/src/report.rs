//! What the assembler says of a kernel.

/// The assembler's account of a program, parsed from its log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// One entry a kernel, in the order of the log.
    pub kernels: Vec<Usage>,
    /// Lines that say that wgmma instructions wait for each other (C7510 to C7519), as they stand in the log.
    pub serialized: Vec<String>,
}

/// What one kernel takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Name of the kernel.
    pub name: String,
    /// Registers of a thread at launch.
    pub registers: u32,
    /// Bytes of stack of a thread.
    pub stack: u32,
    /// Bytes that a thread writes to memory for want of registers.
    pub spill_stores: u32,
    /// Bytes that a thread reads back.
    pub spill_loads: u32,
}

impl Report {
    /// Parses the log of a compilation to CUBIN. Lines of other kinds are passed over.
    pub fn parse(log: &str) -> Self {
        let mut report = Self::default();
        for line in log.lines() {
            if let Some(name) = quoted_after(line, "Compiling entry function") {
                report.kernels.push(Usage {
                    name: name.to_owned(),
                    ..Usage::default()
                });
            }
            if is_serialized(line) {
                report.serialized.push(line.trim().to_owned());
            }
            if let Some(kernel) = report.kernels.last_mut() {
                kernel.read(line);
            }
        }
        report
    }

    /// Bytes spilled by all kernels, written and read.
    pub fn spills(&self) -> u32 {
        let bytes = self.kernels.iter().map(|k| k.spill_stores + k.spill_loads);
        bytes.sum()
    }

    /// Bytes of stack of the kernel that has most.
    pub fn stack(&self) -> u32 {
        self.kernels.iter().map(|k| k.stack).max().unwrap_or(0)
    }

    /// Registers of the kernel that has most.
    pub fn registers(&self) -> u32 {
        self.kernels.iter().map(|k| k.registers).max().unwrap_or(0)
    }
}

impl Usage {
    fn read(&mut self, line: &str) {
        let set = |field: &mut u32, mark: &str| {
            if let Some(number) = number_before(line, mark) {
                *field = number;
            }
        };
        set(&mut self.stack, " bytes stack frame");
        set(&mut self.spill_stores, " bytes spill stores");
        set(&mut self.spill_loads, " bytes spill loads");
        set(&mut self.registers, " registers");
    }
}

/// C7510 and its neighbours are the assembler's warnings that it serialised wgmma.
fn is_serialized(line: &str) -> bool {
    let code = line.split("C75").nth(1).unwrap_or("");
    let coded = code.starts_with(|c: char| c.is_ascii_digit());
    coded || line.contains("wgmma") && line.contains("serializ")
}

fn quoted_after<'a>(line: &'a str, mark: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(mark)?;
    rest.split('\'').nth(1)
}

fn number_before(line: &str, mark: &str) -> Option<u32> {
    let (before, _) = line.split_once(mark)?;
    let digits = before.rfind(|c: char| !c.is_ascii_digit());
    before[digits.map_or(0, |at| at + 1)..].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'gemm' for 'sm_90a'
ptxas info    : Function properties for gemm
    16 bytes stack frame, 772 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 168 registers, used 1 barriers, 16 bytes cumulative stack size
ptxas info    : (C7512) Potential Performance Loss: wgmma.mma_async instructions are serialized due to x
ptxas info    : Compiling entry function 'small' for 'sm_90a'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, 384 bytes cmem[0]
";

    #[test]
    fn every_number_is_found_under_its_kernel() {
        let report = Report::parse(LOG);
        let gemm = Usage {
            name: "gemm".to_owned(),
            registers: 168,
            stack: 16,
            spill_stores: 772,
            spill_loads: 8,
        };
        assert_eq!(report.kernels[0], gemm);
        assert_eq!(report.kernels[1].registers, 8);
        assert_eq!(
            (report.spills(), report.stack(), report.registers()),
            (780, 16, 168)
        );
    }

    #[test]
    fn serialised_wgmma_is_seen_by_its_code_or_its_words() {
        assert_eq!(Report::parse(LOG).serialized.len(), 1);
        assert!(is_serialized("wgmma.mma_async instructions are serialized"));
        assert!(!is_serialized("C7 and C75 are keys"));
    }

    #[test]
    fn an_empty_log_is_an_empty_report() {
        assert_eq!(Report::parse(""), Report::default());
    }
}
