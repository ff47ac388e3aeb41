//! The file of a fleet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use xgraft_balancer::BackendUrl;
use xgraft_balancer::fleet::Member;

/// What is to run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FleetFile {
    /// Where the balancer listens.
    #[serde(default = "local")]
    pub(crate) host: String,
    #[serde(default = "balancer_port")]
    pub(crate) port: u16,
    /// Where the servers' output goes, beside the file unless it is absolute.
    #[serde(default = "logs")]
    logs: PathBuf,
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
    pub(crate) url: BackendUrl,
    pub(crate) port: u16,
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

impl FleetFile {
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
            let taken = |other: &Server| other.port == server.port;
            if server.port == file.port || file.servers[..index].iter().any(taken) {
                bail!("{}: port {} is used twice", path.display(), server.port);
            }
        }
        Ok(file)
    }

    pub(crate) fn logs(&self, file: &Path) -> PathBuf {
        file.parent().unwrap_or(Path::new("")).join(&self.logs)
    }

    /// Every server with its command; `own` is this program.
    pub(crate) fn plan(&self, own: &str, logs: &Path) -> anyhow::Result<Vec<Planned>> {
        self.servers
            .iter()
            .map(|server| server.plan(own, logs))
            .collect()
    }
}

impl Server {
    fn name(&self) -> String {
        let of_port = || format!("server-{}", self.port);
        self.name.clone().unwrap_or_else(of_port)
    }

    fn plan(&self, own: &str, logs: &Path) -> anyhow::Result<Planned> {
        let name = self.name();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        ensure!(
            !name.is_empty() && name.chars().all(is_plain),
            "server {name:?}: expected a name of letters, digits, '-', '_' and '.'"
        );
        let devices = self.device.iter();
        let devices = devices.map(|device| ("CUDA_VISIBLE_DEVICES".to_owned(), device.clone()));
        let own_env = self
            .env
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()));
        Ok(Planned {
            member: Member {
                command: self
                    .command(own)
                    .with_context(|| format!("server {name}"))?,
                env: devices.chain(own_env).collect(),
                log: logs.join(format!("{name}.log")),
                patience: Duration::from_secs(30),
                name,
            },
            url: BackendUrl::parse(&format!("http://127.0.0.1:{}", self.port))?,
            port: self.port,
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
        FleetFile::open(&path)?.plan("xgraft", Path::new("logs"))
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
        assert_eq!(planned[1].url.as_str(), "http://127.0.0.1:8001");
    }

    #[test]
    fn the_example_of_the_documentation_is_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/deploy/fleet.toml");
        let file = FleetFile::open(&path).unwrap();
        let planned = file.plan("xgraft", Path::new("logs")).unwrap();
        let names: Vec<&str> = planned.iter().map(|one| one.member.name.as_str()).collect();
        assert_eq!(names, ["gpu0", "gpu1", "gpu2", "cpu"]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in [
            "server = []",
            "[[server]]\nport = 1",
            "[[server]]\nport = 1\nmodel = \"a\"\ncommand = [\"b\"]",
            "[[server]]\nport = 1\nmodel = \"a\"\n[[server]]\nport = 1\nmodel = \"a\"",
            "[[server]]\nport = 8080\nmodel = \"a\"",
            "[[server]]\nport = 1\nmodel = \"a\"\nname = \"../x\"",
            "[[server]]\nport = 1\ncommand = [\"a\"]\nargs = [\"b\"]",
            "[[server]]\nport = 1\nmodel = \"a\"\nmodle = \"a\"",
        ] {
            assert!(plan(text).is_err(), "{text}");
        }
    }
}
