//! Cache lines to ask for ahead of time.

/// Addresses of cache lines that will be packed soon.
///
/// Packing a rectangle from main memory would stall the kernels, so the products ask a [`Source`](crate::Source) which lines
/// come next and the kernels prefetch them between their multiply-adds. Lines beyond the capacity are dropped.
#[derive(Debug)]
pub struct Lines {
    addresses: [*const i8; Lines::CAPACITY],
    len: usize,
}

impl Lines {
    /// Lines that one kernel call can ask for.
    pub(crate) const CAPACITY: usize = 256;

    pub(crate) fn new() -> Self {
        Self {
            addresses: [std::ptr::null(); Self::CAPACITY],
            len: 0,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// Adds the lines of a slice.
    #[inline]
    pub fn push<T>(&mut self, slice: &[T]) {
        const LINE: usize = 64;
        let start = slice.as_ptr().cast::<i8>();
        let lines = size_of_val(slice)
            .div_ceil(LINE)
            .min(Self::CAPACITY - self.len);
        for (i, address) in self.addresses[self.len..][..lines].iter_mut().enumerate() {
            *address = start.wrapping_add(i * LINE);
        }
        self.len += lines;
    }

    /// The addresses, which nobody may read from.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub(crate) fn addresses(&self) -> &[*const i8] {
        &self.addresses[..self.len]
    }
}
