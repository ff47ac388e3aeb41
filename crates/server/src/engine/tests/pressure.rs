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
fn a_dropped_generation_gives_its_blocks_back() {
    let script = Script {
        step_time: Duration::from_millis(5),
        ..Script::new(2000)
    };
    let config = EngineConfig {
        max_num_seqs: 8,
        ..EngineConfig::default()
    };
    let engine = start(script, config);
    let all: Vec<_> = (0..70)
        .map(|i| engine.submit(request(&prompt(i, 20), 400)).unwrap())
        .collect();
    eventually(&engine, |stats| stats.running > 5 && stats.waiting > 5);
    drop(all);
    eventually(&engine, at_rest);
}

/// Prompts of many lengths, four in turn with one beginning, through a pool of a fraction of their blocks.
fn mixed_through_a_small_pool(count: u64, blocks: usize) {
    let script = Script::new(blocks);
    let config = EngineConfig {
        max_num_seqs: 16,
        max_step_tokens: 40,
        max_waiting: 4000,
        ..EngineConfig::default()
    };
    let engine = start(script, config);
    let length = |i: u64| (5 + i as usize * 7 % 150, 10 + i as usize * 13 % 200);
    let all: Vec<_> = (0..count)
        .map(|i| engine.submit(request(&prompt(i / 4, length(i).0), length(i).1)))
        .collect();
    for (i, generation) in (0..).zip(all) {
        let (len, count) = length(i);
        let expected = script.greedy(0, &prompt(i / 4, len), count);
        assert_eq!(read(generation.unwrap()).tokens(), expected, "{i}");
    }
    let stats = engine.stats();
    assert!(stats.preemptions > 0 && stats.prefix_hits > 0, "{stats:?}");
    eventually(&engine, at_rest);
}

#[test]
fn a_hundred_mixed_requests_through_a_small_pool() {
    mixed_through_a_small_pool(100, 100);
}

#[test]
#[ignore = "slow: thousands of requests of all lengths through small pools"]
fn thousands_of_mixed_requests_through_small_pools() {
    for blocks in [100, 150, 300, 600] {
        mixed_through_a_small_pool(4000, blocks);
    }
}
