//! The scheduler step by step, on the test's own thread, with every invariant checked at each step.

use super::*;
use crate::engine::adapters::{AdapterVersion, Registry};
use crate::engine::double::{Script, ScriptedAdapter, ScriptedForward};
use crate::engine::gate::Gate;
use crate::engine::tests::{Output, prompt, random, request};
use crate::engine::{Event, Request, TopLogprobs};
use crate::sampling::mix;
use std::sync::Arc;
use tokio::sync::mpsc;

struct Harness {
    scheduler: Scheduler<ScriptedForward>,
    script: Script,
    gate: Arc<Gate>,
    registry: Registry<ScriptedAdapter>,
    /// What each step computed: tokens of decoding sequences, tokens of prompts.
    last: (usize, usize),
}

impl Harness {
    fn new(blocks: usize, config: EngineConfig) -> Self {
        config.validate().unwrap();
        let script = Script::new(blocks);
        let longest = blocks * script.capacity.block_tokens;
        let scheduler = Scheduler::new(ScriptedForward::new(script), config, longest);
        Self {
            gate: Arc::new(Gate::new(usize::MAX / 2, 0, scheduler.stats())),
            scheduler,
            script,
            registry: Registry::new(),
            last: (0, 0),
        }
    }

    fn submit(&mut self, request: Request) -> mpsc::Receiver<Event> {
        self.submit_on(None, request)
    }

    fn submit_on(
        &mut self,
        version: Option<Arc<AdapterVersion<ScriptedAdapter>>>,
        request: Request,
    ) -> mpsc::Receiver<Event> {
        let (sender, receiver) = mpsc::channel(self.scheduler.config.event_buffer);
        let ticket = self.gate.enter().unwrap();
        let sequence = Sequence::new(request, version, ticket, sender);
        self.scheduler.push(sequence);
        receiver
    }

    /// A version that nobody has used, under the one name that there is.
    fn replace_adapter(&mut self, number: u64) {
        let loaded = (ScriptedAdapter(number), 1);
        let (_, old) = self
            .registry
            .insert("a", "a".as_ref(), loaded, true)
            .unwrap();
        if let Some(old) = old {
            self.scheduler.forget(old);
        }
    }

    fn step(&mut self) -> bool {
        let plan = self.scheduler.prepare();
        self.check();
        self.last = self.check_plan(&plan);
        if !plan.is_empty() {
            self.scheduler.compute(&plan).unwrap();
            self.scheduler.settle(&plan);
            self.check();
        }
        !plan.is_empty()
    }

    fn check(&self) {
        let Scheduler {
            pool,
            running,
            waiting,
            ..
        } = &self.scheduler;
        pool.check(running.iter().map(|sequence| &sequence.blocks[..]));
        let block_tokens = self.script.capacity.block_tokens;
        for sequence in running {
            let room = sequence.blocks.len() * block_tokens;
            assert!(sequence.computed < sequence.tokens.len());
            assert!(sequence.computed <= room && !sequence.blocks.is_empty());
            assert!(sequence.published * block_tokens <= sequence.computed);
        }
        assert!(
            waiting
                .iter()
                .all(|s| s.blocks.is_empty() && s.computed == 0)
        );
        assert!(running.is_sorted_by_key(|sequence| sequence.arrival));
        assert!(waiting.iter().is_sorted_by_key(|sequence| sequence.arrival));
    }

    fn check_plan(&self, plan: &[Planned]) -> (usize, usize) {
        let config = &self.scheduler.config;
        assert!(plan.len() <= config.max_num_seqs);
        let (mut decoding, mut prompts, mut prompt_rows) = (0, 0, 0);
        for planned in plan {
            let sequence = &self.scheduler.running[planned.index];
            if sequence.need() == 1 {
                decoding += 1;
            } else {
                prompts += planned.count;
            }
            if sequence.first_prompt_row().is_some() {
                prompt_rows += planned.rows;
            }
        }
        assert!(decoding + prompts <= config.max_step_tokens);
        assert!(prompt_rows <= config.max_prompt_rows);
        (decoding, prompts)
    }

    fn state(&self) -> (usize, usize, usize) {
        let Scheduler {
            running, waiting, ..
        } = &self.scheduler;
        (running.len(), waiting.len(), self.scheduler.pool.used())
    }

    /// Steps until a receiver's generation is over.
    fn finish(&mut self, receiver: &mut mpsc::Receiver<Event>) -> Output {
        let mut output = Output::default();
        for _ in 0..100_000 {
            while let Ok(event) = receiver.try_recv() {
                output.take(event);
            }
            if output.finish.is_some() {
                return output;
            }
            self.step();
        }
        panic!("it does not end: {:?}", self.state());
    }
}

fn config() -> EngineConfig {
    EngineConfig {
        max_num_seqs: 6,
        max_step_tokens: 24,
        max_prompt_rows: 5,
        event_buffer: 6,
        ..EngineConfig::default()
    }
}

