//! The engine over the scripted double: every token is checked against [`Script::greedy`] or an engine that has room.

mod adapters;
mod failure;
mod pressure;
mod requests;
mod same_tokens;

use super::double::{Script, ScriptedForward};
use super::*;

/// A greedy request without anything else.
pub(super) fn request(prompt: &[TokenId], max_tokens: usize) -> Request {
    Request {
        prompt: prompt.into(),
        generated: Vec::new(),
        adapter: None,
        sampling: Sampling::greedy(),
        choice: 0,
        max_tokens,
        min_tokens: 0,
        stop_tokens: Vec::new(),
        logprobs: TopLogprobs::None,
        prompt_logprobs: TopLogprobs::None,
        constraint: None,
    }
}

/// Settings of which every one has a say.
pub(super) fn random(seed: u64) -> Sampling {
    Sampling {
        temperature: 0.8,
        top_p: 0.95,
        top_k: 40,
        min_p: 0.01,
        presence_penalty: 0.3,
        frequency_penalty: 0.2,
        repetition_penalty: 1.1,
        logit_bias: vec![(5, 1.5)],
        seed,
    }
}

/// A prompt of that length; two of different seeds differ from the first token on.
pub(super) fn prompt(seed: u64, len: usize) -> Vec<TokenId> {
    let token = |i: u64| (crate::sampling::mix(seed * 1_000_003 + i) % 97) as TokenId;
    (0..len as u64).map(token).collect()
}

/// All that came of a generation.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) prompt: Option<Vec<Option<Logprobs>>>,
    pub(super) events: Vec<TokenEvent>,
    pub(super) finish: Option<Finish>,
}

impl Output {
    pub(super) fn tokens(&self) -> Vec<TokenId> {
        self.events.iter().map(|event| event.id).collect()
    }

    pub(super) fn take(&mut self, event: Event) {
        assert!(self.finish.is_none(), "an event after the last");
        match event {
            Event::Prompt(logprobs) => {
                assert!(self.prompt.is_none() && self.events.is_empty());
                self.prompt = Some(logprobs);
            }
            Event::Token(token) => self.events.push(token),
            Event::Finished(finish) => self.finish = Some(finish),
        }
    }

    pub(super) fn reason(&self) -> &FinishReason {
        &self.finish.as_ref().expect("it finished").reason
    }

    pub(super) fn usage(&self) -> Usage {
        self.finish.as_ref().expect("it finished").usage
    }

    /// Whether it ended with an error.
    pub(super) fn failed(&self) -> bool {
        matches!(
            self.reason(),
            FinishReason::Error(_) | FinishReason::Constraint(_)
        )
    }
}

pub(super) fn read(mut generation: Generation) -> Output {
    let mut output = Output::default();
    while let Some(event) = generation.events.blocking_recv() {
        output.take(event);
    }
    output
}

type Scripted = LocalEngine<ScriptedForward>;

fn start(script: Script, config: EngineConfig) -> Scripted {
    LocalEngine::start(ScriptedForward::new(script), config).unwrap()
}

/// An engine with room for everything.
fn roomy() -> Scripted {
    start(Script::new(4096), EngineConfig::default())
}

fn run(engine: &Scripted, request: Request) -> Output {
    read(engine.submit(request).unwrap())
}

/// Waits until the compute thread has published that; it does so after each step.
fn eventually(engine: &Scripted, what: impl Fn(&Stats) -> bool) {
    for _ in 0..10_000 {
        if what(&engine.stats()) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("it never came: {:?}", engine.stats());
}

/// Nothing runs, waits or is held.
fn at_rest(stats: &Stats) -> bool {
    (stats.running, stats.waiting, stats.blocks_used) == (0, 0, 0)
}
