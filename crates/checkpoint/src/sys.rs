//! Calls that the standard library does not have: free space, preallocation, the exchange of two names, large pages.
#![expect(
    unsafe_code,
    reason = "statvfs, fallocate, renameat2 and madvise have no safe form in std"
)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes that this user may still write on the file system of `path`.
pub(crate) fn free_bytes(path: &Path) -> io::Result<u64> {
    let path = c_path(path)?;
    let mut answer = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` is a C string that outlives the call and `answer` has the size that the call fills.
    let status = unsafe { libc::statvfs(path.as_ptr(), answer.as_mut_ptr()) };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call returned 0, so it has filled the whole structure.
    let answer = unsafe { answer.assume_init() };
    #[allow(
        clippy::unnecessary_cast,
        reason = "the fields are narrower on other systems"
    )]
    Ok((answer.f_bavail as u64).saturating_mul(answer.f_frsize as u64))
}

/// Gives `file` the length `bytes` and, where the file system can, the disk blocks for it,
/// so that a full disk shows now and not after hours.
pub(crate) fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if let Ok(length @ 1..) = libc::off_t::try_from(bytes) {
        // SAFETY: the descriptor is open for as long as `file` is borrowed; the call has no pointers.
        let status = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) };
        if status != 0 {
            let error = io::Error::last_os_error();
            if !matches!(
                error.raw_os_error(),
                Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL)
            ) {
                return Err(error);
            }
        }
    }
    file.set_len(bytes)
}

/// Exchanges two names in one step; `false` where the system or the file system cannot.
pub(crate) fn exchange(a: &Path, b: &Path) -> io::Result<bool> {
    #[cfg(target_os = "linux")]
    {
        let (a, b) = (c_path(a)?, c_path(b)?);
        // SAFETY: both are C strings that outlive the call.
        let status = unsafe {
            libc::renameat2(
                libc::AT_FDCWD,
                a.as_ptr(),
                libc::AT_FDCWD,
                b.as_ptr(),
                libc::RENAME_EXCHANGE,
            )
        };
        if status == 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP) => Ok(false),
            _ => Err(error),
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (a, b);
        Ok(false)
    }
}

/// Asks for large pages for memory that is about to be filled: fewer page faults now, fewer misses when it is multiplied.
/// A hint: where the system refuses, nothing changes.
pub(crate) fn prefer_large_pages<T>(memory: &mut [T]) {
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 1 << 21;
        let (start, bytes) = (memory.as_mut_ptr().cast::<u8>(), size_of_val(memory));
        let skip = start.align_offset(PAGE);
        let whole = bytes.saturating_sub(skip) / PAGE * PAGE;
        if whole > 0 {
            // SAFETY: the range lies inside `memory`, which is borrowed exclusively, starts at a page and is whole pages;
            // this advice changes how memory is backed and never what it holds.
            unsafe { libc::madvise(start.add(skip).cast(), whole, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_directories_change_names_in_one_step() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::create_dir(&a).unwrap();
        std::fs::create_dir(&b).unwrap();
        std::fs::write(a.join("old"), "").unwrap();
        if exchange(&a, &b).unwrap() {
            assert!(b.join("old").exists());
            assert!(!a.join("old").exists());
        }
    }

    #[test]
    fn a_file_is_allocated_at_its_full_length() {
        let file = tempfile::tempfile().unwrap();
        allocate(&file, 12_345).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 12_345);
        allocate(&file, 0).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 0);
    }

    #[test]
    fn free_space_is_known() {
        assert!(free_bytes(&std::env::temp_dir()).unwrap() > 0);
        assert!(free_bytes(Path::new("/no/such/place")).is_err());
    }
}
