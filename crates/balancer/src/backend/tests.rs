use super::*;

fn backend() -> Backend {
    Backend::new(
        BackendUrl::parse("http://a:1").unwrap(),
        2,
        Duration::from_secs(3600),
    )
}

#[test]
fn it_gets_nothing_before_it_was_asked_how_it_is() {
    let backend = backend();
    assert!(backend.offer(1).is_none());
    assert!(backend.bring_back());
    assert_eq!(backend.state(), State::Up);
    assert!(backend.offer(1).is_some());
}

#[test]
fn the_limit_holds() {
    let backend = backend();
    backend.bring_back();
    for _ in 0..2 {
        assert!(backend.accept(backend.offer(1).unwrap()));
    }
    assert!(backend.offer(1).is_none());
    backend.release();
    let offer = backend.offer(1).unwrap();
    assert!(backend.accept(offer));
    assert!(!backend.accept(offer), "the offer is of another time");
}

#[test]
fn one_that_was_down_proves_itself_with_one_request_and_starts_slowly() {
    let backend = backend();
    backend.bring_back();
    assert!(backend.eject("timeout") && !backend.eject("timeout"));
    assert_eq!(&*backend.status(), "timeout");
    assert!(backend.offer(1).is_none());
    assert!(backend.bring_back());
    assert!(backend.accept(backend.offer(1).unwrap()));
    assert!(backend.offer(1).is_none(), "one at a time");
    backend.proved();
    assert_eq!(backend.state(), State::Up);
    let now = clock::now();
    assert_eq!(backend.weight(now), FIRST);
    assert_eq!(backend.weight(now + 1_800_000), FULL / 2);
    assert_eq!(backend.weight(now + 3_700_000), FULL);
    assert_eq!(backend.weight(now), FULL, "it is over");
}

#[test]
fn one_that_had_not_begun_has_nothing_to_prove() {
    let backend = backend();
    backend.eject("connection_refused");
    assert_eq!(backend.state(), State::Down);
    assert!(backend.bring_back());
    assert_eq!(backend.state(), State::Up);
}

#[test]
fn drained_and_paused_ones_get_nothing() {
    let backend = backend();
    backend.bring_back();
    backend.set_drained(true);
    assert!(backend.offer(1).is_none());
    backend.set_drained(false);
    backend.pause(Duration::from_secs(5));
    assert!(backend.offer(clock::now()).is_none());
    assert!(backend.offer(clock::now() + 5001).is_some());
}
