//! The kernels for another language: C functions, requests as JSON, operands as addresses.
//!
//! One process times our kernels and others' by turns on one stream, with one timer. That process is Python, where the others live.
//! A string that is returned is valid until the next call on its thread.
#![expect(
    unsafe_code,
    reason = "functions that C calls, and operands that only the caller knows"
)]

mod request;

use std::{
    cell::RefCell,
    ffi::{CStr, CString, c_char},
    ptr,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result};
use xgraft_cuda_jit::{Device, Jit, Shipped};
use xgraft_fp8_gemm::{
    cuda::{Cuda, Prepared},
    plan::Table,
};

/// A GPU, its kernels, and what was prepared.
#[derive(Debug)]
pub struct Handle {
    cuda: Cuda,
    table: Table,
    prepared: Mutex<Vec<Prepared>>,
}

thread_local! {
    static SAID: RefCell<CString> = RefCell::default();
}

/// Keeps a text for the caller.
fn say(text: &str) -> *const c_char {
    SAID.with_borrow_mut(|said| {
        *said = CString::new(text.replace('\0', " ")).unwrap_or_default();
        said.as_ptr()
    })
}

/// The value, or what went wrong, kept for [`xg_error`].
fn or_said<T>(result: Result<T>) -> Option<T> {
    result.map_err(|error| say(&format!("{error:#}"))).ok()
}

/// # Safety
/// A text that ends in NUL, or null.
unsafe fn text<'a>(text: *const c_char) -> Result<&'a str> {
    anyhow::ensure!(!text.is_null(), "a null pointer in place of a text");
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }
        .to_str()
        .context("a text that is not UTF-8")
}

/// What went wrong in the last call on this thread that failed.
#[unsafe(no_mangle)]
pub extern "C" fn xg_error() -> *const c_char {
    SAID.with_borrow(|said| said.as_ptr())
}

/// Opens a GPU on a stream of its primary context, with the images in a folder; null where that fails.
///
/// # Safety
/// `images` is a text that ends in NUL; the stream lives until [`xg_close`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xg_open(ordinal: u32, stream: u64, images: *const c_char) -> *mut Handle {
    let open = || {
        // SAFETY: the caller's promise.
        let images = Shipped::open(unsafe { text(images) }?)?;
        // SAFETY: the caller's promise.
        let device = unsafe { Device::open_on(ordinal, stream) }?;
        Ok(Handle {
            cuda: Cuda::new(device, Jit::new(Some(images), None)),
            table: Table::measured()?,
            prepared: Mutex::default(),
        })
    };
    or_said(open()).map_or(ptr::null_mut(), |handle| Box::into_raw(Box::new(handle)))
}

/// Ends what [`xg_open`] began.
///
/// # Safety
/// A handle of [`xg_open`] that was not closed, or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xg_close(handle: *mut Handle) {
    if !handle.is_null() {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(handle) });
    }
}

/// The likeliest ways to compute a product, as a JSON list; null where there is none.
///
/// # Safety
/// An open handle, and a text that ends in NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xg_candidates(
    handle: *const Handle,
    request: *const c_char,
) -> *const c_char {
    // SAFETY: the caller's promise.
    let (handle, request) = unsafe { (&*handle, text(request)) };
    let list = request.and_then(|text| request::candidates(&handle.cuda, &handle.table, text));
    or_said(list).map_or(ptr::null(), |list| say(&list))
}

/// Prepares a call, which may load its kernel; its number, or -1.
///
/// # Safety
/// An open handle, and a text that ends in NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xg_prepare(handle: *const Handle, request: *const c_char) -> i64 {
    // SAFETY: the caller's promise.
    let (handle, request) = unsafe { (&*handle, text(request)) };
    let prepared = request.and_then(|text| request::prepare(&handle.cuda, text));
    let Some(prepared) = or_said(prepared) else {
        return -1;
    };
    let mut all = handle
        .prepared
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    all.push(prepared);
    all.len() as i64 - 1
}

/// Starts what was prepared on the handle's stream; 0, or -1. It waits for nothing, so that a graph can be captured of it.
///
/// # Safety
/// An open handle; every operand of the call lives and is as long as its kernel reads and writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xg_launch(handle: *const Handle, prepared: i64) -> i32 {
    // SAFETY: the caller's promise.
    let handle = unsafe { &*handle };
    let all = handle
        .prepared
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let start = || {
        let call = usize::try_from(prepared).ok().and_then(|at| all.get(at));
        let call = call.with_context(|| format!("nothing was prepared as {prepared}"))?;
        // SAFETY: the caller's promise.
        unsafe { call.start() }?;
        Ok(())
    };
    or_said(start()).map_or(-1, |()| 0)
}
