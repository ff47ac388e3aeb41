//! The file of a fleet. Its folder becomes the working directory, so that every relative path in it, of whatever program, is
//! relative to the file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Parser as _;
use serde::Deserialize;
use xgraft_balancer::BackendUrl;
use xgraft_balancer::fleet::{Member, Probe};

use crate::args::{Args, Balance, Verb};

/// What is to run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FleetFile {
    /// Where the balancer listens.
    #[serde(default = "local")]
    pub(crate) host: String,
    #[serde(default = "balancer_port")]
    pub(crate) port: u16,
    /// Where the servers' output goes.
    #[serde(default = "logs")]
    pub(crate) logs: PathBuf,
    /// Looks at the health of a server that was well, one every two seconds, that may fail in a row before it is ended and
    /// started again; 0 lets it hang.
    #[serde(default = "hung_after")]
    hung_after: u32,
    /// More arguments of `xgraft balance`.
    #[serde(default)]
    pub(crate) balance: Vec<String>,
    #[serde(rename = "server")]
    servers: Vec<Server>,
}

/// One server: a model that `xgraft serve` serves, or any command.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Server {
    name: Option<String>,
    port: u16,
    /// A directory for `xgraft serve`.
    model: Option<PathBuf>,
    /// Adapters by name.
    #[serde(default)]
    adapters: BTreeMap<String, PathBuf>,
    /// More arguments of `xgraft serve`.
    #[serde(default)]
    args: Vec<String>,
    /// In place of `model`: the program and its arguments.
    #[serde(default)]
    command: Vec<String>,
    /// The GPUs that it sees.
    device: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
}

/// One server as it is run.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) member: Member,
    pub(crate) port: u16,
    /// The model, or the program that was named in its place.
    pub(crate) model: String,
    pub(crate) device: Option<String>,
}

fn local() -> String {
    "127.0.0.1".to_owned()
}

fn balancer_port() -> u16 {
    8080
}

fn logs() -> PathBuf {
    "logs".into()
}

fn hung_after() -> u32 {
    15
}

/// Between two looks at the health of a server, and for its answer.
const INTERVAL: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(2);

impl FleetFile {
    /// Opens it, and goes to its folder.
    pub(crate) fn enter(path: &Path) -> anyhow::Result<Self> {
        let file = Self::open(path)?;
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            std::env::set_current_dir(dir)
                .with_context(|| format!("cannot go to {}", dir.display()))?;
        }
        Ok(file)
    }

    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let text = fs_err::read_to_string(path)?;
        let file: Self =
            toml::from_str(&text).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(
            !file.servers.is_empty(),
            "{}: expected a [[server]]",
            path.display()
        );
        for (index, server) in file.servers.iter().enumerate() {
            let before = &file.servers[..index];
            // Whoever asks a server has to know its port.
            ensure!(
                server.port != 0,
                "{}: server {:?}: expected a port from 1 on, found 0",
                path.display(),
                server.name()
            );
            let same_port = |other: &Server| other.port == server.port;
            if server.port == file.port || before.iter().any(same_port) {
                bail!("{}: port {} is used twice", path.display(), server.port);
            }
            let name = server.name();
            if before.iter().any(|other| other.name() == name) || name == "balancer" {
                bail!("{}: name {name:?} is used twice", path.display());
            }
        }
        Ok(file)
    }

    /// The arguments of the balancer.
    pub(crate) fn balance(&self) -> anyhow::Result<Balance> {
        let port = self.port.to_string();
        let mut words = vec!["xgraft", "balance", "--host", &self.host, "--port", &port];
        let urls: Vec<String> = self.servers.iter().map(Server::url).collect();
        words.extend(urls.iter().flat_map(|url| ["--backend", url]));
        words.extend(self.balance.iter().map(String::as_str));
        match Args::try_parse_from(words).context("`balance`")?.verb {
            Verb::Balance(balance) => Ok(balance),
            _ => bail!("`balance`: expected arguments of `xgraft balance`"),
        }
    }

    /// Every server with its command; `own` is this program.
    pub(crate) fn plan(&self, own: &str) -> anyhow::Result<Vec<Planned>> {
        let plan = |server: &Server| {
            server
                .plan(self, own)
                .with_context(|| format!("server {:?}", server.name()))
        };
        self.servers.iter().map(plan).collect()
    }
}

