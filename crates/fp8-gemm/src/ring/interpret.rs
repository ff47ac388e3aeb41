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
/// The number of states grows with stages, consumers and slots; 3 stages, 2 consumers and 8 slots show every fault there is,
/// because a role sees no more of the ring than its parity.
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
}

/// One slot: which content it has, whether it is being written, and who has still to read it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Slot {
    content: Option<u32>,
    arriving: bool,
    unread: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    full: Vec<Mbarrier>,
    empty: Vec<Mbarrier>,
    slots: Vec<Slot>,
    /// The producer first.
    roles: Vec<Place>,
}

impl State {
    fn new(ring: &Ring) -> Self {
        let stages = ring.stages as usize;
        let barrier = |arrivals| Mbarrier {
            parity: false,
            arrivals,
            copies: 0,
        };
        let slot = Slot {
            content: None,
            arriving: false,
            unread: 0,
        };
        let place = Place {
            step: 0,
            stage: 0,
            parity: false,
            done: 0,
        };
        Self {
            full: vec![barrier(ring.full_arrivals); stages],
            empty: vec![barrier(ring.empty_arrivals); stages],
            slots: vec![slot; stages],
            roles: vec![place; ring.consumers as usize + 1],
        }
    }

    /// Every state that one step of one role, or one copy that arrives, leads to.
    fn nexts(&self, ring: &Ring, slots: u32) -> Result<Vec<Self>, Fault> {
        let mut all = Vec::new();
        for role in 0..self.roles.len() {
            all.extend(self.after_step(ring, slots, role)?);
        }
        for stage in 0..self.slots.len() {
            if self.slots[stage].arriving {
                let mut next = self.clone();
                next.slots[stage].arriving = false;
                next.full[stage].copies -= 1;
                next.full[stage].end_phase(ring.full_arrivals);
                all.push(next);
            }
        }
        Ok(all)
    }

    /// The state after a role's next step; nothing if it waits or has ended.
    fn after_step(&self, ring: &Ring, slots: u32, role: usize) -> Result<Option<Self>, Fault> {
        let steps = if role == 0 {
            &ring.producer
        } else {
            &ring.consumer
        };
        let place = &self.roles[role];
        if place.done == slots {
            return Ok(None);
        }
        let (stage, content) = (place.stage, place.done);
        let mut next = self.clone();
        match steps[place.step] {
            Step::Wait { barrier, flipped } => {
                let barriers = match barrier {
                    Barrier::Full => &self.full,
                    Barrier::Empty => &self.empty,
                };
                // A phase has ended if the one that runs has the other parity.
                if barriers[stage].parity == (place.parity ^ flipped) {
                    return Ok(None);
                }
            }
            Step::Expect => {
                next.full[stage].copies += 1;
                next.full[stage].arrive(ring.full_arrivals)?;
            }
            Step::Copy => {
                let slot = &mut next.slots[stage];
                if slot.unread > 0 || slot.arriving {
                    return Err(Fault::Race);
                }
                *slot = Slot {
                    content: Some(content),
                    arriving: true,
                    unread: ring.consumers,
                };
            }
            Step::Read => {
                let slot = &mut next.slots[stage];
                if slot.content != Some(content) || slot.arriving || slot.unread == 0 {
                    return Err(Fault::Race);
                }
                slot.unread -= 1;
            }
            Step::Arrive(Barrier::Full) => next.full[stage].arrive(ring.full_arrivals)?,
            Step::Arrive(Barrier::Empty) => next.empty[stage].arrive(ring.empty_arrivals)?,
            Step::Next => {
                let place = &mut next.roles[role];
                place.stage = (stage + 1) % self.slots.len();
                place.parity ^= place.stage == 0;
            }
        }
        let place = &mut next.roles[role];
        place.step += 1;
        if place.step == steps.len() {
            place.step = 0;
            place.done += 1;
        }
        Ok(Some(next))
    }

    fn check_end(&self, slots: u32) -> Result<(), Fault> {
        if self.roles.iter().any(|place| place.done < slots) {
            return Err(Fault::Deadlock);
        }
        let left = self.slots.iter().any(|slot| slot.unread > 0);
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
        Ring::new(3, 2)
    }

    #[test]
    fn the_ring_of_the_kernels_has_no_fault_in_any_order() {
        for (stages, consumers, slots) in [
            (1, 1, 5),
            (2, 1, 9),
            (2, 2, 7),
            (3, 2, 8),
            (4, 2, 9),
            (3, 3, 7),
        ] {
            let states = interpret(&Ring::new(stages, consumers), slots);
            assert!(states.is_ok(), "{stages} {consumers} {slots}: {states:?}");
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
        let whole = ring();
        for at in 0..whole.producer.len() {
            let mut ring = whole.clone();
            ring.producer.remove(at);
            assert!(
                interpret(&ring, 8).is_err(),
                "producer without {:?}",
                whole.producer[at]
            );
        }
        for at in 0..whole.consumer.len() {
            let mut ring = whole.clone();
            ring.consumer.remove(at);
            assert!(
                interpret(&ring, 8).is_err(),
                "consumer without {:?}",
                whole.consumer[at]
            );
        }
    }
}
