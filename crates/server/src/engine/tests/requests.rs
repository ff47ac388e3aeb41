//! What a single request may ask for.

use super::*;
use crate::sampling::Sampler;

#[test]
fn greedy_tokens_and_usage_are_those_of_the_script() {
    let engine = roomy();
    let prompt = prompt(1, 30);
    let output = run(&engine, request(&prompt, 50));
    assert_eq!(output.tokens(), Script::new(1).greedy(0, &prompt, 50));
    assert_eq!(*output.reason(), FinishReason::Length);
    let expected = Usage {
        prompt: 30,
        cached: 0,
        generated: 50,
    };
    assert_eq!(output.usage(), expected);
    eventually(&engine, at_rest);
    let stats = engine.stats();
    assert_eq!((stats.prompt_tokens, stats.generation_tokens), (30, 50));
    assert_eq!(stats.steps, 50);
}

#[test]
fn a_stop_token_is_the_last_one_and_does_not_come_before_min_tokens() {
    let engine = roomy();
    let prompt = prompt(2, 9);
    let free = Script::new(1).greedy(0, &prompt, 30);
    let stop = free[7];
    let first = free.iter().position(|&token| token == stop).unwrap();
    let stopped = run(
        &engine,
        Request {
            stop_tokens: vec![stop, 4000],
            ..request(&prompt, 30)
        },
    );
    assert_eq!(stopped.tokens(), free[..=first]);
    assert_eq!(*stopped.reason(), FinishReason::StopToken(stop));

    let late = run(
        &engine,
        Request {
            stop_tokens: vec![stop],
            min_tokens: 20,
            ..request(&prompt, 30)
        },
    );
    assert!(!late.tokens()[..20].contains(&stop));
    assert!(late.tokens().len() >= 20);
}

#[test]
fn no_tokens_are_no_work() {
    let engine = roomy();
    let output = run(&engine, request(&prompt(1, 5), 0));
    assert_eq!(*output.reason(), FinishReason::Length);
    assert!(output.events.is_empty());
    assert_eq!(engine.stats().steps, 0);
}

#[test]
fn a_continuation_that_is_complete_is_no_work() {
    let engine = roomy();
    let full = Request {
        generated: vec![1, 2, 3],
        ..request(&prompt(1, 5), 3)
    };
    assert_eq!(*run(&engine, full).reason(), FinishReason::Length);
    let stopped = Request {
        generated: vec![1, 2, 3],
        stop_tokens: vec![3],
        ..request(&prompt(1, 5), 9)
    };
    let output = run(&engine, stopped);
    assert_eq!(*output.reason(), FinishReason::StopToken(3));
    assert_eq!(output.usage().generated, 3);
    assert_eq!(engine.stats().steps, 0);
}

#[test]
fn the_models_length_ends_a_generation() {
    let config = EngineConfig {
        max_model_len: Some(12),
        ..EngineConfig::default()
    };
    let engine = start(Script::new(100), config);
    let output = run(&engine, request(&prompt(1, 10), usize::MAX));
    assert_eq!(output.events.len(), 2);
    assert_eq!(*output.reason(), FinishReason::Length);
}

#[test]
fn what_cannot_fit_or_be_is_refused() {
    // Ten blocks of four positions, although the model has more.
    let engine = start(Script::new(10), EngineConfig::default());
    assert_eq!(engine.model().max_model_len, 40);
    let refused = |request| engine.submit(request).unwrap_err();
    let too_long = |prompt| Refused::TooLong { prompt, limit: 40 };
    assert_eq!(refused(request(&prompt(1, 41), 0)), too_long(41));
    assert_eq!(refused(request(&prompt(1, 40), 1)), too_long(40));
    let continued = Request {
        generated: vec![1; 11],
        ..request(&prompt(1, 30), 100)
    };
    assert_eq!(refused(continued), too_long(30));
    assert_eq!(refused(request(&[], 1)), Refused::EmptyPrompt);
    let unknown = Refused::UnknownToken {
        id: 97,
        vocab_size: 97,
    };
    assert_eq!(refused(request(&[3, 97], 1)), unknown);
    let mut biased = request(&[3], 1);
    biased.sampling.logit_bias = vec![(97, 1.0)];
    assert_eq!(refused(biased), unknown);
    let named = Request {
        adapter: Some("none".to_owned()),
        ..request(&[3], 1)
    };
    assert_eq!(refused(named), Refused::UnknownAdapter("none".to_owned()));
    assert_eq!(run(&engine, request(&prompt(1, 39), 9)).events.len(), 1);
    eventually(&engine, at_rest);
}