impl Server {
    fn name(&self) -> String {
        let of_port = || format!("server-{}", self.port);
        self.name.clone().unwrap_or_else(of_port)
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn plan(&self, file: &FleetFile, own: &str) -> anyhow::Result<Planned> {
        let name = self.name();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        ensure!(
            !name.is_empty() && name.chars().all(is_plain),
            "expected a name of letters, digits, '-', '_' and '.'"
        );
        let command = self.command(own)?;
        let model = self.model.as_ref().map(|model| model.display().to_string());
        let devices = self.device.iter();
        let devices = devices.map(|device| ("CUDA_VISIBLE_DEVICES".to_owned(), device.clone()));
        let own_env = self
            .env
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()));
        Ok(Planned {
            member: Member {
                env: devices.chain(own_env).collect(),
                without_env: Vec::new(),
                log: file.logs.join(format!("{name}.log")),
                patience: Duration::from_secs(30),
                probe: Probe {
                    url: BackendUrl::parse(&self.url())?,
                    path: "/health".to_owned(),
                    interval: INTERVAL,
                    timeout: TIMEOUT,
                    failures: file.hung_after,
                },
                name,
                command: command.clone(),
            },
            model: model.unwrap_or_else(|| command[0].clone()),
            port: self.port,
            device: self.device.clone(),
        })
    }

    fn command(&self, own: &str) -> anyhow::Result<Vec<String>> {
        match &self.model {
            None if self.command.is_empty() => bail!("expected `model` or `command`"),
            None if !self.adapters.is_empty() || !self.args.is_empty() => {
                bail!("`adapters` and `args` are for `model`; put them into `command`")
            }
            None => Ok(self.command.clone()),
            Some(_) if !self.command.is_empty() => {
                bail!("expected `model` or `command`, found both")
            }
            Some(model) => {
                let mut command = [own, "serve", &model.to_string_lossy(), "--port"]
                    .map(str::to_owned)
                    .to_vec();
                command.push(self.port.to_string());
                for (name, dir) in &self.adapters {
                    command.extend(["--lora".to_owned(), format!("{name}={}", dir.display())]);
                }
                command.extend(self.args.iter().cloned());
                Ok(command)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> anyhow::Result<Vec<Planned>> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("fleet.toml");
        std::fs::write(&path, text)?;
        FleetFile::open(&path)?.plan("xgraft")
    }

    #[test]
    fn a_model_is_served_by_us_and_a_command_by_itself() {
        let text = r#"
            [[server]]
            name = "a"
            port = 8000
            model = "base"
            adapters = {mine = "dir"}
            args = ["--threads", "2"]
            [[server]]
            port = 8001
            command = ["vllm", "serve", "base", "--port", "8001"]
            device = "1"
        "#;
        let planned = plan(text).unwrap();
        let first = planned[0].member.command.join(" ");
        assert_eq!(
            first,
            "xgraft serve base --port 8000 --lora mine=dir --threads 2"
        );
        assert_eq!(planned[1].member.name, "server-8001");
        assert_eq!(
            planned[1].member.env,
            [("CUDA_VISIBLE_DEVICES".to_owned(), "1".to_owned())]
        );
        assert_eq!(
            planned[1].member.probe.url.as_str(),
            "http://127.0.0.1:8001"
        );
        assert_eq!(
            (planned[0].model.as_str(), planned[1].model.as_str()),
            ("base", "vllm")
        );
    }

    #[test]
    fn the_example_of_the_documentation_is_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/deploy/fleet.toml");
        let file = FleetFile::open(&path).unwrap();
        let planned = file.plan("xgraft").unwrap();
        let names: Vec<&str> = planned.iter().map(|one| one.member.name.as_str()).collect();
        assert_eq!(names, ["gpu0", "gpu1", "gpu2", "cpu"]);
        assert_eq!(file.balance().unwrap().backends.len(), 4);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in [
            "server = []",
            "[[server]]\nport = 1",
            "[[server]]\nport = 1\nmodel = \"a\"\ncommand = [\"b\"]",
            "[[server]]\nport = 1\nmodel = \"a\"\n[[server]]\nport = 1\nmodel = \"a\"",
            "[[server]]\nport = 8080\nmodel = \"a\"",
            "[[server]]\nport = 0\nmodel = \"a\"",
            "[[server]]\nport = 1\nmodel = \"a\"\nname = \"../x\"",
            "[[server]]\nport = 1\nmodel = \"a\"\nname = \"balancer\"",
            "[[server]]\nport = 1\nmodel = \"a\"\nname = \"x\"\n[[server]]\nport = 2\nmodel = \"a\"\nname = \"x\"",
            "[[server]]\nport = 1\ncommand = [\"a\"]\nargs = [\"b\"]",
            "[[server]]\nport = 1\nmodel = \"a\"\nmodle = \"a\"",
        ] {
            assert!(plan(text).is_err(), "{text}");
        }
    }
}
