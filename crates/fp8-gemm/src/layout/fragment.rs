//! Which elements of a result a thread holds.

/// The place of a register of a wgmma of 64 rows in its result.
///
/// **Source** PTX ISA, "Accumulator D" of `wgmma.mma_async.m64nNk32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// 0 to 63.
    pub row: u32,
    /// 0 to N − 1.
    pub col: u32,
}

impl Fragment {
    /// Of a thread of the warp-group (0 to 127) and one of its N / 2 registers.
    pub const fn of(thread: u32, register: u32) -> Self {
        let (warp, lane) = (thread / 32, thread % 32);
        Self {
            row: warp * 16 + lane / 4 + register / 2 % 2 * 8,
            col: register / 4 * 8 + lane % 4 * 2 + register % 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_element_has_exactly_one_register() {
        for n in [8, 16, 32, 64, 128] {
            let all: HashSet<Fragment> = (0..128)
                .flat_map(|thread| (0..n / 2).map(move |register| Fragment::of(thread, register)))
                .collect();
            assert_eq!(all.len() as u32, 64 * n);
            assert!(all.iter().all(|at| at.row < 64 && at.col < n));
        }
    }
}
