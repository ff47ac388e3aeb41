//! The arms of a comparison of methods as models that answer questions: which steps ask them, and what is served for each.
//!
//! Arms that stand on one model share its servers: two processes and the balancer before them, which run from the first of their
//! steps that is not up to date to the last. The fine-tune is the reference.

pub(super) mod ask;
mod controls;
mod fleet;
pub(super) mod refused;
mod table;

use super::{
    methods,
    recipe::{Evaluate, Methods, Recipe},
    steps::{Arguments, Kind, Step, step},
};
use std::path::{Path, PathBuf};

pub(super) use fleet::Fleet;
pub(super) use table::show;

/// What has to be served while a step runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Serving {
    /// The model's folder.
    pub(super) model: PathBuf,
    /// As its clients call it.
    pub(super) name: String,
    /// Adapters by name.
    pub(super) adapters: Vec<(String, PathBuf)>,
}

/// The steps, in order; nothing if the recipe does not evaluate.
pub(super) fn all(recipe: &Recipe, out: &Path) -> Vec<Step> {
    let pairs = recipe.evaluate.iter().filter_map(|evaluate| {
        let methods = recipe.methods.iter().find(|m| m.name == evaluate.methods)?;
        Some(Pair {
            evaluate,
            methods,
            base: methods.base.as_ref().unwrap_or(&recipe.base),
            tuned: methods.tuned.as_ref().unwrap_or(&recipe.tuned),
            out,
        })
    });
    pairs.flat_map(|pair| pair.steps()).collect()
}

/// The arm that the others are compared with.
const REFERENCE: &str = "tuned";

/// One pair of models with its questions.
struct Pair<'a> {
    evaluate: &'a Evaluate,
    methods: &'a Methods,
    base: &'a Path,
    tuned: &'a Path,
    out: &'a Path,
}

