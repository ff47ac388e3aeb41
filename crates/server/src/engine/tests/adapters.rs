//! Adapters that come and go under running requests.

use super::*;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

fn on(name: &str, prompt: &[TokenId], max_tokens: usize) -> Request {
    Request {
        adapter: Some(name.to_owned()),
        ..request(prompt, max_tokens)
    }
}

fn dir(number: u64) -> PathBuf {
    PathBuf::from(format!("adapters/{number}"))
}

#[test]
fn names_are_loaded_listed_replaced_and_unloaded() {
    let engine = roomy();
    engine.load_adapter("a", &dir(3), false).unwrap();
    let b = engine.load_adapter("b", &dir(4), true).unwrap();
    assert_eq!((b.rank, b.dir.clone(), b.requests), (4, dir(4), 0));
    let exists = AdapterError::Exists("a".to_owned());
    assert_eq!(engine.load_adapter("a", &dir(9), false), Err(exists));
    let replaced = engine.load_adapter("a", &dir(9), true).unwrap();
    assert!(replaced.generation > b.generation);
    assert_eq!(engine.adapters(), [replaced, b]);
    engine.unload_adapter("a").unwrap();
    let unknown = AdapterError::Unknown("a".to_owned());
    assert_eq!(engine.unload_adapter("a"), Err(unknown));
    assert_eq!(engine.adapters().len(), 1);
}

#[test]
fn of_many_that_load_one_name_at_once_one_wins() {
    let script = Script {
        load_time: Duration::from_millis(20),
        ..Script::new(10)
    };
    let engine = start(script, EngineConfig::default());
    let won = thread::scope(|scope| {
        let load = |number| engine.load_adapter("a", &dir(number), false).is_ok();
        let all: Vec<_> = (1..9).map(|n| scope.spawn(move || load(n))).collect();
        all.into_iter()
            .filter_map(|one| one.join().ok())
            .filter(|&won| won)
            .count()
    });
    assert_eq!((won, engine.adapters().len()), (1, 1));
}

#[test]
fn an_adapter_that_cannot_be_read_changes_nothing() {
    let engine = roomy();
    let card = engine.load_adapter("a", &dir(3), false).unwrap();
    let error = engine.load_adapter("a", "adapters/broken".as_ref(), true);
    assert!(matches!(error, Err(AdapterError::Invalid(text)) if text.contains("broken")));
    assert_eq!(engine.adapters(), [card]);
}

#[test]
fn a_request_goes_on_with_the_version_it_began_with() {
    let script = Script {
        step_time: Duration::from_micros(500),
        ..Script::new(1000)
    };
    let engine = start(script, EngineConfig::default());
    engine.load_adapter("a", &dir(3), false).unwrap();
    let prompt = prompt(1, 20);
    let old = engine.submit(on("a", &prompt, 100)).unwrap();
    assert_eq!(engine.adapters()[0].requests, 1);
    engine.load_adapter("a", &dir(4), true).unwrap();
    let new = engine.submit(on("a", &prompt, 100)).unwrap();
    engine.unload_adapter("a").unwrap();
    let gone = engine.submit(on("a", &prompt, 1)).unwrap_err();
    assert_eq!(gone, Refused::UnknownAdapter("a".to_owned()));
    assert_eq!(read(old).tokens(), script.greedy(3, &prompt, 100));
    assert_eq!(read(new).tokens(), script.greedy(4, &prompt, 100));
}

#[test]
fn no_cached_block_crosses_generations() {
    let engine = roomy();
    let prompt = prompt(1, 41);
    for number in [3, 3, 4] {
        engine.load_adapter("a", &dir(number), true).unwrap();
        let cached = || run(&engine, on("a", &prompt, 1)).usage().cached;
        assert_eq!(cached(), 0, "of an older generation");
        assert_eq!(cached(), 40, "of its own");
    }
    assert_eq!(run(&engine, request(&prompt, 1)).usage().cached, 0);
}

