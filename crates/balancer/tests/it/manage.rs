//! Keys, the admin API, adapters, the list of backends, and what is seen from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use xgraft_balancer::ApiKey;

use crate::balancer::{Balancer, chat, config};
use crate::client::{self, Answer};
use crate::scripted::{Act, Asked, Scripted, answer, completion, models};

pub(crate) const ADMIN: &str = "authorization: Bearer admin\r\n";

async fn with_admin(backends: &[&Scripted]) -> Balancer {
    let urls: Vec<String> = backends.iter().map(|backend| backend.url()).collect();
    let mut config = config(&urls);
    config.admin_keys = vec![ApiKey::new("admin").unwrap()];
    let balancer = Balancer::start(config).await;
    balancer.until_up(backends.len()).await;
    balancer
}

impl Balancer {
    async fn admin(&self, method: &str, path: &str, body: Value) -> Answer {
        client::send(self.address, method, path, ADMIN, &body).await
    }
}

#[tokio::test]
async fn backends_come_and_go_at_run_time() {
    let (a, b) = (Scripted::saying("a").await, Scripted::saying("b").await);
    let balancer = with_admin(&[&a]).await;
    let url = |of: &Scripted| json!({"url": of.url()});
    let added = balancer.admin("POST", "/admin/backends", url(&b)).await;
    assert_eq!(added.status, 200, "{}", added.text());
    let twice = balancer.admin("POST", "/admin/backends", url(&b)).await;
    assert_eq!(twice.status, 409);
    balancer.until_up(2).await;
    assert_eq!(
        balancer.admin("POST", "/admin/drain", url(&a)).await.status,
        200
    );
    for _ in 0..10 {
        assert_eq!(balancer.chat(json!({})).await.said(), "b");
    }
    balancer.admin("POST", "/admin/undrain", url(&a)).await;
    while balancer.chat(json!({})).await.said() != "a" {}
    let gone = balancer.admin("DELETE", "/admin/backends", url(&b)).await;
    assert_eq!(gone.status, 200);
    for _ in 0..10 {
        assert_eq!(balancer.chat(json!({})).await.said(), "a");
    }
    let unknown = balancer.admin("POST", "/admin/drain", url(&b)).await;
    assert_eq!(unknown.status, 404);
    for wrong in [json!({}), json!({"url": "https://x"}), json!([])] {
        assert_eq!(
            balancer
                .admin("POST", "/admin/backends", wrong)
                .await
                .status,
            400
        );
    }
}

#[tokio::test]
async fn keys_open_what_they_are_for_and_are_not_passed_on() {
    let backend = Scripted::saying("ok").await;
    let mut config = config(&[backend.url()]);
    config.api_keys = vec![ApiKey::new("user").unwrap()];
    config.backend_key = Some(ApiKey::new("inner").unwrap());
    let balancer = Balancer::start(config).await;
    balancer.until_up(1).await;
    let post = async |headers: &str| {
        let path = "/v1/chat/completions";
        client::send(balancer.address, "POST", path, headers, &chat(json!({}))).await
    };
    for headers in [
        "",
        "authorization: Bearer wrong\r\n",
        "authorization: user\r\n",
    ] {
        let answer = post(headers).await;
        assert_eq!(
            (answer.status, answer.header("www-authenticate")),
            (401, Some("Bearer"))
        );
    }
    assert_eq!(backend.count(), 0);
    assert_eq!(post("authorization: Bearer user\r\n").await.status, 200);
    let asked = backend.asked.lock().unwrap()[0].clone();
    assert_eq!(asked.header("authorization"), Some("Bearer inner"));
    assert!(!asked.head.contains("user"));
    let admin = client::get(balancer.address, "/admin/backends").await;
    assert_eq!(admin.status, 403, "there is no admin key");
}

