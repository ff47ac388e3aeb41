//! Requests that every backend fails, and backends that fail every request.

use serde_json::json;

use crate::balancer::{Balancer, backends};
use crate::failover::{failing, good};
use crate::scripted::{Act, Asked, Scripted, answer, completion};

/// Does as told with a request that has `poison` in it, and answers all others.
async fn poisoned(acts: impl Fn() -> Vec<Act> + Send + Sync + 'static) -> Scripted {
    Scripted::start(move |asked: &Asked| {
        match String::from_utf8_lossy(&asked.body).contains("poison") {
            true => acts(),
            false => vec![Act::Write(completion("good"))],
        }
    })
    .await
}

fn poisonings(all: &[Scripted]) -> usize {
    let is_poison = |asked: &&Asked| String::from_utf8_lossy(&asked.body).contains("poison");
    let of = |one: &Scripted| one.asked.lock().unwrap().iter().filter(is_poison).count();
    all.iter().map(of).sum()
}

#[tokio::test]
async fn a_request_that_breaks_every_connection_is_not_brought_to_everybody() {
    let mut all = Vec::new();
    for _ in 0..6 {
        all.push(poisoned(|| vec![Act::Close]).await);
    }
    let balancer = Balancer::over(&all.iter().collect::<Vec<_>>()).await;
    // So that there are connections that were idle before.
    for _ in 0..30 {
        assert_eq!(balancer.chat(json!({})).await.said(), "good");
    }
    let answer = balancer.chat(json!({"user": "poison"})).await;
    assert_eq!(answer.status, 502);
    let message = answer.json()["error"]["message"].to_string();
    assert!(
        message.contains("broke 3 times") && message.contains("may be the cause"),
        "{message}"
    );
    assert_eq!(poisonings(&all), 3);
    for _ in 0..30 {
        assert_eq!(balancer.chat(json!({})).await.said(), "good");
    }
}

#[tokio::test]
async fn a_request_that_every_backend_answers_with_500_takes_nobody_out() {
    let mut all = Vec::new();
    for _ in 0..4 {
        all.push(poisoned(|| vec![Act::Write(answer(500, "", "{}"))]).await);
    }
    let balancer = Balancer::over(&all.iter().collect::<Vec<_>>()).await;
    for _ in 0..20 {
        assert_eq!(balancer.chat(json!({"user": "poison"})).await.status, 500);
        assert_eq!(balancer.chat(json!({})).await.said(), "good");
    }
    let status = balancer.status().await;
    for backend in backends(&status) {
        assert_eq!(
            (&backend["state"], &backend["ejections"]),
            (&json!("up"), &json!(0))
        );
    }
}

#[tokio::test]
async fn one_that_answers_500_to_what_others_can_is_taken_out_but_never_more_than_half_of_all() {
    let error = || failing(|| vec![Act::Write(answer(500, "", "{}"))]);
    let (a, b, c, d) = (error().await, error().await, error().await, good().await);
    let balancer = Balancer::over(&[&a, &b, &c, &d]).await;
    let mut out_at_once = 0;
    for _ in 0..40 {
        assert_eq!(balancer.chat(json!({})).await.said(), "good");
        let status = balancer.status().await;
        let out = backends(&status).filter(|one| one["state"] == "down");
        out_at_once = out_at_once.max(out.count());
    }
    assert_eq!(out_at_once, 2);
}