#[test]
fn blocks_of_a_replaced_adapter_are_given_away_before_any_other() {
    // 20 blocks: ten of them for the base, let go first, then eight for the adapter.
    let engine = start(Script::new(20), EngineConfig::default());
    engine.load_adapter("a", &dir(3), false).unwrap();
    let kept = prompt(1, 40);
    run(&engine, request(&kept, 1));
    run(&engine, on("a", &prompt(2, 32), 1));
    engine.load_adapter("a", &dir(4), true).unwrap();
    run(&engine, request(&prompt(3, 40), 1));
    assert_eq!(run(&engine, request(&kept, 1)).usage().cached, 36);
}

#[test]
fn reading_an_adapter_does_not_stop_running_streams() {
    let script = Script {
        step_time: Duration::from_micros(200),
        load_time: Duration::from_millis(300),
        ..Script::new(1000)
    };
    let engine = start(script, EngineConfig::default());
    let mut stream = engine.submit(request(&prompt(1, 5), 3000)).unwrap();
    let loading = AtomicBool::new(true);
    let meanwhile = thread::scope(|scope| {
        scope.spawn(|| {
            engine.load_adapter("a", &dir(3), false).unwrap();
            loading.store(false, Ordering::Release);
        });
        let mut tokens = 0;
        while loading.load(Ordering::Acquire) {
            stream.events.blocking_recv().unwrap();
            tokens += 1;
        }
        tokens
    });
    assert!(meanwhile > 50, "{meanwhile} tokens in 300 ms");
}

/// Streams run while one name is replaced as fast as it goes; each must be that of a version it may have begun with.
fn swap_under_streams(time: Duration, pause: Duration) -> (u64, u64) {
    let script = Script {
        step_time: Duration::from_micros(100),
        ..Script::new(900)
    };
    let engine = start(script, EngineConfig::default());
    engine.load_adapter("a", &dir(1), false).unwrap();
    let (started, loaded) = (AtomicU64::new(1), AtomicU64::new(1));
    let streams = AtomicU64::new(0);
    let end = Instant::now() + time;
    let stream = |worker: u64| {
        let mut round = 0;
        while Instant::now() < end {
            // Few prompts, so that there is always something in the cache.
            let prompt = prompt(round % 3, 20 + (worker as usize % 4) * 4);
            let oldest = loaded.load(Ordering::Acquire);
            let generation = engine.submit(on("a", &prompt, 24)).unwrap();
            let newest = started.load(Ordering::Acquire);
            let tokens = read(generation).tokens();
            let fits = (oldest..=newest).any(|n| tokens == script.greedy(n, &prompt, 24));
            assert!(fits, "versions {oldest} to {newest}: {tokens:?}");
            streams.fetch_add(1, Ordering::Relaxed);
            round += 1;
        }
    };
    thread::scope(|scope| {
        for worker in 0..32 {
            scope.spawn(move || stream(worker));
        }
        while Instant::now() < end {
            let next = started.fetch_add(1, Ordering::AcqRel) + 1;
            engine.load_adapter("a", &dir(next), true).unwrap();
            loaded.store(next, Ordering::Release);
            thread::sleep(pause);
        }
    });
    eventually(&engine, at_rest);
    assert_eq!(engine.adapters()[0].requests, 0);
    (
        streams.load(Ordering::Relaxed),
        started.load(Ordering::Relaxed),
    )
}

#[test]
fn every_stream_keeps_its_version_while_the_name_is_replaced() {
    let (streams, versions) = swap_under_streams(Duration::from_secs(1), Duration::from_millis(2));
    assert!(streams > 32 && versions > 20, "{streams} {versions}");
}

#[test]
#[ignore = "slow: replaces an adapter for half a minute"]
fn every_stream_keeps_its_version_for_long() {
    let (streams, versions) = swap_under_streams(Duration::from_secs(30), Duration::from_millis(1));
    println!("{streams} streams over {versions} versions, none mixed");
}
