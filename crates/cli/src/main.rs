//! The `xgraft` command line: it parses arguments, strings the crates together, and prints.
//!
//! Data goes to stdout, everything else to stderr. Exit codes: 0 success, 1 failure, 2 usage.

mod args;
mod descriptors;
mod interrupt;
mod origin;
mod output;
mod progress;
mod table;
mod verbs;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::args::{Args, Verb};

/// The first argument of the launcher of a sandbox, which is this program again. No person types it.
const SANDBOX: &str = "__sandbox";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == SANDBOX) {
        let arguments: Vec<_> = arguments.collect();
        return ExitCode::from(xgraft_eval::sandbox::enter(&arguments));
    }
    let args = Args::parse();
    match run(&args) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<ExitCode> {
    log_to_stderr(args.always.verbose);
    // A fleet has servers to end before a second Ctrl-C ends it.
    if !matches!(args.verb, Verb::Fleet(_)) {
        interrupt::catch()?;
    }
    if let Some(threads) = args.verb.threads() {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()?;
    }
    match &args.verb {
        Verb::Extract(verb) => verbs::extract::run(verb, &args.always),
        Verb::Verify(verb) => verbs::verify::run(verb, &args.always),
        Verb::Sanitize(verb) => verbs::sanitize::run(verb, &args.always),
        Verb::Quantize(verb) => verbs::quantize::run(verb, &args.always),
        Verb::Card(verb) => verbs::card::run(verb, &args.always),
        Verb::Plan(verb) => verbs::plan::run(verb, &args.always),
        Verb::Dequantize(verb) => verbs::dequantize::run(verb, &args.always),
        Verb::Orthogonality(verb) => verbs::orthogonality::run(verb, &args.always),
        Verb::Merge(verb) => verbs::merge::run(verb, &args.always),
        Verb::Inspect(verb) => verbs::inspect::run(verb, &args.always),
        Verb::Autopsy(verb) => verbs::autopsy::run(verb, &args.always),
        Verb::Serve(verb) => verbs::serve::run(verb, &args.always),
        Verb::Balance(verb) => verbs::balance::run(verb, &args.always),
        Verb::Fleet(verb) => verbs::fleet::run(verb, &args.always),
        Verb::Diagnose(verb) => verbs::diagnose::run(verb, &args.always),
        Verb::Calibrate(verb) => verbs::calibrate::run(verb, &args.always),
        Verb::Eval(verb) => verbs::eval::run(verb, &args.always),
        Verb::Report(verb) => verbs::report::run(verb, &args.always),
    }
}

fn log_to_stderr(verbose: u8) {
    let default = match verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("XGRAFT_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        // Who cannot be told cannot be told that either.
        .log_internal_errors(false)
        .init();
}

/// Prints the chain of causes, then what to do about it.
fn report(error: &anyhow::Error) {
    #![expect(
        clippy::print_stderr,
        reason = "errors are for the person at the terminal"
    )]
    eprintln!("error: {error:#}");
    if let Some(hint) = hint(error) {
        eprintln!("hint: {hint}");
    }
}

fn hint(error: &anyhow::Error) -> Option<&str> {
    error.chain().find_map(|cause| {
        let extract = cause.downcast_ref::<xgraft_lora_extract::Error>();
        let checkpoint = cause.downcast_ref::<xgraft_checkpoint::Error>();
        let sanitize = cause.downcast_ref::<xgraft_adapter_sanitize::Error>();
        let quantize = cause.downcast_ref::<xgraft_quantize::Error>();
        let merge = cause.downcast_ref::<xgraft_lora_merge::Error>();
        let compare = cause.downcast_ref::<xgraft_orthogonality::Error>();
        let calibration = cause.downcast_ref::<xgraft_calibration::Error>();
        let autopsy = cause.downcast_ref::<xgraft_autopsy::Error>();
        let eval = cause.downcast_ref::<xgraft_eval::run::RunError>();
        let sandbox = cause.downcast_ref::<xgraft_eval::sandbox::SandboxError>();
        extract
            .and_then(xgraft_lora_extract::Error::hint)
            .or_else(|| checkpoint.and_then(xgraft_checkpoint::Error::hint))
            .or_else(|| sanitize.and_then(xgraft_adapter_sanitize::Error::hint))
            .or_else(|| quantize.and_then(xgraft_quantize::Error::hint))
            .or_else(|| merge.and_then(xgraft_lora_merge::Error::hint))
            .or_else(|| compare.and_then(xgraft_orthogonality::Error::hint))
            .or_else(|| calibration.and_then(xgraft_calibration::Error::hint))
            .or_else(|| autopsy.and_then(xgraft_autopsy::Error::hint))
            .or_else(|| eval.and_then(xgraft_eval::run::RunError::hint))
            .or_else(|| sandbox.and_then(xgraft_eval::sandbox::SandboxError::hint))
    })
}

/// A reader that went away (`xgraft … | head`) is no failure of ours.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