#[tokio::test]
async fn ids_and_headers_go_through() {
    let backend = Scripted::saying("ok").await;
    let balancer = Balancer::over(&[&backend]).await;
    let headers = "x-request-id: mine\r\nx-other: 1\r\nauthorization: Bearer own\r\naccept-encoding: gzip\r\n";
    let path = "/v1/chat/completions?a=b";
    let answer = client::send(balancer.address, "POST", path, headers, &chat(json!({}))).await;
    assert_eq!(answer.header("x-request-id"), Some("mine"));
    let asked = backend.asked.lock().unwrap()[0].clone();
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", path));
    assert_eq!(asked.header("x-request-id"), Some("mine"));
    assert_eq!(asked.header("x-other"), Some("1"));
    assert_eq!(asked.header("authorization"), Some("Bearer own"));
    assert_eq!(
        asked.header("host"),
        Some(backend.address.to_string().as_str())
    );
    assert_eq!(asked.header("accept-encoding"), None);
    assert_eq!(asked.header("connection"), None);
    assert_eq!(asked.json(), chat(json!({})));
    let made = balancer.chat(json!({})).await;
    assert_eq!(made.header("x-request-id").map(str::len), Some(16));
}

/// One of ours with these models, which takes an adapter if `loads`.
async fn with_models(names: &'static [&'static str], loads: bool) -> Scripted {
    Scripted::start(move |asked: &Asked| {
        vec![Act::Write(match asked.path.as_str() {
            "/v1/models" => models("xgraft", names),
            "/v1/load_lora_adapter" if loads => answer(200, "", "Success"),
            "/v1/load_lora_adapter" => answer(400, "", "{\"error\":{\"message\":\"no\"}}"),
            _ => completion(names[names.len() - 1]),
        })]
    })
    .await
}

