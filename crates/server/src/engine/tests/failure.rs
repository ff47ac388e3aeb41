//! A model that fails.

use super::double::Failure;
use super::*;

fn failing(failure: Failure) -> Scripted {
    let script = Script {
        failure: Some((5, failure)),
        ..Script::new(20)
    };
    start(script, EngineConfig::default())
}

#[test]
fn an_error_or_panic_ends_every_request_and_refuses_more() {
    for failure in [Failure::Error, Failure::Panic] {
        let engine = failing(failure);
        // Some run, and some wait.
        let all: Vec<_> = (0..9)
            .map(|i| engine.submit(request(&prompt(i, 20), 30)))
            .collect();
        for generation in all {
            match generation {
                Ok(generation) => assert!(read(generation).failed()),
                Err(refused) => assert!(matches!(refused, Refused::Failed(_))),
            }
        }
        assert_eq!(engine.failure().as_deref(), Some("the script says so"));
        let refused = engine.submit(request(&prompt(1, 3), 1)).unwrap_err();
        assert_eq!(refused, Refused::Failed("the script says so".to_owned()));
        eventually(&engine, at_rest);
    }
}

#[test]
fn logits_that_are_no_numbers_end_the_requests_of_that_batch_alone() {
    let engine = failing(Failure::NotANumber);
    let output = run(&engine, request(&prompt(1, 5), 30));
    assert!(output.failed());
    assert_eq!(output.events.len(), 5);
    let after = run(&engine, request(&prompt(2, 5), 30));
    assert_eq!(after.tokens(), Script::new(1).greedy(0, &prompt(2, 5), 30));
    assert_eq!(engine.failure(), None);
}

#[test]
fn dropping_the_engine_ends_what_runs() {
    let engine = roomy();
    let mut generation = engine.submit(request(&prompt(1, 5), 4000)).unwrap();
    generation.events.blocking_recv().unwrap();
    drop(engine);
    assert!(read(generation).failed());
}
