//! `xgraft fleet`

mod board;
pub(crate) mod file;
pub(crate) mod keys;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use xgraft_balancer::fleet::{Groups, supervise};

use self::board::Board;
use self::file::FleetFile;
use self::keys::Keys;
use super::balance;
use crate::args::{Always, Balance, Fleet};
use crate::interrupt;
use crate::output::judged;

pub(crate) fn run(args: &Fleet, always: &Always) -> anyhow::Result<ExitCode> {
    let own = std::env::current_exe().context("cannot find this program")?;
    let file = FleetFile::enter(&args.file)?;
    fs_err::create_dir_all(&file.logs)?;
    let mut planned = file.plan(&own.to_string_lossy())?;
    let mut balance = file.balance()?;
    let keys = Keys::of(&balance);
    keys.show(&mut balance);
    for server in &mut planned {
        keys.want(&mut server.member);
        server.member.probe.path.clone_from(&balance.health_path);
    }
    let groups = Groups::default();
    let all = groups.clone();
    interrupt::catch_with(move || all.kill_all())?;
    // On this thread, which lives as long as the process: the system asks the servers to end when it ends.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    runtime.block_on(keep(&balance, always, planned, groups))?;
    Ok(judged(!interrupt::in_haste()))
}

/// Until the fleet is asked to end, and everybody has.
async fn keep(
    balance: &Balance,
    always: &Always,
    planned: Vec<file::Planned>,
    groups: Groups,
) -> anyhow::Result<()> {
    let board = Arc::new(Board::new(&planned));
    let (stop, stopped) = watch::channel(false);
    let mut members = JoinSet::new();
    for server in planned {
        let (stopped, groups, board) = (stopped.clone(), groups.clone(), board.clone());
        members.spawn(async move {
            let tell = |member: &_, change| board.tell(member, &change);
            supervise(&server.member, &groups, stopped, tell).await;
        });
    }
    let showing = tokio::spawn(board::show(board.clone()));
    // Its end, at Ctrl-C, comes when no request runs any more.
    let served = balance::serve(balance, always).await;
    stop.send_replace(true);
    members.join_all().await;
    showing.abort();
    served
}
