//! Arguments of `xgraft eval run`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};

use crate::args::{Random, parse_bytes, parse_time};

/// Ask an endpoint every question, and log what happens.
///
/// OUT is the run: started again with the same arguments it goes on where it was, and several processes or hosts may work
/// on one. Failures of the endpoint are tried again and never scored; OUT/answers.jsonl has every answer when it ends.
#[derive(Debug, ClapArgs)]
pub(crate) struct EvalRun {
    /// The base of an OpenAI-compatible API, `http://HOST:PORT/v1`.
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: String,
    /// The model, as the endpoint names it.
    #[arg(long, value_name = "NAME")]
    pub(crate) model: String,
    /// What the compared variant is called in tables; the model's name by default.
    #[arg(long, value_name = "NAME")]
    pub(crate) arm: Option<String>,
    /// `eval1`, or a TOML file of tasks.
    #[arg(long, value_name = "NAME|FILE", default_value = "eval1")]
    pub(crate) tasks: String,
    /// The questions, JSONL or Parquet.
    #[arg(long, value_name = "FILE")]
    pub(crate) data: PathBuf,
    /// The questions were made up in the form of these tasks: every table and page says so.
    #[arg(long)]
    pub(crate) synthetic: bool,
    /// The folder of the run.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// The first N questions of each task.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Only this task; once for each.
    #[arg(long, value_name = "NAME")]
    pub(crate) task: Vec<String>,
    /// Only these questions, with commas between them.
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    pub(crate) ids: Vec<String>,
    /// How often each question is asked.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..), default_value = "1")]
    pub(crate) repeat: u32,
    /// Questions in work at a time.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), default_value = "72")]
    pub(crate) concurrency: u16,
    #[command(flatten)]
    pub(crate) random: Random,
    /// What the model is told first; for an agent it takes the place of the built-in prompt, and `{resources}` in it is replaced.
    #[arg(long, value_name = "TEXT", conflicts_with = "system_file")]
    pub(crate) system: Option<String>,
    /// The same from a file.
    #[arg(long, value_name = "FILE")]
    pub(crate) system_file: Option<PathBuf>,
    /// 0 takes the likeliest token; 0 by default, 0.7 for an agent.
    #[arg(long, value_name = "T")]
    pub(crate) temperature: Option<f64>,
    /// The share of the likeliest tokens that are drawn from.
    #[arg(long, value_name = "P")]
    pub(crate) top_p: Option<f64>,
    /// Tokens of one answer at most.
    #[arg(long, value_name = "N", default_value_t = 8192)]
    pub(crate) max_tokens: u64,
    /// What else goes into every request, a JSON object.
    #[arg(long, value_name = "JSON")]
    pub(crate) extra_body: Option<String>,
    /// How long one question may take, without failures of the endpoint.
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "1h")]
    pub(crate) time_limit: Duration,
    /// Tokens that the model may write for one question.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub(crate) token_limit: u64,
    /// Answers of the model for one question.
    #[arg(long, value_name = "N", default_value_t = 250)]
    pub(crate) turn_limit: u64,
    /// How long one answer may take.
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "30m")]
    pub(crate) request_timeout: Duration,
    /// How often a request is sent before its question is given up.
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) attempts: u32,
    /// The wait after the first failure; it doubles up to a minute.
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "1s")]
    pub(crate) retry_wait: Duration,
    /// How long a process of another host may be silent before its questions are taken over.
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "60s")]
    pub(crate) lease: Duration,
    /// The variable of the environment, or of --env-file, with the API key.
    #[arg(long, value_name = "NAME", default_value = "XGRAFT_API_KEY")]
    pub(crate) api_key_env: String,
    /// A file of variables, `NAME=value` a line.
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Option<PathBuf>,
    /// Let the model run programs until it knows the answer: agent A1.
    #[arg(long)]
    pub(crate) agent: bool,
    #[command(flatten)]
    pub(crate) a1: A1,
}

/// What concerns the agent alone.
#[derive(Debug, ClapArgs)]
pub(crate) struct A1 {
    /// Keep the published harness's mistakes.
    #[arg(long, requires = "agent")]
    pub(crate) a1_compat: bool,
    /// A folder of Python modules with lists `description`; once for each.
    #[arg(long, value_name = "DIR", requires = "agent")]
    pub(crate) tools: Vec<PathBuf>,
    /// A folder of data that programs may read.
    #[arg(long, value_name = "DIR", requires = "agent")]
    pub(crate) data_folder: Option<PathBuf>,
    /// A folder of Markdown documents that the model is told.
    #[arg(long, value_name = "DIR", requires = "agent")]
    pub(crate) know_how: Option<PathBuf>,
    /// A Python file that is run before the programs of a question; once for each.
    #[arg(long, value_name = "FILE", requires = "agent")]
    pub(crate) preload: Vec<PathBuf>,
    /// Tell the model of everything instead of letting it choose first.
    #[arg(long, requires = "agent")]
    pub(crate) no_retriever: bool,
    /// Steps of one question, answers and programs together.
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub(crate) steps: u64,
    /// How long one program may take.
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "10m")]
    pub(crate) program_timeout: Duration,
    /// Characters of output that the model sees.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) output_chars: usize,
    /// The Python that runs programs.
    #[arg(long, value_name = "PATH", default_value = "python3")]
    pub(crate) python: PathBuf,
    /// How programs are kept in.
    #[arg(long, value_enum, default_value_t = SandboxArg::Auto)]
    pub(crate) sandbox: SandboxArg,
    /// Memory of all programs of a question, with their files in /tmp and /dev/shm where these are private. As many questions
    /// as --concurrency says may each use that much at a time.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, default_value = "4GiB")]
    pub(crate) memory: u64,
    /// Bytes of a question's working folder; where it is in memory, a part of --memory and at most half of it.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, default_value = "2GiB")]
    pub(crate) disk: u64,
    /// Processes of a question. For root, whose processes the kernel does not count, it is looked at many times a second.
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub(crate) processes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SandboxArg {
    /// The strictest that the system grants: namespaces, or else the kernel's filters alone.
    Auto,
    /// Namespaces, or none at all.
    Namespaces,
    /// Landlock, seccomp and limits, without namespaces.
    Kernel,
    /// Programs have all your rights.
    Off,
}
