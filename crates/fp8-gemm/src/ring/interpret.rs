//! The ring run on the CPU, in every order that the hardware could choose.

use std::collections::HashSet;

use super::{Barrier, Ring, Step};

/// What is wrong with a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Nobody can go on, and not everybody has ended.
    Deadlock,
    /// More arrivals than a phase has, or bytes for a phase that has ended.
    TooManyArrivals,
    /// A slot was written while somebody had still to read it, or was read before its bytes were there.
    Race,
    /// Somebody ended, and copies were still under way.
    LeftOver,
}

/// Runs the ring over so many slots in every possible order of steps and of arriving copies.
///
/// The number of states grows with stages, consumers, blocks and slots; 3 stages, 2 consumers and 8 slots show every fault of one
/// block, because a role sees no more of the ring than its parity; 2 stages, 1 consumer and 4 slots those of two.
///
/// # Errors
/// The first fault that some order meets.
pub fn interpret(ring: &Ring, slots: u32) -> Result<usize, Fault> {
    let first = State::new(ring);
    let mut seen = HashSet::from([first.clone()]);
    let mut open = vec![first];
    while let Some(state) = open.pop() {
        let nexts = state.nexts(ring, slots)?;
        if nexts.is_empty() {
            state.check_end(slots)?;
        }
        for next in nexts {
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    Ok(seen.len())
}

/// An mbarrier: the parity of the phase that runs, and what it lacks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Mbarrier {
    parity: bool,
    arrivals: u32,
    copies: i32,
}

/// One role's place: its step, its slot of the ring, its parity, and how many slots it has done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    step: usize,
    stage: usize,
    parity: bool,
    done: u32,
    /// Of these slots, those whose tokens were brought too, and whether the kernel in front has ended.
    behind: u32,
    waited: bool,
}

/// What a copy brings of a slot, a block's share of it or, with [`Ring::early`], one operand: which content it has, whether it is being written, and how many have still to read it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Share {
    content: Option<u32>,
    arriving: bool,
    unread: u32,
}

/// A block of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Block {
    full: Vec<Mbarrier>,
    empty: Vec<Mbarrier>,
    /// Of every slot, what every copy brings.
    slots: Vec<Vec<Share>>,
    /// The producer first.
    roles: Vec<Place>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    blocks: Vec<Block>,
}

impl State {
    fn new(ring: &Ring) -> Self {
        let stages = ring.stages as usize;
        let barrier = |arrivals| Mbarrier {
            parity: false,
            arrivals,
            copies: 0,
        };
        let share = Share {
            content: None,
            arriving: false,
            unread: 0,
        };
        let place = Place {
            step: 0,
            stage: 0,
            parity: false,
            done: 0,
            behind: 0,
            waited: false,
        };
        let block = Block {
            full: vec![barrier(ring.full_arrivals); stages],
            empty: vec![barrier(ring.empty_arrivals); stages],
            slots: vec![vec![share; ring.copies()]; stages],
            roles: vec![place; ring.consumers as usize + 1],
        };
        Self {
            blocks: vec![block; ring.cluster as usize],
        }
    }

    /// Every state that one step of one role, or one copy that arrives, leads to.
    fn nexts(&self, ring: &Ring, slots: u32) -> Result<Vec<Self>, Fault> {
        let mut all = Vec::new();
        for (at, block) in self.blocks.iter().enumerate() {
            for role in 0..block.roles.len() {
                all.extend(self.after_step(ring, slots, (at, role))?);
            }
            for (stage, shares) in block.slots.iter().enumerate() {
                for (from, _) in shares.iter().enumerate().filter(|(_, s)| s.arriving) {
                    let mut next = self.clone();
                    let block = &mut next.blocks[at];
                    block.slots[stage][from].arriving = false;
                    block.full[stage].copies -= 1;
                    block.full[stage].end_phase(ring.full_arrivals);
                    all.push(next);
                }
            }
        }
        Ok(all)
    }