impl Pair<'_> {
    fn steps(&self) -> Vec<Step> {
        let mut steps = controls::made(self);
        let served = self.served();
        for serving in &served {
            for arm in arms(serving) {
                steps.push(self.ask("eval", &self.evaluate.questions, serving, arm));
            }
            for arm in self.of_more(serving) {
                let questions = &self.evaluate.more_questions;
                steps.extend(questions.iter().map(|q| self.ask("more", q, serving, arm)));
            }
            if let Some(arm) = self.killed(serving) {
                steps.push(self.kill(serving, arm));
            }
        }
        let asked = |kind: &str| -> Vec<&str> {
            let all = served.iter().flat_map(|serving| match kind {
                "more" => self.of_more(serving),
                _ => arms(serving),
            });
            all.collect()
        };
        let (eval, more) = (asked("eval"), asked("more"));
        let (controls, eval): (Vec<&str>, Vec<&str>) = eval
            .into_iter()
            .partition(|arm| arm.starts_with(controls::PREFIX));
        steps.push(self.stats("eval", "stats", &eval, REFERENCE));
        if self.evaluate.more_questions.is_some() && more.contains(&REFERENCE) {
            steps.push(self.stats("more", "stats", &more, REFERENCE));
        }
        if let Some(right) = controls::right(self).filter(|_| !controls.is_empty()) {
            let beside: Vec<&str> = controls.into_iter().chain([right.as_str()]).collect();
            steps.push(self.stats("eval", controls::STATS, &beside, &right));
        }
        steps.push(self.page(&eval));
        steps
    }

    /// What is served, in order: the base, the fine-tune, each quantized base with its adapters, each quantized fine-tune.
    fn served(&self) -> Vec<Serving> {
        let mut served = vec![
            serving("base", self.base, Vec::new()),
            serving(REFERENCE, self.tuned, Vec::new()),
        ];
        for (at, scheme) in self.methods.schemes.iter().enumerate() {
            let base = self.folder(&format!("base-{scheme}"));
            let mut adapters = Vec::new();
            for rank in &self.methods.ranks {
                let of_a = self.folder(&format!("adapter-A-r{rank}"));
                adapters.push((format!("A-{scheme}-r{rank}"), of_a));
                let of_b = self.folder(&format!("adapter-B-{scheme}-r{rank}"));
                adapters.push((format!("B-{scheme}-r{rank}"), of_b));
            }
            if at == 0 {
                adapters.extend(controls::adapters(self));
            }
            served.push(serving(&format!("base-{scheme}"), &base, adapters));
            let c = self.folder(&format!("C-{scheme}"));
            served.push(serving(&format!("C-{scheme}"), &c, Vec::new()));
        }
        served.extend(controls::models(self));
        served
    }

    /// The arms of what is served that are asked more questions.
    fn of_more<'s>(&self, serving: &'s Serving) -> Vec<&'s str> {
        let wanted = |arm: &&str| self.evaluate.more_arms.iter().any(|name| name == arm);
        arms(serving).into_iter().filter(wanted).collect()
    }

    /// The arm during whose second run a server and the client are killed: the first one with an adapter.
    fn killed<'s>(&self, serving: &'s Serving) -> Option<&'s str> {
        let scheme = self.methods.schemes.first()?;
        let there = serving.name == format!("base-{scheme}");
        let first = serving.adapters.first().filter(|_| there)?;
        Some(&first.0)
    }

    fn ask(&self, kind: &str, questions: &Path, serving: &Serving, arm: &str) -> Step {
        let mut arguments = Arguments::new("eval");
        arguments.texts.push("run".to_owned());
        let mut arguments = arguments
            .option("--model", arm)
            .option("--tasks", &self.evaluate.tasks)
            .input("--data", questions);
        arguments
            .texts
            .extend(self.evaluate.arguments.iter().cloned());
        arguments.inputs.push(serving.model.clone());
        let adapter = serving.adapters.iter().find(|(name, _)| name == arm);
        arguments.inputs.extend(adapter.map(|(_, dir)| dir.clone()));
        Step {
            serving: Some(serving.clone()),
            ..self.step(&format!("{kind}-{arm}"), Kind::Ask, arguments)
        }
    }

    /// The same questions again, while a server and the client are killed; the answers must be those of the first run.
    fn kill(&self, serving: &Serving, arm: &str) -> Step {
        let ask = self.ask("killed", &self.evaluate.questions, serving, arm);
        let unbroken = self.folder(&format!("eval-{arm}"));
        Step {
            kind: Kind::AskAndKill,
            inputs: ask.inputs.into_iter().chain([unbroken]).collect(),
            ..ask
        }
    }

    fn stats(&self, kind: &str, name: &str, arms: &[&str], reference: &str) -> Step {
        let arguments = self.compare("stats", kind, arms, reference);
        self.step(&format!("{kind}-{name}"), Kind::Stats, arguments)
    }

    /// One page with every question and what the arms said to it.
    fn page(&self, arms: &[&str]) -> Step {
        let arguments = self.compare("report", "eval", arms, REFERENCE);
        let title = format!("Answers of the pair {}", self.methods.name);
        let arguments = arguments.option("--title", title.trim_end());
        self.step("eval-page", Kind::Page, arguments)
    }

    fn compare(&self, verb: &str, kind: &str, arms: &[&str], reference: &str) -> Arguments {
        let mut arguments = Arguments::new("eval");
        arguments.texts.push(verb.to_owned());
        for arm in arms {
            let run = self.folder(&format!("{kind}-{arm}"));
            arguments.texts.push(format!("{arm}={}", run.display()));
            arguments.inputs.push(run);
        }
        arguments.option("--reference", reference)
    }

    fn step(&self, name: &str, kind: Kind, arguments: Arguments) -> Step {
        step(&self.named(name), kind, arguments, self.out)
    }

    fn named(&self, name: &str) -> String {
        methods::named(self.methods, name)
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.out.join(self.named(name))
    }
}

fn serving(name: &str, model: &Path, adapters: Vec<(String, PathBuf)>) -> Serving {
    Serving {
        model: model.to_owned(),
        name: name.to_owned(),
        adapters,
    }
}

/// A quantized base alone is no arm: it is there for its adapters.
fn arms(serving: &Serving) -> Vec<&str> {
    if serving.adapters.is_empty() {
        vec![&serving.name]
    } else {
        serving
            .adapters
            .iter()
            .map(|(name, _)| name.as_str())
            .collect()
    }
}
