//! What is known of the servers of a fleet, as one table.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use xgraft_balancer::fleet::{Change, Member};

use super::file::Planned;
use crate::output::note;
use crate::table::Table;

/// After a change, before the table is shown: several often come together.
const SETTLE: Duration = Duration::from_millis(500);

/// All servers.
#[derive(Debug)]
pub(super) struct Board {
    rows: Mutex<Vec<Row>>,
    changed: Notify,
}

#[derive(Debug)]
struct Row {
    name: String,
    port: u16,
    device: String,
    model: String,
    pid: Option<u32>,
    state: &'static str,
    starts: u32,
    since: Instant,
}

impl Board {
    pub(super) fn new(planned: &[Planned]) -> Self {
        let row = |server: &Planned| Row {
            name: server.member.name.clone(),
            port: server.port,
            device: server.device.clone().unwrap_or_default(),
            model: server.model.clone(),
            pid: None,
            state: "starting",
            starts: 0,
            since: Instant::now(),
        };
        Self {
            rows: Mutex::new(planned.iter().map(row).collect()),
            changed: Notify::new(),
        }
    }

    /// Notes what happened to a server, and says it.
    pub(super) fn tell(&self, member: &Member, change: &Change) {
        let mut rows = self.rows();
        if let Some(row) = rows.iter_mut().find(|row| row.name == member.name) {
            row.note(change);
        }
        drop(rows);
        self.changed.notify_one();
        note(&format!("{}: {}", member.name, words(member, change)));
    }

    fn render(&self) -> String {
        let mut table = Table::new(&[
            "server", "pid", "port", "device", "model", "state", "restarts", "since",
        ]);
        for row in self.rows().iter() {
            table.row(vec![
                row.name.clone(),
                row.pid.map(|pid| pid.to_string()).unwrap_or_default(),
                row.port.to_string(),
                row.device.clone(),
                row.model.clone(),
                row.state.to_owned(),
                row.starts.saturating_sub(1).to_string(),
                format!("{} s", row.since.elapsed().as_secs()),
            ]);
        }
        table.render()
    }

    fn rows(&self) -> MutexGuard<'_, Vec<Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Row {
    fn note(&mut self, change: &Change) {
        self.since = Instant::now();
        self.pid = match change {
            Change::Started(pid) => Some(*pid),
            Change::Well | Change::Unwell => self.pid,
            _ => None,
        };
        self.starts += u32::from(matches!(change, Change::Started(_)));
        self.state = match change {
            Change::Started(_) => "starting",
            Change::Well => "well",
            Change::Unwell => "unwell",
            Change::Stopped => "stopped",
            _ => "waiting",
        };
    }
}

/// Shows the table after every change.
pub(super) async fn show(board: Arc<Board>) {
    loop {
        board.changed.notified().await;
        tokio::time::sleep(SETTLE).await;
        // What has changed meanwhile is shown with it.
        let _ = tokio::time::timeout(Duration::ZERO, board.changed.notified()).await;
        note(board.render().trim_end());
    }
}

fn words(member: &Member, change: &Change) -> String {
    let log = member.log.display();
    let again = |pause: &Duration| format!("again in {} s", pause.as_secs());
    match change {
        Change::Started(pid) => format!("runs as process {pid}; its output goes to {log}"),
        Change::NotStarted(error, pause) => format!("cannot start: {error}; {}", again(pause)),
        Change::Well => "is well".to_owned(),
        Change::Unwell => "does not answer about its health".to_owned(),
        Change::Hung(pause) => format!("hung and was ended, see {log}; {}", again(pause)),
        Change::Ended(status, pause) => format!("ended with {status}, see {log}; {}", again(pause)),
        Change::Stopped => "stopped".to_owned(),
        _ => "changed".to_owned(),
    }
}