/// Random numbers of a test.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 += 1;
        mix(self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)) % n
    }

    fn request(&mut self) -> Request {
        // Prompts of few beginnings, so that they share blocks.
        let mut tokens = prompt(self.below(4), 1 + self.below(40) as usize);
        tokens.extend(prompt(100 + self.below(4), self.below(12) as usize));
        let generated = prompt(200, [0, 0, 0, 5][self.below(4) as usize]);
        let mut request = Request {
            generated,
            choice: self.below(3) as u32,
            ..request(&tokens, self.below(40) as usize)
        };
        if self.below(2) == 0 {
            request.sampling = random(self.below(3));
        }
        if self.below(6) == 0 {
            request.prompt_logprobs = TopLogprobs::Best(1);
        }
        request
    }
}

/// Requests of every kind come, are read, stall and are aborted in every state, while an adapter is replaced.
fn abort_at_random(aborts: u64, seed: u64) {
    let mut random = Random(seed);
    let mut harness = Harness::new(30, config());
    harness.replace_adapter(1);
    let (mut open, mut aborted) = (Vec::new(), [0_u64; 2]);
    while aborted.iter().sum::<u64>() < aborts {
        if open.len() < 24 && random.below(3) > 0 {
            let version = harness.registry.get("a").cloned();
            let version = version.filter(|_| random.below(2) == 0);
            let request = random.request();
            open.push(harness.submit_on(version, request));
        }
        if random.below(40) == 0 {
            let number = 1 + random.below(50);
            harness.replace_adapter(number);
        }
        for receiver in &mut open {
            while random.below(4) > 0 && receiver.try_recv().is_ok() {}
        }
        while !open.is_empty() && random.below(2) == 0 {
            let receiver = open.swap_remove(random.below(open.len() as u64) as usize);
            // One that is over is no abort.
            if !receiver.is_closed() {
                aborted[usize::from(receiver.is_empty())] += 1;
            }
        }
        harness.step();
    }
    drop(open);
    harness.step();
    assert_eq!(harness.state(), (0, 0, 0));
    assert!(harness.scheduler.counts.preemptions > 0);
    assert!(aborted.iter().all(|&n| n > aborts / 20), "{aborted:?}");
}

#[test]
fn ten_thousand_random_aborts_leave_no_block_behind() {
    abort_at_random(10_000, 1);
}

#[test]
#[ignore = "slow: a million aborts, a minute"]
fn a_million_random_aborts_leave_no_block_behind() {
    for seed in 2..12 {
        abort_at_random(100_000, seed);
    }
}

#[test]
fn an_abort_is_seen_within_one_step_in_every_state() {
    let mut harness = Harness::new(
        40,
        EngineConfig {
            max_num_seqs: 3,
            ..config()
        },
    );
    let decoding = harness.submit(request(&prompt(1, 4), 90));
    harness.step();
    let stalled = harness.submit(request(&prompt(2, 4), 90));
    while harness.scheduler.active() > 0 {
        harness.step();
    }
    let mut read = decoding;
    while read.try_recv().is_ok() {}
    let prefilling = harness.submit(request(&prompt(3, 60), 9));
    harness.step();
    let more: Vec<_> = (0..2)
        .map(|i| harness.submit(request(&prompt(4 + i, 4), 9)))
        .collect();
    harness.step();
    assert_eq!(harness.state().0, 4, "one of them paused");
    assert_eq!(harness.state().1, 1);
    assert!(harness.scheduler.running[2].computed < 60);

    drop(more);
    harness.step();
    assert_eq!((harness.state().0, harness.state().1), (3, 0));
    drop((prefilling, stalled));
    harness.step();
    assert_eq!((harness.state().0, harness.state().1), (1, 0));
    drop(read);
    harness.step();
    assert_eq!(harness.state(), (0, 0, 0));
}

#[test]
fn every_running_stream_gets_a_token_in_every_step_beside_a_long_prompt() {
    let mut harness = Harness::new(500, config());
    let mut streams: Vec<_> = (0..4)
        .map(|i| harness.submit(request(&prompt(i, 5), 500)))
        .collect();
    while harness.last.0 < 4 {
        harness.step();
    }
    let mut long = harness.submit(request(&prompt(9, 1000), 1));
    let mut steps = 0;
    while long.try_recv().is_err() {
        for stream in &mut streams {
            while stream.try_recv().is_ok() {}
        }
        harness.step();
        assert!(harness.last.0 >= 4);
        steps += 1;
    }
    assert_eq!(steps, 1000_usize.div_ceil(20));
}

