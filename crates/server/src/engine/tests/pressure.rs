//! Too many requests, too few blocks, readers that do not read.

use super::*;
use std::time::Duration;

#[test]
fn a_pool_for_three_serves_thirty_two_with_the_same_tokens() {
    let (len, count) = (20, 44);
    // Each fills 16 blocks.
    let script = Script::new(48);
    let engine = start(script, EngineConfig::default());
    let all: Vec<_> = (0..32)
        .map(|i| engine.submit(request(&prompt(i, len), count)).unwrap())
        .collect();
    for (i, generation) in (0..).zip(all) {
        let tokens = read(generation).tokens();
        assert_eq!(tokens, script.greedy(0, &prompt(i, len), count), "{i}");
    }
    assert!(engine.stats().preemptions > 0);
    eventually(&engine, at_rest);
}

#[test]
fn a_request_as_large_as_the_pool_runs_among_others() {
    let script = Script::new(16);
    let engine = start(script, EngineConfig::default());
    let all: Vec<_> = (0..12)
        .map(|i| engine.submit(request(&prompt(i, 30), 34)).unwrap())
        .collect();
    for (i, generation) in (0..).zip(all) {
        assert_eq!(
            read(generation).tokens(),
            script.greedy(0, &prompt(i, 30), 34)
        );
    }
}

#[test]
fn readers_that_stall_do_not_stop_others() {
    let config = EngineConfig {
        max_num_seqs: 4,
        event_buffer: 8,
        ..EngineConfig::default()
    };
    // Blocks for four, so that the stalled ones must give theirs away.
    let script = Script::new(64);
    let engine = start(script, config);
    let stalled: Vec<_> = (0..200)
        .map(|i| engine.submit(request(&prompt(i, 20), 44)).unwrap())
        .collect();
    eventually(&engine, |stats| stats.generation_tokens >= 200 * 7);
    for i in 1000..1020 {
        let tokens = run(&engine, request(&prompt(i, 20), 44)).tokens();
        assert_eq!(tokens, script.greedy(0, &prompt(i, 20), 44));
    }
    for (i, generation) in (0..).zip(stalled) {
        assert_eq!(
            read(generation).tokens(),
            script.greedy(0, &prompt(i, 20), 44)
        );
    }
    eventually(&engine, at_rest);
}

#[test]
fn nothing_is_computed_for_a_reader_that_stalls() {
    let config = EngineConfig {
        event_buffer: 8,
        ..EngineConfig::default()
    };
    let forward = ScriptedForward::new(Script::new(100));
    let steps = forward.steps();
    let engine = LocalEngine::start(forward, config).unwrap();
    let generation = engine.submit(request(&prompt(1, 5), 100)).unwrap();
    eventually(&engine, |stats| stats.steps >= 7);
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(steps.load(std::sync::atomic::Ordering::Relaxed), 7);
    assert_eq!(read(generation).events.len(), 100);
}

#[test]
fn a_running_stream_goes_on_while_a_long_prompt_is_computed() {
    let script = Script {
        token_time: Duration::from_micros(20),
        ..Script::new(4096)
    };
    let config = EngineConfig {
        max_num_seqs: 2,
        max_step_tokens: 33,
        ..EngineConfig::default()
    };
    let engine = start(script, config);
    let mut stream = engine.submit(request(&prompt(1, 5), 1000)).unwrap();
    for _ in 0..10 {
        stream.events.blocking_recv().unwrap();
    }
    let mut long = engine.submit(request(&prompt(2, 3200), 1)).unwrap();
    let mut meanwhile = 0;
    while long.events.try_recv().is_err() {
        stream.events.blocking_recv().unwrap();
        meanwhile += 1;
    }
    // 3200 tokens in steps of 32.
    assert!(meanwhile >= 99, "{meanwhile}");
}

#[test]
fn a_dropped_generation_gives_its_blocks_back() {
    let script = Script {
        step_time: Duration::from_millis(1),
        ..Script::new(200)
    };
    let engine = start(script, EngineConfig::default());
    let all: Vec<_> = (0..70)
        .map(|i| engine.submit(request(&prompt(i, 20), 400)).unwrap())
        .collect();
    eventually(&engine, |stats| stats.running > 5 && stats.waiting > 5);
    drop(all);
    eventually(&engine, at_rest);
}

#[test]
#[ignore = "slow: 2000 requests of all kinds through a small pool, under a minute"]
fn thousands_of_mixed_requests_through_a_small_pool() {
    let script = Script::new(300);
    let config = EngineConfig {
        max_num_seqs: 16,
        max_step_tokens: 40,
        max_waiting: 4000,
        ..EngineConfig::default()
    };
    let engine = start(script, config);
    let length = |i: u64| (5 + i as usize * 7 % 150, 10 + i as usize * 13 % 200);
    let all: Vec<_> = (0..2000)
        .map(|i| engine.submit(request(&prompt(i % 90, length(i).0), length(i).1)))
        .collect();
    for (i, generation) in (0..).zip(all) {
        let (len, count) = length(i);
        let expected = script.greedy(0, &prompt(i % 90, len), count);
        assert_eq!(read(generation.unwrap()).tokens(), expected, "{i}");
    }
    eventually(&engine, at_rest);
}
