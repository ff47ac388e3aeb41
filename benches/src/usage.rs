//! What a process has used.

/// CPU seconds of the process, user and system.
pub fn cpu_seconds() -> f64 {
    let usage = usage();
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 * 1e-6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// The largest resident set of the process, in MiB.
pub fn peak_rss_mib() -> f64 {
    usage().ru_maxrss as f64 / 1024.0
}

#[expect(unsafe_code, reason = "a system call without a safe wrapper here")]
fn usage() -> libc::rusage {
    // SAFETY: the structure is plain numbers, for which all bits zero are valid, and the call writes only there.
    unsafe {
        let mut usage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    }
}

/// Wall and CPU seconds of each repetition.
#[derive(Debug, Default)]
pub struct Times {
    /// Wall seconds.
    pub wall: Vec<f64>,
    /// CPU seconds of the whole process.
    pub cpu: Vec<f64>,
}

impl Times {
    /// Runs `work` once and notes what it took.
    pub fn measure<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (wall, cpu) = (std::time::Instant::now(), cpu_seconds());
        let result = work();
        self.wall.push(wall.elapsed().as_secs_f64());
        self.cpu.push(cpu_seconds() - cpu);
        result
    }
}

/// The smallest of some seconds; infinite if there are none.
pub fn shortest(times: &[f64]) -> f64 {
    times.iter().copied().fold(f64::INFINITY, f64::min)
}
