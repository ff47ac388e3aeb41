use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::models::ModelList;

fn backends(count: usize, limits: Limits) -> Arc<Backends> {
    let config = Config {
        limits,
        ..Config::new(Vec::new())
    };
    let backends = Backends::new(&config);
    for index in 0..count {
        let url = BackendUrl::parse(&format!("http://b{index}:1")).unwrap();
        backends.add(url).unwrap().bring_back();
    }
    backends
}

fn equal(count: usize) -> Arc<Backends> {
    backends(count, Limits::default())
}

fn in_flight(backends: &Backends) -> Vec<u32> {
    let table = backends.table();
    table
        .all
        .iter()
        .map(|backend| backend.in_flight())
        .collect()
}

fn spread(backends: &Backends) -> u32 {
    let counts = in_flight(backends);
    counts.iter().max().unwrap() - counts.iter().min().unwrap()
}

fn wanting(model: &str) -> Wanted {
    Wanted {
        model: Some(model.into()),
        ..Wanted::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whoever comes goes where the least is, so without departures no two backends differ by more than one; a departure
    /// can widen the gap, and arrivals close it again before anything else.
    #[test]
    fn equal_backends_never_differ_by_more_than_one_through_arrivals(
        count in 1_usize..9,
        steps in prop::collection::vec(any::<Option<u8>>(), 1..200),
    ) {
        let backends = equal(count);
        let mut leases = Vec::new();
        for step in steps {
            match step {
                Some(which) if !leases.is_empty() => {
                    let at = usize::from(which) % leases.len();
                    leases.swap_remove(at);
                }
                _ => {
                    let before = in_flight(&backends);
                    let lease = backends.pick(&Wanted::default()).unwrap();
                    let least = *before.iter().min().unwrap();
                    prop_assert_eq!(lease.backend.in_flight(), least + 1);
                    leases.push(lease);
                }
            }
        }
        let most = in_flight(&backends).into_iter().max().unwrap();
        let missing = in_flight(&backends).iter().map(|n| most - n).sum::<u32>();
        for _ in 0..missing {
            leases.push(backends.pick(&Wanted::default()).unwrap());
        }
        prop_assert_eq!(in_flight(&backends), vec![most; count]);
        leases.clear();
        prop_assert_eq!(in_flight(&backends), vec![0; count]);
    }

    #[test]
    fn affinity_never_leaves_the_bound(keys in prop::collection::vec(any::<u64>(), 1..100)) {
        let backends = equal(4);
        let mut leases = Vec::new();
        for key in keys {
            let wanted = Wanted { affinity: Some(key), ..Wanted::default() };
            leases.push(backends.pick(&wanted).unwrap());
            prop_assert!(spread(&backends) <= 1);
        }
    }
}

#[test]
fn arrivals_on_many_threads_differ_by_one_at_most() {
    let backends = equal(5);
    let leases = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1003 {
                    let lease = backends.pick(&Wanted::default());
                    leases.lock().unwrap().push(lease.unwrap());
                }
            });
        }
    });
    assert!(spread(&backends) <= 1);
    drop(leases);
    assert_eq!(in_flight(&backends), [0; 5]);
}

#[test]
fn ties_are_broken_fairly_also_between_some_of_them() {
    let backends = equal(4);
    let table = backends.table();
    table.all[3].set_drained(true);
    let mut chosen = [0_u32; 3];
    for _ in 0..30_000 {
        let lease = backends.pick(&Wanted::default()).unwrap();
        let at = table.all.iter().position(|b| b.id == lease.backend.id);
        chosen[at.unwrap()] += 1;
    }
    // Binomial with a standard deviation of 82.
    assert!(
        chosen.iter().all(|n| n.abs_diff(10_000) < 500),
        "{chosen:?}"
    );
}

#[test]
fn a_panic_gives_the_place_back() {
    let backends = equal(1);
    let thread = {
        let backends = backends.clone();
        std::thread::spawn(move || {
            let _lease = backends.pick(&Wanted::default()).unwrap();
            panic!("on purpose");
        })
    };
    assert!(thread.join().is_err());
    assert_eq!(in_flight(&backends), [0]);
}

#[test]
fn like_requests_go_to_like_backends_while_these_are_equal() {
    let backends = equal(8);
    let wanted = Wanted {
        affinity: Some(7),
        ..Wanted::default()
    };
    let first = backends.pick(&wanted).unwrap().backend.id;
    for _ in 0..20 {
        assert_eq!(backends.pick(&wanted).unwrap().backend.id, first);
    }
    let of_keys = |key| {
        let wanted = Wanted {
            affinity: Some(key),
            ..Wanted::default()
        };
        backends.pick(&wanted).unwrap().backend.id
    };
    let several: std::collections::HashSet<u64> = (0..64).map(of_keys).collect();
    assert_eq!(several.len(), 8, "and others to others");
}

