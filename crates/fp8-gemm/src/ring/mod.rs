//! The ring of slots in shared memory: who waits for what, who arrives where.
//!
//! Blocks of a cluster each have a ring. Each brings its share of every slot to all of them, so a slot is given back to all.
//!
//! A [`Ring`] is a table. [`Ring::header`] writes it as macros, which are all that the kernels know of barriers; [`interpret`]
//! runs the same table on the CPU. So a table that is wrong is wrong in both, and is found without a GPU.

mod interpret;

use std::fmt::Write as _;

pub use interpret::{Fault, interpret};

/// A barrier of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Barrier {
    /// Its phase ends when the slot's bytes are there.
    Full,
    /// Its phase ends when everybody has read the slot.
    Empty,
}

/// What a role does to one slot, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Waits until the phase of the ring's parity has ended; of the other parity if `flipped`.
    Wait {
        /// Which barrier of the slot.
        barrier: Barrier,
        /// Whether the parity is exchanged, so that the first round does not wait.
        flipped: bool,
    },
    /// Arrives at `Full` of its own block and says how many bytes will come, from all blocks.
    Expect,
    /// Starts the copies to every block of the cluster; their bytes arrive at each one's `Full` some time later. With [`Ring::early`] those
    /// of W; the tokens follow.
    Copy,
    /// Reads the slot, and has read it when the step ends.
    Read,
    /// Arrives, once a warp, in every block of the cluster.
    Arrive(Barrier),
    /// Goes on to the next slot; after the last one to the first, with the other parity.
    Next,
}

/// Slots, arrivals, and the steps of both roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    /// Slots.
    pub stages: u32,
    /// Warps of a block that read; each arrives once a slot.
    pub consumers: u32,
    /// Blocks of a cluster.
    pub cluster: u32,
    /// How many slots at most get W before the first of them gets its tokens, for which the kernel in front has to end; 0 where both come
    /// together. From then on tokens follow W at once.
    pub early: u32,
    /// Arrivals that end a phase of `Full`, beside the bytes.
    pub full_arrivals: u32,
    /// Arrivals that end a phase of `Empty`.
    pub empty_arrivals: u32,
    /// What the thread that brings slots does.
    pub producer: Vec<Step>,
    /// What each warp that multiplies does.
    pub consumer: Vec<Step>,
}

impl Ring {
    /// The same, with as much W ahead of the tokens as it holds.
    #[must_use]
    pub fn with_early(self) -> Self {
        Self {
            early: self.stages,
            ..self
        }
    }

    /// The ring of the kernels.
    pub fn new(stages: u32, consumers: u32, cluster: u32) -> Self {
        let wait = |barrier, flipped| Step::Wait { barrier, flipped };
        Self {
            stages,
            consumers,
            cluster,
            early: 0,
            full_arrivals: 1,
            empty_arrivals: consumers * cluster,
            producer: vec![
                // An empty ring has nothing to wait for: the phase before the first counts as ended.
                wait(Barrier::Empty, true),
                Step::Expect,
                Step::Copy,
                Step::Next,
            ],
            consumer: vec![
                wait(Barrier::Full, false),
                Step::Read,
                Step::Arrive(Barrier::Empty),
                Step::Next,
            ],
        }
    }

    /// Copies that fill a slot: one of each block of the cluster, or of each operand.
    pub fn copies(&self) -> usize {
        if self.early > 0 {
            2
        } else {
            self.cluster as usize
        }
    }

    /// The table as macros of the kernels, over a variable `r` of their `Ring` and, for the consumer, `lane`.
    pub fn header(&self) -> String {
        let before = |steps: &[Step], at: Step| -> Vec<Step> {
            let steps = steps.iter().copied();
            steps.take_while(|&step| step != at).collect()
        };
        let after = |steps: &[Step], at: Step| -> Vec<Step> {
            let steps = steps.iter().copied();
            steps.skip_while(|&step| step != at).skip(1).collect()
        };
        let mut give = after(&self.consumer, Step::Read);
        let at = give.iter().position(|&step| step == Step::Next);
        let next = give.split_off(at.unwrap_or(give.len()));
        let macros = [
            ("PRODUCER_BEFORE(bytes)", before(&self.producer, Step::Copy)),
            ("PRODUCER_AFTER", after(&self.producer, Step::Copy)),
            ("CONSUMER_BEFORE", before(&self.consumer, Step::Read)),
            ("CONSUMER_GIVE", give),
            ("CONSUMER_NEXT", next),
        ];
        let mut text = format!(
            "#define STAGES {}u\n#define CLUSTER {}u\n#define EARLY {}u\n#define FULL_ARRIVALS {}u\n#define EMPTY_ARRIVALS {}u\n",
            self.stages, self.cluster, self.early, self.full_arrivals, self.empty_arrivals
        );
        for (name, steps) in macros {
            let body: Vec<&str> = steps.iter().map(|step| step.text(self.cluster)).collect();
            let _ = writeln!(text, "#define {name} {{ {} }}", body.join(" "));
        }
        text
    }
}

impl Step {
    /// The step in the kernels' language.
    fn text(self, cluster: u32) -> &'static str {
        use Barrier::{Empty, Full};
        match self {
            // All lanes have read what they read by themselves; then a lane a block.
            Self::Arrive(Empty) if cluster > 1 => {
                "__syncwarp(); if (lane < CLUSTER) mb_arrive_at(r.empty + 8 * r.stage, lane);"
            }
            Self::Arrive(Full) if cluster > 1 => {
                "__syncwarp(); if (lane < CLUSTER) mb_arrive_at(r.full + 8 * r.stage, lane);"
            }
            Self::Wait {
                barrier: Full,
                flipped: false,
            } => "mb_wait(r.full + 8 * r.stage, r.phase);",
            Self::Wait {
                barrier: Full,
                flipped: true,
            } => "mb_wait(r.full + 8 * r.stage, r.phase ^ 1);",
            Self::Wait {
                barrier: Empty,
                flipped: false,
            } => "mb_wait(r.empty + 8 * r.stage, r.phase);",
            Self::Wait {
                barrier: Empty,
                flipped: true,
            } => "mb_wait(r.empty + 8 * r.stage, r.phase ^ 1);",
            Self::Expect => "mb_expect(r.full + 8 * r.stage, bytes);",
            Self::Arrive(Empty) => "__syncwarp(); if (lane == 0) mb_arrive(r.empty + 8 * r.stage);",
            Self::Arrive(Full) => "__syncwarp(); if (lane == 0) mb_arrive(r.full + 8 * r.stage);",
            Self::Next => "if (++r.stage == STAGES) { r.stage = 0; r.phase ^= 1; }",
            Self::Copy | Self::Read => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_macros_are_the_table() {
        let header = Ring::new(6, 8, 1).header();
        for line in [
            "#define STAGES 6u",
            "#define CLUSTER 1u",
            "#define EMPTY_ARRIVALS 8u",
            "#define PRODUCER_BEFORE(bytes) { mb_wait(r.empty + 8 * r.stage, r.phase ^ 1); mb_expect(r.full + 8 * r.stage, bytes); }",
            "#define CONSUMER_BEFORE { mb_wait(r.full + 8 * r.stage, r.phase); }",
        ] {
            assert!(header.lines().any(|found| found == line), "{header}");
        }
    }
}
