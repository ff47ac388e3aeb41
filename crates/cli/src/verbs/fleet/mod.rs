//! `xgraft fleet`

pub(crate) mod file;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use xgraft_balancer::fleet::{Change, Member, supervise};

use self::file::FleetFile;
use super::balance;
use crate::args::{Always, Args, Fleet, Verb};
use crate::output::note;

pub(crate) fn run(args: &Fleet, always: &Always) -> anyhow::Result<ExitCode> {
    let file = FleetFile::open(&args.file)?;
    let logs = file.logs(&args.file);
    fs_err::create_dir_all(&logs)?;
    let own = std::env::current_exe().context("cannot find this program")?;
    let planned = file.plan(&own.to_string_lossy(), &logs)?;
    let mut words: Vec<String> = ["xgraft", "balance", "--host", &file.host, "--port"]
        .map(str::to_owned)
        .to_vec();
    words.push(file.port.to_string());
    for server in &planned {
        words.extend(["--backend".to_owned(), server.url.as_str().to_owned()]);
    }
    words.extend(file.balance.iter().cloned());
    let balance = match Args::try_parse_from(words).context("`balance`")?.verb {
        Verb::Balance(balance) => balance,
        _ => anyhow::bail!("`balance`: expected arguments of `xgraft balance`"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    runtime.block_on(async {
        let (stop, stopped) = watch::channel(false);
        let mut members = JoinSet::new();
        for server in planned {
            let stopped = stopped.clone();
            members.spawn(async move { supervise(&server.member, stopped, tell).await });
        }
        // Its end, at Ctrl-C, comes when no request runs any more.
        let served = balance::serve(&balance, always).await;
        stop.send_replace(true);
        members.join_all().await;
        served.map(|()| ExitCode::SUCCESS)
    })
}

fn tell(member: &Member, change: Change) {
    let name = &member.name;
    let log = member.log.display();
    note(&match change {
        Change::Started(pid) => format!("{name}: runs as process {pid}; its output goes to {log}"),
        Change::NotStarted(error, pause) => {
            format!(
                "{name}: cannot start: {error}; again in {} s",
                pause.as_secs()
            )
        }
        Change::Ended(status, pause) => {
            format!(
                "{name}: ended with {status}, see {log}; again in {} s",
                pause.as_secs()
            )
        }
        Change::Stopped => format!("{name}: stopped"),
        _ => format!("{name}: changed"),
    });
}
