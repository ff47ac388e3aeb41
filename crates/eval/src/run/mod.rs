//! A run: every question asked as often as planned, by any number of processes, each answer counted once.
//!
//! The folder of a run has `run.json` (what is measured), `events/` (a log for each process: the only truth), `claims/` and
//! `workers/` (who works on what), and when it ends `answers.jsonl`, which is made of the logs: one trajectory for each
//! attempt in the order of the questions, without times, so that equal work gives equal bytes.

mod attempt;
mod board;
mod claim;
mod config;
mod error;
mod event;
mod ledger;
mod progress;
mod report;
mod session;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use xgraft_dataset::{Class, Question};

pub use self::config::{Limits, Plan, Retries, Work};
pub use self::error::RunError;
pub use self::progress::{Progress, Snapshot};
pub use self::report::{Report, TaskCounts};

pub(crate) use self::attempt::Spoken;
pub(crate) use self::session::{End, Session};

use self::attempt::attempt;
use self::board::{Board, Next};
use self::claim::Claims;
use self::event::{Event, Log};
use self::ledger::{Key, Ledger};
use self::session::Shared;
use crate::agent::Agent;
use crate::client::Client;

/// How often a process looks whether others have finished.
const LOOK: Duration = Duration::from_millis(300);

/// Asks an endpoint to stop work.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Notify>);

impl Stop {
    /// Lets running attempts go, so that the next start makes them again.
    pub fn stop(&self) {
        self.0.notify_one();
    }
}

/// A run that is being worked on.
#[derive(Debug)]
struct Worker {
    shared: Shared,
    questions: Vec<Question>,
    agent: Option<Agent>,
    board: Mutex<Board>,
    log: Log,
    in_a_row: AtomicUsize,
    /// How often each failure of the endpoint ended an attempt.
    failures: Mutex<BTreeMap<String, u64>>,
}

/// Works on a run until every attempt has ended, here or in another process.
///
/// # Errors
/// The folder holds another run or cannot be written, a question has no task, the endpoint refuses or fails every
/// question, or programs cannot be run. What is done stays done.
pub async fn run(
    plan: Plan,
    work: Work,
    client: Client,
    questions: Vec<Question>,
    agent: Option<Agent>,
    progress: Progress,
    stop: Stop,
) -> Result<Report, RunError> {
    for question in &questions {
        plan.tasks.of(question)?;
    }
    plan.settle(&work.out)?;
    let claims = Claims::join(&work.out, work.lease)?;
    let events = work.out.join("events");
    let log = Log::create(&events.join(format!("{}.jsonl", claims.me())))?;
    let ledger = Ledger::new(&events, questions.iter().map(|q| q.id.as_str()));
    let runs = 0..plan.repeat;
    let keys = runs.flat_map(|run| (0..questions.len()).map(move |place| (place, run)));
    let keys: Vec<Key> = keys.collect();
    let (total, interval) = (keys.len(), claims.interval());
    let board = Board::new(ledger, claims, keys)?;
    progress.begin(total as u64, board.ledger.done().count() as u64);
    log.append(&Event::Started {
        concurrency: work.concurrency,
    })?;
    let worker = Arc::new(Worker {
        shared: Shared {
            plan,
            work,
            client,
            progress,
        },
        questions,
        agent,
        board: Mutex::new(board),
        log,
        in_a_row: AtomicUsize::new(0),
        failures: Mutex::default(),
    });
    let ended = worker.clone().drive(interval, &stop).await;
    Worker::close(worker, &ended)?.and_report(ended)
}

/// Whether all is done, or the process was asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Done,
    Asked,
}

