//! What a kernel takes of a multiprocessor.

use xgraft_cuda_jit::MOST_SHARED;

use super::Tile;

/// Registers of a multiprocessor.
pub const REGISTERS: u32 = 65_536;

/// Threads, registers and shared memory of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Threads.
    pub threads: u32,
    /// Bytes of dynamic shared memory.
    pub shared: u32,
    /// Registers of a thread that brings slots, after it has given up the rest; 0 where registers stay as they are.
    pub producer_registers: u32,
    /// Registers of a thread that multiplies.
    pub math_registers: u32,
}

impl Resources {
    /// Of a kernel that turns a ring, with the scales of so many tokens in a slot.
    pub(crate) const fn of_ring(tile: Tile, scales: u32) -> Self {
        // TMA writes to multiples of 128 bytes.
        let scales = if scales * 4 < 128 { 128 } else { scales * 4 };
        let slot = (tile.rows_a + tile.rows_b) * 128 + scales;
        Self {
            threads: (tile.groups + 1) * 128,
            // And two barriers of 8 bytes a slot, and a flag.
            shared: tile.stages * (slot + 16) + 16,
            producer_registers: 40,
            math_registers: match tile.groups {
                1 => 248,
                2 => 232,
                3 => 152,
                // More is not made; the gate's planted kernels are, and must be found out.
                _ => 152,
            },
        }
    }

    pub(crate) const fn without_ring(threads: u32) -> Self {
        Self {
            threads,
            shared: 0,
            producer_registers: 0,
            math_registers: 0,
        }
    }

    /// Registers of all warp-groups together.
    pub const fn pool(&self) -> u32 {
        let groups = self.threads / 128 - 1;
        match self.math_registers {
            0 => 0,
            math => 128 * (groups * math + self.producer_registers),
        }
    }

    /// What the hardware cannot give: setmaxnreg would wait for ever for registers that there are not.
    pub fn fault(&self) -> Option<String> {
        if self.pool() > REGISTERS {
            return Some(format!(
                "the warp-groups take {} registers of {REGISTERS}",
                self.pool()
            ));
        }
        if self.shared > MOST_SHARED {
            return Some(format!(
                "{} bytes of shared memory of {MOST_SHARED}",
                self.shared
            ));
        }
        None
    }
}
