//! What a process has used.

/// CPU seconds of the process, user and system.
pub fn cpu_seconds() -> f64 {
    let usage = usage();
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 * 1e-6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// CPU seconds of another process, user and system, with those of its threads that have ended.
///
/// # Errors
/// There is no such process.
#[expect(unsafe_code, reason = "a clock of a process has no safe wrapper here")]
pub fn cpu_seconds_of(process: u32) -> std::io::Result<f64> {
    let process = libc::pid_t::try_from(process).map_err(std::io::Error::other)?;
    let mut clock = 0;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: both calls write only to the value behind the pointer that they are given.
    let found = unsafe {
        libc::clock_getcpuclockid(process, &raw mut clock) == 0
            && libc::clock_gettime(clock, &raw mut time) == 0
    };
    if !found {
        return Err(std::io::ErrorKind::NotFound.into());
    }
    Ok(time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_this_process_is_what_it_has_used() {
        let before = cpu_seconds_of(std::process::id()).expect("is there");
        let own = cpu_seconds();
        let after = cpu_seconds_of(std::process::id()).expect("is there");
        assert!(before <= own + 0.02 && own <= after + 0.02);
    }
}