impl Worker {
    async fn drive(self: Arc<Self>, interval: Duration, stop: &Stop) -> Result<Ended, RunError> {
        let mut lanes = JoinSet::new();
        for _ in 0..self.shared.work.concurrency {
            lanes.spawn(self.clone().lane());
        }
        let mut beat = tokio::time::interval(interval.max(Duration::from_millis(10)));
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                lane = lanes.join_next() => match lane {
                    None => return Ok(Ended::Done),
                    Some(Ok(Ok(()))) => {}
                    Some(Ok(Err(error))) => {
                        self.let_go(lanes).await;
                        return Err(error);
                    }
                    Some(Err(error)) => {
                        if let Ok(panic) = error.try_into_panic() {
                            std::panic::resume_unwind(panic);
                        }
                    }
                },
                _ = beat.tick() => self.board().claims.beat()?,
                _ = look.tick() => self.count()?,
                () = stop.0.notified() => {
                    self.let_go(lanes).await;
                    return Ok(Ended::Asked);
                }
            }
        }
    }

    /// Ends all lanes; their guards give their questions back.
    async fn let_go(&self, mut lanes: JoinSet<Result<(), RunError>>) {
        lanes.abort_all();
        while lanes.join_next().await.is_some() {}
    }

    /// One attempt after the other.
    async fn lane(self: Arc<Self>) -> Result<(), RunError> {
        loop {
            let next = self.board().next()?;
            match next {
                Next::Attempt(key, generation) => self.work_on(key, generation).await?,
                Next::Wait => tokio::time::sleep(LOOK).await,
                Next::Nothing => return Ok(()),
            }
        }
    }

    async fn work_on(&self, key: Key, generation: u32) -> Result<(), RunError> {
        let question = &self.questions[key.0];
        let run = key.1.to_string();
        self.log.append(&Event::Claimed {
            question: &question.id,
            run: &run,
            generation,
        })?;
        let mut given = GivenBack {
            worker: self,
            key,
            generation,
            over: false,
        };
        let retried = |attempt: u32, wait: Duration, error: &str| {
            self.shared.progress.retried();
            // A log that cannot be written is heard of at the end of the attempt.
            let _ = self.log.append(&Event::Retry {
                question: &question.id,
                run: &run,
                attempt,
                wait_ms: wait.as_millis() as u64,
                error,
            });
        };
        let asked = (self.shared.plan.tasks.of(question)?, question);
        let trajectory =
            &attempt(&self.shared, self.agent.as_ref(), asked, key.1, &retried).await?;
        let has_failed = trajectory.class == Class::Infrastructure;
        self.log.append(&if has_failed {
            Event::Failed {
                generation,
                trajectory,
            }
        } else {
            Event::Answer {
                generation,
                trajectory,
            }
        })?;
        given.over = true;
        if !has_failed {
            self.in_a_row.store(0, Ordering::Relaxed);
            return Ok(());
        }
        self.board().fail(key);
        let why = trajectory.detail.clone().unwrap_or_default();
        *self.failures().entry(why.clone()).or_default() += 1;
        self.failed(why)
    }

    /// Goes on after a failure, unless the endpoint fails everything.
    fn failed(&self, error: String) -> Result<(), RunError> {
        let count = self.in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        if count < self.shared.work.concurrency.max(3) {
            return Ok(());
        }
        Err(RunError::Down { count, error })
    }

    /// Brings the counters up to date.
    fn count(&self) -> Result<(), RunError> {
        let mut board = self.board();
        board.ledger.refresh()?;
        let mut classes = [0; 5];
        for (_, brief) in board.ledger.done() {
            classes[brief.class as usize] += 1;
        }
        classes[Class::Infrastructure as usize] = board.failures();
        self.shared.progress.count(classes);
        Ok(())
    }

    /// Closes the log, and what is left can make the report.
    fn close(worker: Arc<Self>, ended: &Result<Ended, RunError>) -> Result<Closed, RunError> {
        let reason = match ended {
            Ok(Ended::Done) => "done".to_owned(),
            Ok(Ended::Asked) => "asked to stop".to_owned(),
            Err(error) => error.to_string(),
        };
        // Why the log cannot be written is heard of when it is closed.
        let _ = worker.log.append(&Event::Stopped { reason: &reason });
        let worker =
            Arc::try_unwrap(worker).unwrap_or_else(|_| unreachable!("every lane has ended"));
        worker.log.finish()?;
        Ok(Closed {
            shared: worker.shared,
            questions: worker.questions,
            board: worker
                .board
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner),
            failures: worker
                .failures
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner),
        })
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, u64>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn board(&self) -> std::sync::MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives a question back when its attempt is dropped before its end.
struct GivenBack<'a> {
    worker: &'a Worker,
    key: Key,
    generation: u32,
    over: bool,
}

impl Drop for GivenBack<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        // If the log cannot be written, the claim ends with this process.
        let _ = self.worker.log.append(&Event::Released {
            question: &self.worker.questions[self.key.0].id,
            run: &self.key.1.to_string(),
            generation: self.generation,
        });
    }
}

/// A run whose log of this process is on the disk.
struct Closed {
    shared: Shared,
    questions: Vec<Question>,
    board: Board,
    failures: BTreeMap<String, u64>,
}

impl Closed {
    fn and_report(mut self, ended: Result<Ended, RunError>) -> Result<Report, RunError> {
        self.board.ledger.refresh()?;
        let failures = self.board.failures();
        let mut report = Report::make(
            &self.shared.plan,
            &self.questions,
            &self.board.ledger,
            failures,
            ended.as_ref().is_ok_and(|ended| *ended == Ended::Done),
        );
        report.failures = self.failures;
        report.write(&self.shared, &self.questions, &self.board.ledger)?;
        let _ = ended?;
        Ok(report)
    }
}
