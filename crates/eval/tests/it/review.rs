//! The review page, over HTTP and in a real browser.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use tokio::sync::oneshot;
use xgraft_dataset::Class;
use xgraft_eval::annotate::judge::Judgement;
use xgraft_eval::annotate::{Decision, Item, Key, Log, Opinion, signals};
use xgraft_eval::review::{Case, Review, queue};

use crate::browser::Browser;
use crate::runtime;

fn case(question: u32, response: &str, judged: Option<(Opinion, &str)>) -> Case {
    let key = Key {
        arm: "secret-arm".to_owned(),
        run: "0".to_owned(),
        question: format!("q{question}"),
    };
    let item = Item {
        key: key.clone(),
        task: "patient_gene_detection".to_owned(),
        prompt: "Which gene explains the phenotypes HP:0001250 and HP:0001263? <b>Answer</b> with its symbol.".to_owned(),
        reference: "SCN1A".to_owned(),
        response: response.to_owned(),
        answer: Some("scn1a gene".to_owned()),
        class: Class::Wrong,
    };
    Case {
        signals: signals(&item),
        item,
        judgement: judged.map(|(opinion, reason)| Judgement {
            key,
            judge: "judge-1".to_owned(),
            asked: String::new(),
            opinion: Some(opinion),
            reason: reason.to_owned(),
        }),
    }
}

fn cases() -> Vec<Case> {
    let text = "<think>Seizures and delay.</think>\n**SCN1A** is known for both. SCN1A it is.\n\
                <solution>the sodium channel gene SCN1A <script>document.title = 'broken'</script></solution>";
    vec![
        case(1, text, Some((Opinion::Right, "It names SCN1A."))),
        case(
            2,
            "<solution>perhaps SCN2A or SCN1A</solution>",
            Some((Opinion::Wrong, "Two candidates.")),
        ),
        case(3, "I cannot tell.", None),
        case(4, "<solution>SCN1A</solution>", None),
    ]
}

