//! How a kernel is started.

use crate::{Error, Result, TensorMap};

/// Blocks or threads along x, y and z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dim(pub u32, pub u32, pub u32);

impl Dim {
    /// Along x only.
    pub const fn x(x: u32) -> Self {
        Self(x, 1, 1)
    }

    fn count(self) -> u64 {
        u64::from(self.0) * u64::from(self.1) * u64::from(self.2)
    }
}

/// Grid, block, cluster and attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Blocks.
    pub grid: Dim,
    /// Threads of a block.
    pub block: Dim,
    /// Blocks of a cluster; 1 × 1 × 1 for none.
    pub cluster: Dim,
    /// Bytes of dynamic shared memory of a block.
    pub shared: u32,
    /// Whether it may begin before the kernel in front of it has ended (it waits with `griddepcontrol.wait`).
    pub overlap: bool,
}

/// Bytes of shared memory that a block may have on Hopper, of 228 KiB an SM.
pub const MOST_SHARED: u32 = 227 * 1024;

impl Launch {
    /// Whether the hardware can run it.
    ///
    /// # Errors
    /// [`Error::Launch`] with the first number that is out of range: 1 to 1024 threads, clusters of at most 8 blocks that
    /// divide the grid, at most 227 KiB of shared memory.
    pub fn check(&self) -> Result<()> {
        let within = |what, found, fits: bool, expected| {
            fits.then_some(()).ok_or(Error::Launch {
                what,
                found,
                expected,
            })
        };
        let (grid, block, cluster) = (self.grid.count(), self.block.count(), self.cluster.count());
        within("blocks", grid, grid > 0, "at least 1")?;
        let rows = u64::from(self.grid.1.max(self.grid.2));
        within(
            "blocks along y or z",
            rows,
            rows < 1 << 16,
            "less than 65536",
        )?;
        within("threads", block, (1..=1024).contains(&block), "1 to 1024")?;
        within(
            "blocks of a cluster",
            cluster,
            (1..=8).contains(&cluster),
            "1 to 8",
        )?;
        let divided = self.grid.0.is_multiple_of(self.cluster.0)
            && self.grid.1.is_multiple_of(self.cluster.1)
            && self.grid.2.is_multiple_of(self.cluster.2);
        within("blocks", grid, divided, "whole clusters")?;
        within(
            "bytes of shared memory",
            self.shared.into(),
            self.shared <= MOST_SHARED,
            "at most 232448",
        )
    }
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub enum Arg {
    /// `u32`.
    U32(u32),
    /// Any pointer to device memory; 0 for none.
    Pointer(u64),
    /// `const __grid_constant__` of 128 bytes.
    Map(TensorMap),
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAUNCH: Launch = Launch {
        grid: Dim(80, 4, 1),
        block: Dim::x(384),
        cluster: Dim(1, 4, 1),
        shared: 232_448,
        overlap: false,
    };

    #[test]
    fn a_cluster_along_the_split_is_right() {
        LAUNCH.check().expect("right");
    }

    #[test]
    fn what_the_hardware_cannot_run_is_refused() {
        let wrong = [
            Launch {
                block: Dim::x(1056),
                ..LAUNCH
            },
            Launch {
                cluster: Dim(1, 3, 1),
                ..LAUNCH
            },
            Launch {
                cluster: Dim(16, 1, 1),
                ..LAUNCH
            },
            Launch {
                shared: 232_449,
                ..LAUNCH
            },
            Launch {
                grid: Dim(0, 1, 1),
                ..LAUNCH
            },
            Launch {
                grid: Dim(1, 1 << 16, 1),
                ..LAUNCH
            },
        ];
        for launch in wrong {
            assert!(launch.check().is_err(), "{launch:?}");
        }
    }
}