#[tokio::test]
async fn an_adapter_is_asked_of_those_that_have_it() {
    let (a, b) = (
        with_models(&["base", "a"], true).await,
        with_models(&["base", "b"], true).await,
    );
    let balancer = Balancer::over(&[&a, &b]).await;
    for _ in 0..10 {
        for name in ["a", "b"] {
            assert_eq!(balancer.chat(json!({"model": name})).await.said(), name);
        }
    }
    let list = client::get(balancer.address, "/v1/models").await.json();
    let cards = list["data"].as_array().unwrap();
    let mut names: Vec<&str> = cards
        .iter()
        .map(|card| card["id"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["a", "b", "base"], "each once");
}

#[tokio::test]
async fn an_adapter_is_loaded_everywhere_once_and_everybody_is_reported() {
    let (a, b) = (
        with_models(&["m"], true).await,
        with_models(&["m"], false).await,
    );
    let balancer = with_admin(&[&a, &b]).await;
    let body = json!({"lora_name": "x", "lora_path": "y"});
    let open = balancer.post("/v1/load_lora_adapter", body.clone()).await;
    assert_eq!(open.status, 401);
    let report = balancer
        .admin("POST", "/v1/load_lora_adapter", body.clone())
        .await;
    assert_eq!(report.status, 502, "not all did it");
    let report = report.json();
    let of = |of: &Scripted| {
        let all = report["backends"].as_array().unwrap();
        all.iter()
            .find(|one| one["url"] == of.url())
            .unwrap()
            .clone()
    };
    assert_eq!(
        (&of(&a)["ok"], &of(&a)["status"]),
        (&json!(true), &json!(200))
    );
    assert_eq!(
        (&of(&b)["ok"], &of(&b)["message"]),
        (&json!(false), &json!("no"))
    );
    assert_eq!((a.count(), b.count()), (1, 1));
    assert_eq!(a.asked.lock().unwrap()[0].json(), body);
}

#[tokio::test]
async fn a_broadcast_does_not_wait_for_one_that_hangs_and_is_not_left_half_done() {
    let frozen = Arc::new(AtomicBool::new(false));
    let state = frozen.clone();
    let slow = Scripted::start(move |asked: &Asked| match asked.path.as_str() {
        _ if state.load(Ordering::SeqCst) => vec![Act::Hang],
        "/v1/models" => vec![Act::Write(models("xgraft", &["m"]))],
        "/v1/load_lora_adapter" => vec![
            Act::Sleep(Duration::from_millis(500)),
            Act::Write(answer(200, "", "Success")),
        ],
        _ => vec![Act::Write(completion("slow"))],
    })
    .await;
    let other = with_models(&["m"], true).await;
    let balancer = with_admin(&[&slow, &other]).await;
    let body = json!({"lora_name": "x", "lora_path": "y"});
    let path = "/v1/load_lora_adapter";
    let bytes = client::request("POST", path, ADMIN, &body.to_string());
    let mut socket = TcpStream::connect(balancer.address).await.unwrap();
    socket.write_all(&bytes).await.unwrap();
    while slow.count() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(socket);
    let start = Instant::now();
    while slow.active.load(Ordering::SeqCst) > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(start.elapsed() > Duration::from_millis(300), "it was left");
    frozen.store(true, Ordering::SeqCst);
    // It hangs while it is asked, and then is known to hang.
    for message in [
        "it stopped to answer",
        "not asked, because it is out: timeout",
    ] {
        let start = Instant::now();
        let report = balancer.admin("POST", path, body.clone()).await;
        assert!(start.elapsed() < Duration::from_secs(10));
        assert_eq!(report.status, 502);
        let report = report.json();
        let all = report["backends"].as_array().unwrap();
        let of = |one: &Scripted| all.iter().find(|said| said["url"] == one.url()).unwrap();
        assert_eq!(of(&other)["ok"], true);
        let said = of(&slow)["message"].as_str().unwrap();
        assert!(said.starts_with(message), "{said}");
        balancer.until_state(&slow, "down").await;
    }
}

#[tokio::test]
async fn the_list_is_followed_and_nothing_is_lost_when_it_is_broken() {
    let (a, b) = (Scripted::saying("a").await, Scripted::saying("b").await);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("backends");
    std::fs::write(&file, format!("# first\n{}\n", a.url())).unwrap();
    let mut config = config(&[]);
    config.backends_file = Some(file.clone());
    let balancer = Balancer::start(config).await;
    balancer.until_up(1).await;
    let half = b.url()[..b.url().len() - 1].to_owned();
    for wrong in [
        format!("{}\nnonsense\n", b.url()),
        String::new(),
        "#\n".to_owned(),
        half,
    ] {
        std::fs::write(&file, &wrong).unwrap();
        tokio::time::sleep(Duration::from_millis(2300)).await;
        assert_eq!(balancer.chat(json!({})).await.said(), "a", "{wrong:?}");
        let metrics = client::get(balancer.address, "/metrics").await.text();
        assert!(
            metrics.contains("xgraft_balancer_list_refused 1\n"),
            "{wrong:?}"
        );
    }
    std::fs::write(&file, format!("{}\n", b.url())).unwrap();
    let url = b.url();
    balancer
        .until("b alone", |status| {
            let all = status["backends"].as_object().unwrap();
            all.len() == 1 && all.get(&url).is_some_and(|b| b["state"] == "up")
        })
        .await;
    assert_eq!(balancer.chat(json!({})).await.said(), "b");
}

#[tokio::test]
async fn the_status_has_the_form_that_it_always_had() {
    let backend = Scripted::saying("ok").await;
    let balancer = Balancer::over(&[&backend]).await;
    for _ in 0..3 {
        balancer.chat(json!({})).await;
    }
    let status = balancer.status().await;
    assert!(status["timestamp"].as_str().unwrap().ends_with('Z'));
    assert_eq!(status["total_in_flight"], 0);
    let one = &status["backends"][&backend.url()];
    let expected = json!({"status": "healthy", "in_flight": 0, "total_requests": 3, "total_completed": 3, "error_count": 0});
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&one[name], value, "{name}");
    }
    let metrics = client::get(balancer.address, "/metrics").await.text();
    let url = backend.url();
    for line in [
        "xgraft_balancer_requests_total 3".to_owned(),
        "xgraft_balancer_request_seconds_count 3".to_owned(),
        format!("xgraft_balancer_backend_requests_total{{backend=\"{url}\"}} 3"),
        format!("xgraft_balancer_backend_up{{backend=\"{url}\"}} 1"),
    ] {
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    let page = client::get(balancer.address, "/").await;
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let page = page.text();
    assert!(
        !page.contains("http://") && !page.contains("https://"),
        "it loads nothing"
    );
    assert_eq!(client::get(balancer.address, "/health").await.status, 200);
}