    /// The state after the next step of a block's role; nothing if it waits or has ended.
    fn after_step(
        &self,
        ring: &Ring,
        slots: u32,
        (at, role): (usize, usize),
    ) -> Result<Option<Self>, Fault> {
        let steps = if role == 0 {
            &ring.producer
        } else {
            &ring.consumer
        };
        let place = &self.blocks[at].roles[role];
        if role == 0 && self.tokens_are_due(ring, slots, at) {
            let mut next = self.clone();
            let (stage, content) = (place.behind % ring.stages, place.behind);
            next.copy(ring, (at, 1), stage as usize, content)?;
            let place = &mut next.blocks[at].roles[0];
            (place.behind, place.waited) = (place.behind + 1, true);
            return Ok(Some(next));
        }
        if place.done == slots {
            return Ok(None);
        }
        let (stage, content) = (place.stage, place.done);
        let mut next = self.clone();
        match steps[place.step] {
            Step::Wait { barrier, flipped } => {
                let barriers = match barrier {
                    Barrier::Full => &self.blocks[at].full,
                    Barrier::Empty => &self.blocks[at].empty,
                };
                // A phase has ended if the one that runs has the other parity.
                if barriers[stage].parity == (place.parity ^ flipped) {
                    return Ok(None);
                }
            }
            Step::Expect => {
                let full = &mut next.blocks[at].full[stage];
                full.copies += ring.copies() as i32;
                full.arrive(ring.full_arrivals)?;
            }
            Step::Copy => {
                let share = if ring.early > 0 { 0 } else { at };
                next.copy(ring, (at, share), stage, content)?;
            }
            Step::Read => {
                for share in &mut next.blocks[at].slots[stage] {
                    if share.content != Some(content) || share.arriving || share.unread == 0 {
                        return Err(Fault::Race);
                    }
                    share.unread -= 1;
                }
            }
            Step::Arrive(barrier) => {
                for block in &mut next.blocks {
                    match barrier {
                        Barrier::Full => block.full[stage].arrive(ring.full_arrivals)?,
                        Barrier::Empty => block.empty[stage].arrive(ring.empty_arrivals)?,
                    }
                }
            }
            Step::Next => {
                let place = &mut next.blocks[at].roles[role];
                place.stage = (stage + 1) % ring.stages as usize;
                place.parity ^= place.stage == 0;
            }
        }
        let place = &mut next.blocks[at].roles[role];
        place.step += 1;
        if place.step == steps.len() {
            place.step = 0;
            place.done += 1;
        }
        Ok(Some(next))
    }

    /// Whether the thread that brings slots, which has just brought W, brings tokens before more of it.
    fn tokens_are_due(&self, ring: &Ring, slots: u32, at: usize) -> bool {
        let place = &self.blocks[at].roles[0];
        let ahead = place.done - place.behind;
        let full = place.waited || place.done == slots || ahead >= ring.early;
        ring.early > 0 && place.step == 0 && ahead > 0 && full
    }

    /// Starts a block's copies of a share of a slot: to all blocks, which are one where operands come by themselves.
    fn copy(
        &mut self,
        ring: &Ring,
        (at, share): (usize, usize),
        stage: usize,
        content: u32,
    ) -> Result<(), Fault> {
        debug_assert!(ring.early == 0 || (at, self.blocks.len()) == (0, 1));
        for block in &mut self.blocks {
            let share = &mut block.slots[stage][share];
            if share.unread > 0 || share.arriving {
                return Err(Fault::Race);
            }
            *share = Share {
                content: Some(content),
                arriving: true,
                unread: ring.consumers,
            };
        }
        Ok(())
    }

    fn check_end(&self, slots: u32) -> Result<(), Fault> {
        let mut roles = self.blocks.iter().flat_map(|block| &block.roles);
        if roles.any(|place| place.done < slots) {
            return Err(Fault::Deadlock);
        }
        let mut shares = self
            .blocks
            .iter()
            .flat_map(|block| block.slots.iter().flatten());
        let left = shares.any(|share| share.unread > 0);
        if left { Err(Fault::LeftOver) } else { Ok(()) }
    }
}

impl Mbarrier {
    fn arrive(&mut self, count: u32) -> Result<(), Fault> {
        if self.arrivals == 0 {
            return Err(Fault::TooManyArrivals);
        }
        self.arrivals -= 1;
        self.end_phase(count);
        Ok(())
    }