#[test]
fn one_that_failed_is_avoided_while_there_is_another() {
    let backends = equal(2);
    let table = backends.table();
    let wanted = Wanted {
        avoid: vec![table.all[0].id],
        ..Wanted::default()
    };
    for _ in 0..10 {
        assert_eq!(backends.pick(&wanted).unwrap().backend.id, table.all[1].id);
    }
    table.all[1].eject("gone");
    assert_eq!(backends.pick(&wanted).unwrap().backend.id, table.all[0].id);
}

#[test]
fn a_model_goes_to_those_that_have_it_and_an_unknown_one_anywhere() {
    let backends = equal(3);
    let table = backends.table();
    table.all[0].set_models(ModelList::of(&["base", "a"]));
    table.all[1].set_models(ModelList::of(&["base", "b"]));
    table.all[2].set_models(ModelList::of(&["base"]));
    backends.models_changed();
    let to = |model: &str| -> std::collections::HashSet<u64> {
        (0..60)
            .map(|_| backends.pick(&wanting(model)).unwrap().backend.id)
            .collect()
    };
    assert_eq!(to("a"), [table.all[0].id].into());
    assert_eq!(to("b"), [table.all[1].id].into());
    assert_eq!(to("base").len(), 3);
    assert_eq!(to("nobody's").len(), 3);
    table.all[0].eject("gone");
    assert!(backends.pick(&wanting("a")).is_none(), "nobody else has it");
}

fn one_place() -> Limits {
    Limits {
        in_flight: 1,
        queue: 2,
        ..Limits::default()
    }
}

#[tokio::test]
async fn who_waits_is_served_in_order_and_as_many_as_may() {
    let backends = backends(1, one_place());
    let first = backends.pick(&Wanted::default()).unwrap();
    let soon = Instant::now() + Duration::from_secs(60);
    let (order, mut served) = tokio::sync::mpsc::unbounded_channel();
    let wait = |name: &'static str| {
        let (backends, order) = (backends.clone(), order.clone());
        tokio::spawn(async move {
            let lease = backends.acquire(&Wanted::default(), soon).await.unwrap();
            order.send(name).unwrap();
            drop(lease);
        })
    };
    let (a, b) = (wait("a"), {
        while backends.waiting() != 1 {
            tokio::task::yield_now().await;
        }
        wait("b")
    });
    while backends.waiting() != 2 {
        tokio::task::yield_now().await;
    }
    let full = backends.acquire(&Wanted::default(), soon).await;
    assert_eq!(full.unwrap_err(), NoBackend::QueueFull);
    drop(first);
    a.await.unwrap();
    b.await.unwrap();
    assert_eq!(served.recv().await, Some("a"));
    assert_eq!(served.recv().await, Some("b"));
    assert_eq!((backends.waiting(), in_flight(&backends)), (0, vec![0]));
}

#[tokio::test]
async fn who_waited_too_long_leaves_the_queue() {
    let backends = backends(1, one_place());
    let lease = backends.pick(&Wanted::default()).unwrap();
    let deadline = Instant::now() + Duration::from_millis(30);
    let waited = backends.acquire(&Wanted::default(), deadline).await;
    assert_eq!(waited.unwrap_err(), NoBackend::Timeout);
    assert_eq!(backends.waiting(), 0);
    drop(lease);
    assert_eq!(in_flight(&backends), [0]);
}

#[tokio::test]
async fn who_leaves_the_queue_gives_back_what_it_was_just_given() {
    let backends = backends(1, one_place());
    let lease = backends.pick(&Wanted::default()).unwrap();
    let soon = Instant::now() + Duration::from_secs(60);
    let wanted = Wanted::default();
    {
        let waiting = backends.acquire(&wanted, soon);
        tokio::pin!(waiting);
        let once = std::future::poll_fn(|context| {
            std::task::Poll::Ready(waiting.as_mut().poll(context).is_pending())
        });
        assert!(once.await);
        drop(lease);
        assert_eq!(in_flight(&backends), [1], "handed over");
    }
    assert_eq!(in_flight(&backends), [0]);
}

#[tokio::test]
async fn who_waits_for_one_model_does_not_stop_another() {
    let backends = backends(2, one_place());
    let table = backends.table();
    table.all[0].set_models(ModelList::of(&["a"]));
    table.all[1].set_models(ModelList::of(&["b"]));
    backends.models_changed();
    let busy = backends.pick(&wanting("a")).unwrap();
    let soon = Instant::now() + Duration::from_secs(60);
    let waiting = {
        let backends = backends.clone();
        tokio::spawn(async move { backends.acquire(&wanting("a"), soon).await.is_ok() })
    };
    while backends.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(backends.acquire(&wanting("b"), soon).await.is_ok());
    drop(busy);
    assert!(waiting.await.unwrap());
}
