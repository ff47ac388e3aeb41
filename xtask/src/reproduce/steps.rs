//! The steps of the pipeline, as data.

use super::evaluate::{self, Serving};
use super::methods;
use super::recipe::Recipe;
use std::path::{Path, PathBuf};

/// One call of `xgraft`.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// The name of its folder: `extract-r32`.
    pub(super) name: String,
    /// What it is, for its price.
    pub(super) kind: Kind,
    /// The verb and its arguments, without `--out` and the global flags.
    pub(super) arguments: Vec<String>,
    /// The directories that it reads.
    pub(super) inputs: Vec<PathBuf>,
    /// The directory that it writes.
    pub(super) out: PathBuf,
    /// What is served meanwhile.
    pub(super) serving: Option<Serving>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Quantize,
    Extract {
        rank: u32,
    },
    Sanitize {
        rank: u32,
    },
    Verify {
        rank: u32,
        exact: bool,
    },
    Orthogonality {
        rank: u32,
        noises: usize,
    },
    /// A step of the comparison of methods, as what it costs.
    Methods(Priced),
    /// Questions to what is served.
    Ask,
    /// The same while a server and the client are killed; the last input has the answers of an unbroken run.
    AskAndKill,
    /// How far an arm is from the fine-tune over its answers.
    Distance,
    /// The counts of arms.
    Stats,
    /// A scripted judge's labels of a copy of the answers.
    Judge,
    /// The questions and answers of arms.
    Page,
    /// A copy with one thing wrong, by the program `spoil`.
    Spoil,
    /// An adapter that is no arm.
    Control,
    /// What `xgraft` has to refuse.
    MustFail,
    Report,
}

/// What a step of the comparison costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Priced {
    Quantize,
    Extract { rank: u32 },
    Verify { rank: u32, exact: bool },
}

