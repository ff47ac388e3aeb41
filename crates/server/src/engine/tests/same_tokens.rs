//! A request gives the same tokens whatever happens around it.

use super::*;
use crate::sampling::{Choice, History, Sampler};

const ADAPTERS: [&str; 3] = ["3", "17", "200"];

fn with_adapters(engine: Scripted) -> Scripted {
    for name in ADAPTERS {
        engine.load_adapter(name, name.as_ref(), false).unwrap();
    }
    engine
}

/// Request number `i`: base and adapters in turn, drawn with every setting, two choices of each prompt.
fn mixed(i: u64) -> Request {
    let adapter = [
        None,
        Some(ADAPTERS[0]),
        Some(ADAPTERS[1]),
        Some(ADAPTERS[2]),
    ];
    Request {
        adapter: adapter[i as usize % 4].map(str::to_owned),
        sampling: random(i / 2),
        choice: (i % 2) as u32,
        ..request(&prompt(i / 2, 7 + 5 * i as usize), 60)
    }
}

fn alone() -> Vec<Vec<TokenId>> {
    let config = EngineConfig {
        max_num_seqs: 1,
        prefix_cache: false,
        ..EngineConfig::default()
    };
    let engine = with_adapters(start(Script::new(4096), config));
    (0..16).map(|i| run(&engine, mixed(i)).tokens()).collect()
}

/// All at once, as they come out.
fn together(engine: &Scripted) -> Vec<Vec<TokenId>> {
    let all: Vec<_> = (0..16).map(|i| engine.submit(mixed(i)).unwrap()).collect();
    all.into_iter().map(|one| read(one).tokens()).collect()
}

#[test]
fn alone_and_in_batches_of_eight_with_mixed_adapters() {
    let config = EngineConfig {
        max_num_seqs: 8,
        max_step_tokens: 19,
        ..EngineConfig::default()
    };
    let engine = with_adapters(start(Script::new(4096), config));
    let expected = alone();
    assert_eq!(together(&engine), expected);
    assert_eq!(together(&engine), expected, "with a full prefix cache");
    assert!(expected.iter().all(|tokens| tokens.len() == 60));
}

#[test]
fn they_are_those_that_the_sampler_draws_from_the_models_logits() {
    let script = Script::new(1);
    let request = mixed(3);
    let mut tokens = request.prompt.to_vec();
    let mut history = History::new(&tokens);
    let mut expected = Vec::new();
    for position in 0..60 {
        let choice = Choice {
            sampling: &request.sampling,
            choice: request.choice,
            position,
            history: Some(&history),
            forbidden: &[],
            allowed: None,
            logprobs: TopLogprobs::None,
        };
        let mut row = script.logits(200, &tokens);
        let (token, _) = Sampler::default().next(&mut row, &choice).unwrap();
        tokens.push(token);
        history.push(token);
        expected.push(token);
    }
    assert_eq!(alone()[3], expected);
}

#[test]
fn after_preemption() {
    // The longest has 142 tokens: 36 blocks.
    let engine = with_adapters(start(Script::new(80), EngineConfig::default()));
    assert_eq!(together(&engine), alone());
    assert!(engine.stats().preemptions > 0);
    eventually(&engine, at_rest);
}

#[test]
fn continued_from_any_token_on_another_engine() {
    let (here, there) = (with_adapters(roomy()), with_adapters(roomy()));
    let whole = run(&here, mixed(6)).tokens();
    for at in 0..=whole.len() {
        let continued = Request {
            generated: whole[..at].to_vec(),
            ..mixed(6)
        };
        let output = run(&there, continued);
        assert_eq!(output.tokens(), whole[at..]);
        assert_eq!(output.usage().generated, whole.len());
    }
}

#[test]
fn a_seed_and_a_choice_make_a_difference() {
    let engine = roomy();
    let tokens = |seed, choice| {
        let request = Request {
            sampling: random(seed),
            choice,
            ..request(&prompt(1, 9), 40)
        };
        run(&engine, request).tokens()
    };
    assert_eq!(tokens(1, 0), tokens(1, 0));
    assert_ne!(tokens(1, 0), tokens(2, 0));
    assert_ne!(tokens(1, 0), tokens(1, 1));
}
