//! The access log.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xgraft_balancer::ApiKey;

use crate::balancer::{Balancer, config};
use crate::client;
use crate::manage::ADMIN;
use crate::scripted::Scripted;

/// Where a balancer's access log goes.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn what_is_refused_and_what_is_administered_has_a_line_in_the_log_too() {
    let backend = Scripted::saying("ok").await;
    let mut config = config(&[backend.url()]);
    config.api_keys = vec![ApiKey::new("user").unwrap()];
    config.admin_keys = vec![ApiKey::new("admin").unwrap()];
    config.limits.body = 100;
    let lines = Lines::default();
    let balancer = Balancer::start_with_log(config, Some(Box::new(lines.clone()))).await;
    balancer.until_up(1).await;
    let send = async |method: &str, path: &str, headers: &str, body: Value| {
        let headers = format!("{headers}x-request-id: mine\r\n");
        let answer = client::send(balancer.address, method, path, &headers, &body).await;
        assert_eq!(answer.header("x-request-id"), Some("mine"), "{path}");
        answer.status
    };
    let (chats, user) = ("/v1/chat/completions", "authorization: Bearer user\r\n");
    let long = json!({"prompt": "a".repeat(200)});
    let url = json!({"url": backend.url()});
    let cases = [
        (
            send("POST", chats, "", json!({})).await,
            401,
            chats,
            "refused",
        ),
        (send("POST", chats, user, long).await, 413, chats, "refused"),
        (
            send("POST", chats, user, json!({})).await,
            200,
            chats,
            "complete",
        ),
        (
            send("GET", "/v1/models", "", json!({})).await,
            401,
            "/v1/models",
            "refused",
        ),
        (
            send("POST", "/admin/drain", user, url.clone()).await,
            401,
            "/admin/drain",
            "refused",
        ),
        (
            send("POST", "/admin/drain", ADMIN, url).await,
            200,
            "/admin/drain",
            "own",
        ),
        (
            send("GET", "/admin", ADMIN, json!({})).await,
            404,
            "/admin",
            "refused",
        ),
    ];
    client::get(balancer.address, "/health").await;
    let start = Instant::now();
    let lines = loop {
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        if lines.len() >= cases.len() {
            break lines;
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{text}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(lines.len(), cases.len(), "{lines:?}");
    for (line, (status, expected, path, outcome)) in lines.iter().zip(cases) {
        assert_eq!(status, expected, "{path}");
        let found = [
            &line["status"],
            &line["path"],
            &line["outcome"],
            &line["id"],
        ];
        assert_eq!(
            found,
            [
                &json!(status),
                &json!(path),
                &json!(outcome),
                &json!("mine")
            ]
        );
    }
    assert_eq!(backend.count(), 1, "`/admin` is not for a backend");
    let metrics = client::get(balancer.address, "/metrics").await.text();
    assert!(
        metrics.contains("xgraft_balancer_refused_total 5\n"),
        "{metrics}"
    );
    assert!(
        metrics.contains("xgraft_balancer_requests_total 1\n"),
        "{metrics}"
    );
}
