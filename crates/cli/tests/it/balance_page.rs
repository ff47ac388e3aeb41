//! The status page in a real browser.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::process::{Process, SetAtEnd, open, read};
use crate::support::fixture;

const ADMIN: &str = "authorization: Bearer admin\r\n";

/// `XGRAFT_CHROMIUM`, or what systems call it.
fn chromium() -> PathBuf {
    if let Some(path) = std::env::var_os("XGRAFT_CHROMIUM") {
        return path.into();
    }
    let runs = |name: &&str| {
        let output = Command::new(name).arg("--version").output();
        output.is_ok_and(|output| output.status.success())
    };
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = names.into_iter().find(runs);
    found
        .expect("a Chromium; name one in XGRAFT_CHROMIUM")
        .into()
}

/// What is left of a page after some seconds, in a browser that reaches nothing but this machine.
fn browse(profile: &Path, url: &str, more: &[&str]) -> String {
    let profile = format!("--user-data-dir={}", profile.display());
    let args = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        "--window-size=1280,620",
        "--virtual-time-budget=4000",
        &profile,
    ];
    let output = Command::new(chromium())
        .args(args)
        .args(more)
        .arg(url)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The cells of the row of a backend, without what is around their text.
fn row(page: &str, url: &str) -> Vec<String> {
    let rows = page.split("<tr");
    let row = rows.into_iter().find(|row| row.contains(url));
    let row = row.unwrap_or_else(|| panic!("no row of {url} in {page}"));
    let cells = row.split("<td").skip(1);
    let text = |cell: &str| {
        let cell = cell.split_once('>').map_or("", |(_, text)| text);
        let pieces = cell.split('<').map(|piece| match piece.split_once('>') {
            Some((_, text)) => text,
            None => piece,
        });
        pieces.collect::<String>().trim().to_owned()
    };
    cells.map(text).collect()
}

fn server() -> Process {
    let base = fixture("tiny-qwen3-text/base");
    let args = ["serve", &base, "--port", "0", "--served-model-name", "tiny"];
    Process::start(&[&args[..], &["--threads", "1"]].concat())
}

#[test]
#[ignore = "slow: starts a Chromium, which must be there"]
fn the_page_shows_load_a_drained_and_an_ejected_backend_live_and_without_a_network() {
    let temp = tempfile::tempdir().unwrap();
    let mut servers: Vec<Process> = (0..4).map(|_| server()).collect();
    let urls: Vec<String> = servers.iter().map(Process::url).collect();
    let mut args = vec!["balance", "--port", "0", "--health-interval", "200ms"];
    args.extend(["--admin-key", "admin", "--max-in-flight", "3"]);
    args.extend(urls.iter().flat_map(|url| ["--backend", url]));
    let balancer = Process::start(&args);
    balancer.until("all up", |status| {
        crate::process::states(status)
            .iter()
            .all(|state| *state == "up")
    });
    let drained = json!({"url": urls[2]});
    assert_eq!(balancer.post_with("/admin/drain", ADMIN, &drained).0, 200);
    drop(servers.pop());
    balancer.until("one gone", |status| {
        status["backends"][&urls[3]]["state"] == "down"
    });
    let over = AtomicBool::new(false);
    let body = json!({"prompt": "Pick", "max_tokens": 3000, "ignore_eos": true, "stream": true})
        .to_string();
    let page = std::thread::scope(|scope| {
        let _over = SetAtEnd(&over);
        for _ in 0..8 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let asked = open(&balancer.address, "POST", "/v1/completions", "", &body);
                    asked.and_then(read).unwrap();
                }
            });
        }
        balancer.until("load", |status| {
            status["total_in_flight"] == 6 && status["waiting"] == 2
        });
        std::thread::sleep(Duration::from_secs(2));
        let first = browse(&temp.path().join("a"), &balancer.url(), &["--dump-dom"]);
        let page = browse(&temp.path().join("b"), &balancer.url(), &["--dump-dom"]);
        if let Some(file) = std::env::var_os("XGRAFT_SCREENSHOT") {
            let shot = format!("--screenshot={}", Path::new(&file).display());
            browse(&temp.path().join("c"), &balancer.url(), &[&shot]);
        }
        let requests =
            |page: &str| -> u64 { row(page, &urls[0])[5].replace(',', "").parse().unwrap() };
        assert!(requests(&first) < requests(&page), "{first}{page}");
        page
    });
    for (url, state) in urls.iter().zip(["up", "up", "drained", "down"]) {
        let cells = row(&page, url);
        assert!(cells[1].starts_with(state), "{cells:?}");
        let in_flight: u64 = cells[2].parse().unwrap();
        assert_eq!(in_flight > 0, state == "up", "{cells:?}");
    }
    let rate: f64 = row(&page, &urls[0])[3].parse().unwrap();
    assert!(rate >= 0.0);
    assert!(
        page.contains("2 of 4 backends take requests, as of "),
        "{page}"
    );
    let gone = &row(&page, &urls[3])[1];
    assert!(gone.contains("connection refused"), "{gone}");
}