    fn end_phase(&mut self, count: u32) {
        if self.arrivals == 0 && self.copies == 0 {
            self.parity = !self.parity;
            self.arrivals = count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> Ring {
        Ring::new(3, 2, 1)
    }

    /// Two blocks that share their slots.
    fn pair() -> Ring {
        Ring::new(2, 1, 2)
    }

    #[test]
    fn the_ring_of_the_kernels_has_no_fault_in_any_order() {
        for (stages, consumers, cluster, slots) in [
            (1, 1, 1, 5),
            (2, 1, 1, 9),
            (2, 2, 1, 7),
            (3, 2, 1, 8),
            (4, 2, 1, 9),
            (3, 3, 1, 7),
            (1, 1, 2, 3),
            (2, 1, 2, 5),
            (2, 2, 2, 3),
        ] {
            let states = interpret(&Ring::new(stages, consumers, cluster), slots);
            assert!(
                states.is_ok(),
                "{stages} {consumers} {cluster} {slots}: {states:?}"
            );
        }
    }

    #[test]
    fn a_phase_that_is_not_flipped_deadlocks_at_the_first_slot() {
        let mut ring = ring();
        ring.producer[0] = Step::Wait {
            barrier: Barrier::Empty,
            flipped: false,
        };
        assert_eq!(interpret(&ring, 8), Err(Fault::Deadlock));
    }

    #[test]
    fn a_consumer_that_does_not_wait_reads_what_is_not_there() {
        let mut ring = ring();
        ring.consumer.remove(0);
        assert_eq!(interpret(&ring, 8), Err(Fault::Race));
    }

    #[test]
    fn a_producer_that_does_not_wait_overwrites_what_is_not_read() {
        let mut ring = ring();
        ring.producer.remove(0);
        assert!(interpret(&ring, 8).is_err());
    }

    #[test]
    fn too_few_and_too_many_arrivals_are_found() {
        for arrivals in [1, 3] {
            let mut ring = ring();
            ring.empty_arrivals = arrivals;
            assert!(interpret(&ring, 8).is_err(), "{arrivals}");
            let mut ring = self::ring();
            ring.full_arrivals = arrivals + 1;
            assert!(interpret(&ring, 8).is_err(), "{arrivals}");
        }
    }

    #[test]
    fn a_slot_that_is_given_back_before_it_is_read_is_a_race() {
        let mut ring = ring();
        ring.consumer.swap(1, 2);
        assert_eq!(interpret(&ring, 8), Err(Fault::Race));
    }

    #[test]
    fn every_step_is_needed() {
        for (whole, slots) in [(ring(), 8), (ring().with_early(), 8), (pair(), 4)] {
            for at in 0..whole.producer.len() {
                let mut ring = whole.clone();
                ring.producer.remove(at);
                assert!(
                    interpret(&ring, slots).is_err(),
                    "producer without {:?}",
                    whole.producer[at]
                );
            }
            for at in 0..whole.consumer.len() {
                let mut ring = whole.clone();
                ring.consumer.remove(at);
                assert!(
                    interpret(&ring, slots).is_err(),
                    "consumer without {:?}",
                    whole.consumer[at]
                );
            }
        }
    }

    #[test]
    fn w_may_be_ahead_of_its_tokens_by_a_whole_ring_and_no_more() {
        for (stages, consumers, slots) in [(1, 1, 4), (2, 1, 7), (2, 2, 6), (3, 2, 7), (4, 1, 3)] {
            let ring = Ring::new(stages, consumers, 1).with_early();
            assert_eq!(interpret(&ring, slots).err(), None, "{ring:?}");
            let more = Ring {
                early: stages + 1,
                ..ring
            };
            let expected = (slots > stages).then_some(Fault::Deadlock);
            assert_eq!(interpret(&more, slots).err(), expected, "{more:?}");
        }
    }

    #[test]
    fn a_producer_that_waits_for_its_own_block_alone_is_found() {
        let mut ring = pair();
        ring.empty_arrivals = ring.consumers;
        assert!(interpret(&ring, 4).is_err());
    }
}