#[test]
fn a_short_prompt_passes_a_long_one_and_the_long_one_keeps_half() {
    let mut harness = Harness::new(500, config());
    let mut long = harness.submit(request(&prompt(1, 960), 1));
    harness.step();
    let mut steps = 1;
    let mut short_ones = 0;
    let mut short = harness.submit(request(&prompt(100, 12), 1));
    while long.try_recv().is_err() {
        harness.step();
        steps += 1;
        if let Ok(event) = short.try_recv() {
            assert!(matches!(event, Event::Token(_)));
            short_ones += 1;
            short = harness.submit(request(&prompt(100 + short_ones, 12), 1));
        }
    }
    assert_eq!(steps, 79, "24 tokens in the first step, 12 in the others");
    assert_eq!(short_ones, 78);
}

#[test]
fn requests_are_admitted_in_order_even_if_a_later_one_would_fit() {
    let mut harness = Harness::new(20, config());
    let _first = harness.submit(request(&prompt(1, 24), 30));
    harness.step();
    // 13 blocks are left, and one is kept for the first to grow: the second needs 13, the third one.
    let _second = harness.submit(request(&prompt(2, 52), 9));
    let _third = harness.submit(request(&prompt(3, 4), 9));
    harness.step();
    assert_eq!((harness.state().0, harness.state().1), (1, 2));
}

#[test]
fn what_a_replaced_adapter_computed_is_not_kept() {
    let mut harness = Harness::new(20, config());
    harness.replace_adapter(1);
    let version = harness.registry.get("a").cloned();
    let mut receiver = harness.submit_on(version, request(&prompt(1, 9), 20));
    harness.step();
    assert_eq!(harness.scheduler.pool.findable(), 2);
    harness.replace_adapter(2);
    assert_eq!(harness.scheduler.pool.findable(), 0);
    harness.finish(&mut receiver);
    assert_eq!(harness.scheduler.pool.findable(), 0);
}

#[test]
fn the_youngest_loses_its_blocks_and_the_oldest_never_does() {
    let mut harness = Harness::new(20, config());
    let prompts = [prompt(1, 36), prompt(2, 36)];
    let mut receivers = prompts.each_ref().map(|p| harness.submit(request(p, 30)));
    let mut outputs = [Output::default(), Output::default()];
    while outputs[1].finish.is_none() {
        harness.step();
        for (receiver, output) in receivers.iter_mut().zip(&mut outputs) {
            while let Ok(event) = receiver.try_recv() {
                output.take(event);
            }
        }
        let oldest = harness.scheduler.running.first().map(|s| s.arrival);
        assert!(outputs[0].finish.is_some() || oldest == Some(1));
    }
    assert_eq!(harness.scheduler.counts.preemptions, 1);
    for (prompt, output) in prompts.iter().zip(outputs) {
        assert_eq!(output.tokens(), harness.script.greedy(0, prompt, 30));
    }
}

#[test]
fn a_reader_that_is_behind_loses_its_blocks_before_a_younger_one_that_is_not() {
    let mut harness = Harness::new(20, config());
    let (first, second) = (prompt(1, 36), prompt(2, 12));
    let mut behind = harness.submit(request(&first, 30));
    while harness.step() {}
    assert_eq!(behind.len(), 5);
    let mut younger = harness.submit(request(&second, 60));
    let output = harness.finish(&mut younger);
    assert_eq!(output.tokens(), harness.script.greedy(0, &second, 60));
    assert_eq!(harness.scheduler.counts.preemptions, 1);
    let output = harness.finish(&mut behind);
    assert_eq!(output.tokens(), harness.script.greedy(0, &first, 30));
}

#[test]
fn a_sequence_goes_on_when_half_of_its_buffer_was_read() {
    let mut harness = Harness::new(20, config());
    let mut receiver = harness.submit(request(&prompt(1, 8), 30));
    while harness.step() {}
    // Five of six places are taken.
    for left in [4, 3] {
        let before = harness.step();
        assert!(!before && receiver.try_recv().is_ok());
        assert_eq!(receiver.len(), left);
    }
    assert!(harness.step());
}

#[test]
fn prompt_logprobs_survive_a_preemption() {
    let wanted = || Request {
        prompt_logprobs: TopLogprobs::Best(2),
        ..request(&prompt(2, 40), 20)
    };
    let mut harness = Harness::new(24, config());
    let mut undisturbed = harness.submit(wanted());
    let undisturbed = harness.finish(&mut undisturbed);

    let mut harness = Harness::new(24, config());
    let mut disturbed = harness.submit(wanted());
    for _ in 0..3 {
        harness.step();
    }
    assert_eq!(harness.scheduler.running[0].first_prompt_row(), Some(15));
    harness.scheduler.preempt(0);
    harness.scheduler.requeue_preempted();
    let disturbed = harness.finish(&mut disturbed);
    assert_eq!(disturbed.prompt, undisturbed.prompt);
    assert_eq!(disturbed.tokens(), undisturbed.tokens());
}