impl Step {
    /// The verb and its arguments as one would type them.
    pub(super) fn shown(&self) -> String {
        let plain = |c: char| c.is_alphanumeric() || "-_=./".contains(c);
        let quoted = |text: &String| {
            if text.chars().all(plain) {
                text.clone()
            } else {
                format!("'{}'", text.replace('\'', "'\\''"))
            }
        };
        self.arguments
            .iter()
            .map(quoted)
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// The steps of a recipe, in order; their folders go below `out`.
pub(super) fn all(recipe: &Recipe, out: &Path) -> Vec<Step> {
    let mut steps = Vec::new();
    let quantized = match &recipe.quantized {
        Some(given) => given.clone(),
        None => add(&mut steps, quantize(recipe, out)),
    };
    let mut noises = vec![quantized.clone()];
    for scheme in &recipe.orthogonality.schemes {
        noises.push(add(&mut steps, noise(recipe, scheme, out)));
    }
    for rank in &recipe.ranks {
        let extracted = add(&mut steps, extract(recipe, *rank, out));
        let adapter = add(&mut steps, sanitize(recipe, *rank, &extracted, out));
        add(&mut steps, verify(recipe, *rank, &quantized, &adapter, out));
        add(
            &mut steps,
            orthogonality(recipe, *rank, &noises, &adapter, out),
        );
    }
    let compared = methods::all(recipe, out);
    let evaluated = evaluate::all(recipe, out);
    let report = report(recipe, &steps, &compared, &evaluated, out);
    steps.extend(compared);
    steps.extend(evaluated);
    steps.push(report);
    steps
}

/// Adds a step and gives what it makes.
fn add(steps: &mut Vec<Step>, step: Step) -> PathBuf {
    let out = step.out.clone();
    steps.push(step);
    out
}

fn quantize(recipe: &Recipe, out: &Path) -> Step {
    let arguments = Arguments::new("quantize")
        .path(&recipe.base)
        .option("--scheme", &recipe.quantize.scheme)
        .option("--layout", &recipe.quantize.layout);
    // The report calls a noise by this name.
    let name = format!("quantized-{}", recipe.quantize.scheme);
    step(&name, Kind::Quantize, arguments, out)
}

fn extract(recipe: &Recipe, rank: u32, out: &Path) -> Step {
    let arguments = Arguments::new("extract")
        .input("--base", &recipe.base)
        .input("--tuned", &recipe.tuned)
        .option("--rank", &rank.to_string())
        .option("--policy", &recipe.sanitize.policy)
        .limit("--max-dropped", recipe.extract.max_dropped);
    step(
        &format!("extract-r{rank}"),
        Kind::Extract { rank },
        arguments,
        out,
    )
}

fn sanitize(recipe: &Recipe, rank: u32, adapter: &Path, out: &Path) -> Step {
    let arguments = Arguments::new("sanitize")
        .path(adapter)
        .option("--policy", &recipe.sanitize.policy)
        .input("--base", &recipe.base);
    step(
        &format!("sanitize-r{rank}"),
        Kind::Sanitize { rank },
        arguments,
        out,
    )
}

fn verify(recipe: &Recipe, rank: u32, quantized: &Path, adapter: &Path, out: &Path) -> Step {
    let exact = recipe.verify.exact;
    let mut arguments = Arguments::new("verify")
        .input("--base", quantized)
        .input("--tuned", &recipe.tuned)
        .input("--adapter", adapter)
        .limit("--max-uncovered", recipe.extract.max_dropped);
    if exact {
        arguments.texts.push("--exact".to_owned());
    }
    step(
        &format!("verify-r{rank}"),
        Kind::Verify { rank, exact },
        arguments,
        out,
    )
}

/// The base in another format, for its noise only.
fn noise(recipe: &Recipe, scheme: &str, out: &Path) -> Step {
    let arguments = Arguments::new("quantize").path(&recipe.base).scheme(scheme);
    step(
        &format!("quantized-{scheme}"),
        Kind::Quantize,
        arguments,
        out,
    )
}

fn orthogonality(
    recipe: &Recipe,
    rank: u32,
    noises: &[PathBuf],
    adapter: &Path,
    out: &Path,
) -> Step {
    let mut arguments = Arguments::new("orthogonality");
    arguments.inputs.push(recipe.base.clone());
    for quantized in noises {
        let pair = format!("{}={}", recipe.base.display(), quantized.display());
        arguments = arguments.option("--noise", &pair);
        arguments.inputs.push(quantized.clone());
    }
    step(
        &format!("orthogonality-r{rank}"),
        Kind::Orthogonality {
            rank,
            noises: noises.len(),
        },
        arguments.input("--adapter", adapter),
        out,
    )
}

fn report(
    recipe: &Recipe,
    steps: &[Step],
    compared: &[Step],
    evaluated: &[Step],
    out: &Path,
) -> Step {
    let mut arguments = Arguments::new("report").option("--title", &recipe.title);
    let counts = evaluated.iter().filter(|step| step.kind == Kind::Stats);
    for step in steps.iter().chain(counts) {
        let labelled = format!("{}={}", step.name, step.out.display());
        arguments.texts.push(labelled);
        arguments.inputs.push(step.out.clone());
    }
    for step in compared.iter().filter(|step| methods::is_arm(step)) {
        let labelled = format!("{}={}", step.name, step.out.display());
        arguments.texts.extend(["--totals".to_owned(), labelled]);
        arguments.inputs.push(step.out.clone());
    }
    step("report", Kind::Report, arguments, out)
}

pub(super) fn step(name: &str, kind: Kind, arguments: Arguments, out: &Path) -> Step {
    Step {
        name: name.to_owned(),
        kind,
        arguments: arguments.texts,
        inputs: arguments.inputs,
        out: out.join(name),
        serving: None,
    }
}

/// Arguments under construction; every directory among them is an input.
pub(super) struct Arguments {
    pub(super) texts: Vec<String>,
    pub(super) inputs: Vec<PathBuf>,
}

impl Arguments {
    pub(super) fn new(verb: &str) -> Self {
        Self {
            texts: vec![verb.to_owned()],
            inputs: Vec::new(),
        }
    }

    pub(super) fn path(mut self, path: &Path) -> Self {
        self.texts.push(path.display().to_string());
        self.inputs.push(path.to_owned());
        self
    }

    pub(super) fn input(mut self, flag: &str, path: &Path) -> Self {
        self.texts.push(flag.to_owned());
        self.path(path)
    }

    /// A number format: `int2`, or `int2-g256` for `int2` in groups of 256.
    pub(super) fn scheme(self, scheme: &str) -> Self {
        let grouped = scheme.rsplit_once("-g");
        let grouped = grouped.filter(|(_, size)| size.bytes().all(|c| c.is_ascii_digit()));
        match grouped {
            Some((scheme, size)) => self.option("--scheme", scheme).option("--group-size", size),
            None => self.option("--scheme", scheme),
        }
    }

    /// A limit, where the recipe sets one.
    fn limit(self, flag: &str, value: Option<f64>) -> Self {
        match value {
            Some(value) => self.option(flag, &value.to_string()),
            None => self,
        }
    }

    pub(super) fn option(mut self, flag: &str, value: &str) -> Self {
        self.texts.extend([flag.to_owned(), value.to_owned()]);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    fn names(recipe: &Recipe) -> Vec<String> {
        all(recipe, Path::new("out"))
            .into_iter()
            .map(|step| step.name)
            .collect()
    }

    fn fixture() -> Recipe {
        let file = workspace::root().join("recipes/fixture.toml");
        let mut recipe = Recipe::read(&file).expect("parses");
        recipe.methods = Vec::new();
        recipe.orthogonality.schemes = Vec::new();
        recipe
    }

    #[test]
    fn the_report_reads_the_totals_of_every_arm() {
        let file = workspace::root().join("recipes/fixture.toml");
        let steps = all(&Recipe::read(&file).expect("parses"), Path::new("out"));
        let report = steps.last().expect("is there");
        for arm in steps.iter().filter(|step| methods::is_arm(step)) {
            assert!(report.inputs.contains(&arm.out), "{}", arm.name);
        }
        assert!(
            report
                .arguments
                .contains(&"small-delta.C-int2=out/small-delta.C-int2".to_owned())
        );
    }

    #[test]
    fn a_given_quantized_base_is_not_made_again() {
        let mut recipe = fixture();
        recipe.ranks = vec![8, 32];
        let ranks = [
            "extract-r8",
            "sanitize-r8",
            "verify-r8",
            "orthogonality-r8",
            "extract-r32",
            "sanitize-r32",
            "verify-r32",
            "orthogonality-r32",
        ];
        let expected = |first: &[&'static str]| [first, &ranks, &["report"]].concat();
        assert_eq!(names(&recipe), expected(&["quantized-fp8-block"]));
        recipe.quantized = Some("q".into());
        assert_eq!(names(&recipe), expected(&[]));
        let verify = &all(&recipe, Path::new("out"))[2];
        assert_eq!(verify.inputs[0], Path::new("q"));
    }

    #[test]
    fn more_noises_are_held_beside_the_adapter() {
        let mut recipe = fixture();
        recipe.orthogonality.schemes = vec!["int4".to_owned()];
        let steps = all(&recipe, Path::new("out"));
        let made = steps.iter().find(|step| step.name == "quantized-int4");
        let made = made.expect("is there").out.clone();
        let beside = steps.iter().find(|step| step.name == "orthogonality-r32");
        let beside = beside.expect("is there");
        assert!(beside.inputs.contains(&made));
        let noises = beside.arguments.iter().filter(|text| *text == "--noise");
        assert_eq!(noises.count(), 2);
    }

    #[test]
    fn the_check_reads_the_sanitized_adapter_and_the_report_reads_every_step() {
        let steps = all(&fixture(), Path::new("out"));
        let verify = steps
            .iter()
            .find(|s| matches!(s.kind, Kind::Verify { .. }))
            .expect("is there");
        assert!(
            verify
                .inputs
                .iter()
                .any(|dir| dir.starts_with("out/sanitize-r32"))
        );
        let report = steps.last().expect("is there");
        assert_eq!(report.inputs.len(), steps.len() - 1);
    }
}