#[test]
fn an_engine_without_room_does_not_start() {
    let start =
        |blocks, config| LocalEngine::start(ScriptedForward::new(Script::new(blocks)), config);
    let field = |result: Result<_, ConfigError>| match result.map(|_: Scripted| ()) {
        Err(ConfigError::TooSmall { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    let default = EngineConfig::default;
    assert_eq!(
        field(start(0, default())),
        "positions of the pool of keys and values"
    );
    let narrow = EngineConfig {
        max_step_tokens: 64,
        ..default()
    };
    assert_eq!(field(start(9, narrow)), "max_step_tokens");
    let long = EngineConfig {
        max_model_len: Some(41),
        ..default()
    };
    let refused = start(10, long).map(|_: Scripted| ()).unwrap_err();
    assert!(
        matches!(
            refused,
            ConfigError::TooLarge {
                found: 41,
                most: 40,
                ..
            }
        ),
        "{refused}"
    );
}

#[test]
fn logprobs_come_with_tokens() {
    let engine = roomy();
    let prompt = prompt(4, 6);
    let output = run(
        &engine,
        Request {
            logprobs: TopLogprobs::Best(3),
            ..request(&prompt, 5)
        },
    );
    let mut tokens = prompt;
    for event in &output.events {
        let row = Script::new(1).logits(0, &tokens);
        let expected = Sampler::default().logprobs(&row, event.id, TopLogprobs::Best(3));
        assert_eq!(event.logprobs, Some(expected.unwrap()));
        tokens.push(event.id);
    }
}

/// What [`Request::prompt_logprobs`] must give.
fn prompt_logprobs(prompt: &[TokenId], wanted: TopLogprobs) -> Vec<Option<Logprobs>> {
    let of = |i: usize| {
        let row = Script::new(1).logits(0, &prompt[..i]);
        Sampler::default()
            .logprobs(&row, prompt[i], wanted)
            .unwrap()
    };
    (0..prompt.len()).map(|i| (i > 0).then(|| of(i))).collect()
}

#[test]
fn prompt_logprobs_are_complete_whatever_is_cached_and_however_the_prompt_is_cut() {
    let config = EngineConfig {
        max_prompt_rows: 3,
        ..EngineConfig::default()
    };
    let engine = start(Script::new(200), config);
    let prompt = prompt(4, 50);
    run(&engine, request(&prompt, 3));
    for (wanted, max_tokens) in [(TopLogprobs::Best(2), 4), (TopLogprobs::All, 0)] {
        let output = run(
            &engine,
            Request {
                prompt_logprobs: wanted,
                ..request(&prompt, max_tokens)
            },
        );
        assert_eq!(output.prompt, Some(prompt_logprobs(&prompt, wanted)));
        let expected = Script::new(1).greedy(0, &prompt, max_tokens);
        assert_eq!(output.tokens(), expected);
        assert_eq!(output.usage().cached, 0);
    }
    let one = Request {
        prompt_logprobs: TopLogprobs::Best(1),
        ..request(&prompt[..1], 0)
    };
    assert_eq!(run(&engine, one).prompt, Some(vec![None]));
}

#[test]
fn a_prompt_that_begins_like_another_is_not_computed_again() {
    let engine = roomy();
    let long = prompt(6, 42);
    run(&engine, request(&long, 1));
    let again = run(&engine, request(&long, 5));
    // All full blocks but the one with the last token: 40 of 42 are full.
    assert_eq!(again.usage().cached, 40);
    assert_eq!(again.tokens(), Script::new(1).greedy(0, &long, 5));
    let whole_blocks = run(&engine, request(&long[..40], 2));
    assert_eq!(whole_blocks.usage().cached, 36);
    let stats = engine.stats();
    assert_eq!((stats.prefix_queries, stats.prefix_hits), (124, 76));
}

#[test]
fn the_output_of_one_turn_is_found_by_the_next() {
    let engine = roomy();
    let first = prompt(6, 10);
    let mut conversation = first.clone();
    conversation.extend(run(&engine, request(&first, 30)).tokens());
    conversation.extend([1, 2, 3]);
    let second = run(&engine, request(&conversation, 4));
    assert_eq!(second.usage().cached, 36);
    assert_eq!(second.tokens(), Script::new(1).greedy(0, &conversation, 4));
}

/// Allows the tokens of a given output only, each in turn.
struct Fixed {
    output: Vec<TokenId>,
    at: usize,
    panics: bool,
}

#[expect(clippy::panic_in_result_fn, reason = "a panic is what is tested")]
impl Constraint for Fixed {
    fn allowed(&mut self, mask: &mut [u32]) -> Result<(), String> {
        assert!(mask.iter().all(|&word| word == 0));
        assert!(!self.panics, "the grammar is broken");
        let token = self.output[self.at];
        mask[token as usize / 32] |= 1 << (token % 32);
        Ok(())
    }

    fn accept(&mut self, token: TokenId) -> Result<bool, String> {
        if token != self.output[self.at] {
            return Err(format!("token {token} is not the next one"));
        }
        self.at += 1;
        Ok(self.at == self.output.len())
    }
}

fn constrained(output: &[TokenId], generated: &[TokenId], panics: bool) -> Request {
    let output = output.to_vec();
    Request {
        generated: generated.to_vec(),
        constraint: Some(Box::new(Fixed {
            output,
            at: 0,
            panics,
        })),
        ..request(&prompt(1, 5), 100)
    }
}

#[test]
fn a_constraint_decides_and_ends() {
    let engine = roomy();
    let output = run(&engine, constrained(&[9, 96, 0, 31, 32], &[], false));
    assert_eq!(output.tokens(), [9, 96, 0, 31, 32]);
    assert_eq!(*output.reason(), FinishReason::Complete);
    let continued = run(&engine, constrained(&[9, 96, 0, 31, 32], &[9, 96], false));
    assert_eq!(continued.tokens(), [0, 31, 32]);
}

#[test]
fn a_constraint_that_fails_or_panics_ends_its_own_request_alone() {
    let engine = roomy();
    let other = engine.submit(request(&prompt(3, 5), 50)).unwrap();
    let panicking = run(&engine, constrained(&[9], &[], true));
    assert!(panicking.failed());
    let refusing = run(&engine, constrained(&[9, 4], &[5], false));
    assert!(refusing.failed());
    assert_eq!(
        read(other).tokens(),
        Script::new(1).greedy(0, &prompt(3, 5), 50)
    );
    assert_eq!(engine.failure(), None);
}

/// Allows these and nothing else, for ever.
struct Only(Vec<TokenId>);

impl Constraint for Only {
    fn allowed(&mut self, mask: &mut [u32]) -> Result<(), String> {
        for &id in &self.0 {
            mask[id as usize / 32] |= 1 << (id % 32);
        }
        Ok(())
    }

    fn accept(&mut self, _: TokenId) -> Result<bool, String> {
        Ok(false)
    }
}

#[test]
fn a_constraint_that_leaves_only_a_stop_token_is_complete_and_one_that_leaves_none_fails() {
    let engine = roomy();
    let only = |allowed: &[TokenId]| Request {
        constraint: Some(Box::new(Only(allowed.to_vec()))),
        stop_tokens: vec![9, 40],
        min_tokens: 5,
        ..request(&prompt(1, 5), 100)
    };
    let complete = run(&engine, only(&[9, 40]));
    assert_eq!(*complete.reason(), FinishReason::Complete);
    assert!(complete.tokens().is_empty());
    let stuck = run(&engine, only(&[]));
    assert!(matches!(stuck.reason(), FinishReason::Constraint(_)));
}

#[test]
fn the_queue_is_bounded_and_draining_refuses() {
    let script = Script {
        step_time: std::time::Duration::from_millis(10),
        ..Script::new(1000)
    };
    let config = EngineConfig {
        max_num_seqs: 2,
        max_waiting: 3,
        ..EngineConfig::default()
    };
    let engine = start(script, config);
    let run: Vec<_> = (0..2)
        .map(|i| engine.submit(request(&prompt(i, 5), 60)).unwrap())
        .collect();
    eventually(&engine, |stats| stats.running == 2);
    let wait: Vec<_> = (0..3)
        .map(|i| engine.submit(request(&prompt(i, 5), 1)).unwrap())
        .collect();
    match engine.submit(request(&prompt(9, 5), 1)).unwrap_err() {
        Refused::QueueFull {
            waiting,
            retry_after,
        } => {
            assert_eq!(waiting, 3);
            assert!((1..=60).contains(&retry_after.as_secs()));
        }
        other => panic!("{other:?}"),
    }
    engine.drain();
    let refused = engine.submit(request(&prompt(9, 5), 1)).unwrap_err();
    assert_eq!(refused, Refused::Draining);
    for generation in run.into_iter().chain(wait) {
        assert_eq!(*read(generation).reason(), FinishReason::Length);
    }
    eventually(&engine, at_rest);
}

#[test]
fn seats_that_no_block_is_left_for_let_nobody_in_beyond_the_queue() {
    let script = Script {
        step_time: std::time::Duration::from_millis(100),
        ..Script::new(8)
    };
    let tokens = script.capacity.blocks * script.capacity.block_tokens;
    let config = EngineConfig {
        max_num_seqs: 16,
        max_waiting: 2,
        ..EngineConfig::default()
    };
    let engine = start(script, config);
    let large = |number| request(&prompt(number, tokens / 2), tokens / 4);
    let first = engine.submit(large(1)).unwrap();
    eventually(&engine, |stats| stats.running == 1);
    let second = engine.submit(large(2)).unwrap();
    // It is looked at, and there is no room for it.
    let steps = engine.stats().steps;
    eventually(&engine, |stats| stats.steps > steps + 2);
    let third = engine.submit(large(3)).unwrap();
    let refused = engine.submit(large(4)).unwrap_err();
    assert!(
        matches!(refused, Refused::QueueFull { waiting: 2, .. }),
        "{refused:?}"
    );
    drop((first, second, third));
    eventually(&engine, at_rest);
}
