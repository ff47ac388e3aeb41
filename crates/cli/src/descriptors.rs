//! Open files: as many as the system lets a process have. Every connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a process needs beside its connections: logs, event loops, looks at the health of backends.
const RESERVE: u64 = 64;

/// Clients at once, however many files there may be: each takes memory too.
const MOST: u64 = 8192;

/// Raises the soft limit of open files to the hard one, and gives what then holds.
pub(crate) fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    match setrlimit(Resource::Nofile, all) {
        Ok(()) => maximum.unwrap_or(u64::MAX),
        Err(error) => {
            tracing::warn!(%error, "the limit of open files stays as it was");
            current.unwrap_or(u64::MAX)
        }
    }
}

/// The clients that so many files carry, if each takes so many.
pub(crate) fn clients(files: u64, each: u64) -> usize {
    let left = files - RESERVE.min(files / 2);
    usize::try_from((left / each).clamp(1, MOST)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_takes_its_files_and_some_are_kept_back() {
        let cases = [(64, 16), (256, 96), (1024, 480), (20_000, 8192), (2, 1)];
        for (files, expected) in cases {
            assert_eq!(clients(files, 2), expected, "{files}");
        }
        assert_eq!(clients(1024, 1), 960);
    }
}