/// Serves a review of `cases` until the guard goes.
struct Served {
    address: SocketAddr,
    review: Arc<Review>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

fn serve(cases: Vec<Case>, log: &Path) -> Served {
    let review = Arc::new(Review::open(cases, "ada", log).unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let (told, address) = std::sync::mpsc::channel();
    let served = Arc::clone(&review);
    let thread = std::thread::spawn(move || {
        runtime().block_on(async {
            let (listener, address) = Review::listen(0).await.unwrap();
            told.send(address).unwrap();
            let stopped = async { drop(stopped.await) };
            served.serve(listener, stopped).await.unwrap();
        });
    });
    Served {
        address: address.recv().unwrap(),
        review,
        stop: Some(stop),
        thread: Some(thread),
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn get(address: SocketAddr, path: &str, host: &str) -> String {
    ask(
        address,
        &format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"),
    )
}

fn decide(address: SocketAddr, index: usize, body: &str, more: &str) -> String {
    ask(
        address,
        &format!(
            "POST /api/case/{index}/decision HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{more}\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ),
    )
}

#[test]
fn the_queue_has_what_is_open_first_and_leaves_out_what_is_settled() {
    let names = |cases: Vec<Case>| -> Vec<String> {
        cases
            .into_iter()
            .map(|case| case.item.key.question)
            .collect()
    };
    let open = names(queue(cases(), false));
    assert_eq!((open.len(), &*open[0]), (3, "q3"));
    assert_eq!(names(queue(cases(), true)).last().unwrap(), "q4");
}

#[test]
fn decisions_are_kept_with_who_and_when_and_outlive_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("human.jsonl");
    {
        let served = serve(queue(cases(), false), &log);
        let answer = decide(served.address, 1, r#"{"opinion": "right"}"#, "");
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
        for (index, body, status) in [
            (1, r#"{"opinion": "maybe"}"#, "422"),
            (1, "{", "400"),
            (9, r#"{"opinion": "wrong"}"#, "404"),
        ] {
            let answer = decide(served.address, index, body, "");
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}")),
                "{answer}"
            );
        }
        assert_eq!(served.review.progress(), (3, 1));
    }
    let kept = Log::read::<Decision>(&log).unwrap();
    assert_eq!(
        (kept.len(), &*kept[0].who, kept[0].opinion),
        (1, "ada", Opinion::Right)
    );
    assert!(kept[0].when > 1_700_000_000);
    let again = serve(queue(cases(), false), &log);
    assert_eq!(again.review.progress(), (3, 1));
}

#[test]
fn pages_of_other_sites_cannot_reach_it() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(cases(), &dir.path().join("human.jsonl"));
    let own = get(served.address, "/", &served.address.to_string());
    assert!(
        own.starts_with("HTTP/1.1 200")
            && own.contains("content-security-policy: default-src 'none'")
    );
    // A name that leads to the loopback address by its owner's will.
    assert!(get(served.address, "/api/case/0", "evil.example").starts_with("HTTP/1.1 403"));
    let foreign = decide(
        served.address,
        0,
        r#"{"opinion": "right"}"#,
        "origin: http://evil.example\r\n",
    );
    assert!(foreign.starts_with("HTTP/1.1 403"));
    assert_eq!(served.review.progress().1, 0);
}

#[test]
fn the_page_loads_nothing_and_does_not_tell_the_arm() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(cases(), &dir.path().join("human.jsonl"));
    let host = served.address.to_string();
    let page = get(served.address, "/", &host);
    assert!(!page.contains("src=") && !page.contains("href=") && !page.contains("://"));
    assert!(!get(served.address, "/api/case/0", &host).contains("secret-arm"));
}

#[test]
#[ignore = "slow: drives a headless Chromium, which has to be installed"]
fn a_person_reviews_with_three_keys() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("human.jsonl");
    let served = serve(cases(), &log);
    let mut browser = Browser::open(&format!("http://{}/", served.address));
    browser.wait("document.body?.dataset.index === '0'");
    // What a model wrote is text, not part of the page.
    assert_eq!(browser.value("document.title"), "xgraft review");
    assert_eq!(
        browser.value("document.querySelectorAll('main script, main b').length"),
        0
    );
    for part in ["SCN1A", "It names SCN1A.", "judge-1", "HP:0001250"] {
        let expression = format!("document.querySelector('main').textContent.includes({part:?})");
        assert_eq!(browser.value(&expression), true, "{part}");
    }
    if let Some(path) = std::env::var_os("XGRAFT_SCREENSHOT") {
        browser.screenshot(Path::new(&path));
    }
    for (index, key) in ["1", "0", "n"].iter().enumerate() {
        browser.press(key);
        browser.wait(&format!("document.body?.dataset.index === '{}'", index + 1));
    }
    browser.press("ArrowLeft");
    browser.wait("document.body?.dataset.index === '2'");
    assert_eq!(
        browser.value("document.getElementById('status').textContent"),
        "you said: unsure"
    );
    // A key with a modifier is the browser's.
    browser.call(
        "Input.dispatchKeyEvent",
        &serde_json::json!({"type": "keyDown", "key": "1", "modifiers": 2}),
    );
    browser.value("document.getElementById('b0').click()");
    browser.wait("document.body?.dataset.index === '3'");
    let kept: Vec<_> = Log::read::<Decision>(&log).unwrap();
    let kept: Vec<_> = kept.iter().map(|d| (&*d.key.question, d.opinion)).collect();
    let expected = [
        ("q1", Opinion::Right),
        ("q2", Opinion::Wrong),
        ("q3", Opinion::Unsure),
        ("q3", Opinion::Wrong),
    ];
    assert_eq!(kept, expected);
    // The page that was closed goes on where it was.
    browser.call("Page.reload", &serde_json::json!({}));
    browser.wait("document.body?.dataset.index === '3' && document.getElementById('count').textContent.includes('3 decided')");
    if let Some(path) = std::env::var_os("XGRAFT_SCREENSHOT") {
        browser.screenshot(&Path::new(&path).with_extension("end.png"));
    }
}
