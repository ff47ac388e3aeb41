//! The arms of a comparison of methods as models that answer questions: which steps ask them, and what is served for each.
//!
//! Arms that stand on one model share its servers: two processes and the balancer before them, which run from the first of their
//! steps that is not up to date to the last. The fine-tune is the reference.

pub(super) mod ask;
mod controls;
mod fleet;
pub(super) mod judged;
pub(super) mod refused;
mod table;
mod verdict;

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
            let Evaluate {
                questions,
                more_questions,
                arguments,
                agent_arguments,
                ..
            } = self.evaluate;
            for arm in arms(serving) {
                steps.push(self.ask("eval", questions, arguments, serving, arm));
            }
            for arm in named_in(&self.evaluate.more_arms, serving) {
                let more = more_questions.iter();
                steps.extend(more.map(|q| self.ask("more", q, arguments, serving, arm)));
            }
            for arm in named_in(&self.evaluate.agent_arms, serving) {
                steps.push(self.ask("agent", questions, agent_arguments, serving, arm));
            }
            if let Some(arm) = self.killed(serving) {
                steps.push(self.kill(serving, arm));
            }
        }
        let (controls, eval): (Vec<&str>, Vec<&str>) = served
            .iter()
            .flat_map(arms)
            .partition(|arm| arm.starts_with(controls::PREFIX));
        steps.extend(self.distances(&served));
        steps.push(self.stats("eval", "stats", &eval, REFERENCE));
        for (kind, wanted) in [
            ("more", &self.evaluate.more_arms),
            ("agent", &self.evaluate.agent_arms),
        ] {
            let asked: Vec<&str> = served.iter().flat_map(|s| named_in(wanted, s)).collect();
            if asked.contains(&REFERENCE) {
                steps.push(self.stats(kind, "stats", &asked, REFERENCE));
            }
        }
        if let Some(right) = controls::right(self).filter(|_| !controls.is_empty()) {
            let beside: Vec<&str> = controls.into_iter().chain([right.as_str()]).collect();
            steps.push(self.stats("eval", controls::STATS, &beside, &right));
        }
        steps.extend(self.evaluate.judged_arms.iter().map(|arm| self.judged(arm)));
        steps.push(self.page(&eval));
        steps
    }

    /// What is served, in order: the base, the fine-tune, each quantized base with its adapters, each quantized fine-tune.
    fn served(&self) -> Vec<Serving> {
        let mut served = vec![
            serving("base", self.base, Vec::new()),
            serving(REFERENCE, self.tuned, Vec::new()),
        ];
        for (at, scheme) in self.schemes().enumerate() {
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

    /// The arm during whose second run a server and the client are killed, where there are controls: the first one with an adapter.
    fn killed<'s>(&self, serving: &'s Serving) -> Option<&'s str> {
        let scheme = self.schemes().next().filter(|_| self.evaluate.controls)?;
        let there = serving.name == format!("base-{scheme}");
        let first = serving.adapters.first().filter(|_| there)?;
        Some(&first.0)
    }

    fn ask(
        &self,
        kind: &str,
        questions: &Path,
        more: &[String],
        serving: &Serving,
        arm: &str,
    ) -> Step {
        let mut arguments = Arguments::new("eval");
        arguments.texts.push("run".to_owned());
        if self.evaluate.synthetic {
            arguments.texts.push("--synthetic".to_owned());
        }
        let mut arguments = arguments
            .option("--model", arm)
            .option("--tasks", &self.evaluate.tasks)
            .input("--data", questions);
        if self.evaluate.tasks.ends_with(".toml") {
            arguments.inputs.push(self.evaluate.tasks.clone().into());
        }
        arguments.texts.extend(more.iter().cloned());
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
        let Evaluate {
            questions,
            arguments,
            ..
        } = self.evaluate;
        let ask = self.ask("killed", questions, arguments, serving, arm);
        let unbroken = self.folder(&format!("eval-{arm}"));
        Step {
            kind: Kind::AskAndKill,
            inputs: ask.inputs.into_iter().chain([unbroken]).collect(),
            ..ask
        }
    }

    /// How far each arm's distributions are from the fine-tune's over the fine-tune's own answers.
    fn distances(&self, served: &[Serving]) -> Vec<Step> {
        let answers = self.folder(&format!("eval-{REFERENCE}"));
        let arms = served
            .iter()
            .flat_map(|serving| arms(serving).into_iter().map(move |arm| (serving, arm)));
        let arms = arms.filter(|(_, arm)| self.is_distant(arm));
        arms.map(|(serving, arm)| {
            let mut arguments = Arguments::new("calibrate");
            arguments.texts.push("compare".to_owned());
            arguments = arguments
                .path(&serving.model)
                .input("--reference", self.tuned)
                .input("--set", &answers);
            if let Some((_, adapter)) = serving.adapters.iter().find(|(name, _)| name == arm) {
                arguments = arguments.input("--adapter", adapter);
            }
            // `xgraft serve` multiplies with activations as they are.
            let how = ["--answers-only", "--weights-only"].map(str::to_owned);
            arguments.texts.extend(how);
            let arguments = arguments.option("--every", &self.evaluate.kl_every.to_string());
            self.step(&format!("kl-{arm}"), Kind::Distance, arguments)
        })
        .collect()
    }

    /// A beside B for every format and rank, and beside C at the largest rank.
    fn pairs(&self) -> Vec<String> {
        let largest = self.methods.ranks.iter().max();
        let of = |scheme: &String| -> Vec<String> {
            let ranks = self.methods.ranks.iter();
            let mut pairs: Vec<String> = ranks
                .map(|rank| format!("A-{scheme}-r{rank},B-{scheme}-r{rank}"))
                .collect();
            pairs.extend(largest.map(|rank| format!("A-{scheme}-r{rank},C-{scheme}")));
            pairs
        };
        self.schemes().flat_map(of).collect()
    }

    /// The fine-tune is at no distance from itself, what is spoiled is caught by its answers, and some ranks are left out.
    fn is_distant(&self, arm: &str) -> bool {
        let ranks = self.evaluate.kl_ranks.as_ref();
        let left_out = |ranks: &Vec<u32>| {
            let rank = arm
                .rsplit_once("-r")
                .and_then(|(_, rank)| rank.parse().ok());
            rank.is_some_and(|rank| !ranks.contains(&rank))
        };
        arm != REFERENCE && !arm.starts_with(controls::PREFIX) && !ranks.is_some_and(left_out)
    }

    fn stats(&self, kind: &str, name: &str, arms: &[&str], reference: &str) -> Step {
        let arguments = self.compare("stats", kind, arms, reference);
        self.step(&format!("{kind}-{name}"), Kind::Stats, arguments)
    }

    fn with_distances(&self, mut arguments: Arguments, arms: &[&str]) -> Arguments {
        for arm in arms.iter().filter(|arm| self.is_distant(arm)) {
            let distances = self.folder(&format!("kl-{arm}"));
            let named = format!("{arm}={}", distances.display());
            arguments.texts.extend(["--kl".to_owned(), named]);
            arguments.inputs.push(distances);
        }
        for pair in self.pairs() {
            arguments = arguments.option("--pair", &pair);
        }
        arguments
    }

    /// The annotation of an arm's answers by a scripted judge.
    fn judged(&self, arm: &str) -> Step {
        let mut arguments = Arguments::new("eval");
        arguments.texts.push("annotate".to_owned());
        arguments.inputs.push(self.folder(&format!("eval-{arm}")));
        self.step(&format!("judged-{arm}"), Kind::Judge, arguments)
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
        let arguments = arguments.option("--reference", reference);
        match kind == "eval" && reference == REFERENCE {
            true => self.with_distances(arguments, arms),
            false => arguments,
        }
    }

    /// The formats whose arms are asked.
    fn schemes(&self) -> impl Iterator<Item = &String> {
        let only = self.evaluate.schemes.as_ref();
        let all = self.methods.schemes.iter();
        all.filter(move |scheme| only.is_none_or(|only| only.contains(scheme)))
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

/// The arms of what is served that are among these names.
fn named_in<'s>(names: &[String], serving: &'s Serving) -> Vec<&'s str> {
    let wanted = |arm: &&str| names.iter().any(|name| name == arm);
    arms(serving).into_iter().filter(wanted).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    fn steps() -> Vec<Step> {
        let file = workspace::root().join("recipes/fixture.toml");
        all(&Recipe::read(&file).expect("parses"), Path::new("out"))
    }

    fn named<'a>(steps: &'a [Step], name: &str) -> &'a Step {
        let step = steps.iter().find(|step| step.name == name);
        step.unwrap_or_else(|| panic!("no step {name}"))
    }

    #[test]
    fn every_arm_is_asked_of_servers_that_have_it() {
        let steps = steps();
        for step in steps.iter().filter(|step| step.kind == Kind::Ask) {
            let serving = step.serving.as_ref().expect("is served");
            let arm = step.arguments.iter().position(|text| text == "--model");
            let arm = &step.arguments[arm.expect("names a model") + 1];
            assert!(arms(serving).contains(&arm.as_str()), "{}", step.name);
            assert!(step.inputs.contains(&serving.model), "{}", step.name);
        }
        let adapter = PathBuf::from("out/text.adapter-B-int2-r32");
        assert!(
            named(&steps, "text.eval-B-int2-r32")
                .inputs
                .contains(&adapter)
        );
    }

    #[test]
    fn every_arm_is_held_against_the_fine_tune_over_the_same_answers() {
        let steps = steps();
        let answers = PathBuf::from("out/text.eval-tuned");
        let of_pair = |step: &&Step| step.name.starts_with("text.kl-");
        let distances: Vec<&Step> = steps.iter().filter(of_pair).collect();
        // The base, and of each format A, B and C at rank 32.
        assert_eq!(distances.len(), 1 + 5 * 3);
        assert!(distances.iter().all(|step| step.inputs.contains(&answers)));
        let adapter = PathBuf::from("out/text.adapter-B-int2-r32");
        assert!(
            named(&steps, "text.kl-B-int2-r32")
                .inputs
                .contains(&adapter)
        );
        let counted = named(&steps, "text.eval-stats");
        let shown = counted.shown();
        assert!(
            distances
                .iter()
                .all(|step| counted.inputs.contains(&step.out))
        );
        assert_eq!(shown.matches("--pair").count(), 5 * 3, "{shown}");
        assert!(!named(&steps, "text.more-stats").shown().contains("--kl"));
    }

    #[test]
    fn the_unbroken_run_comes_before_the_one_with_kills() {
        let steps = steps();
        let place = |kind| steps.iter().position(|step| step.kind == kind);
        let killed = &steps[place(Kind::AskAndKill).expect("is there")];
        let unbroken = killed.inputs.last().expect("has inputs");
        let first = steps.iter().position(|step| step.out == *unbroken);
        assert!(first < place(Kind::AskAndKill), "{unbroken:?}");
    }

    #[test]
    fn controls_are_counted_apart() {
        let steps = steps();
        let arms = |name: &str| -> Vec<String> {
            let texts = named(&steps, name).arguments.iter();
            texts
                .take_while(|text| *text != "--kl")
                .filter_map(|text| Some(text.split_once("=out/")?.0.to_owned()))
                .collect()
        };
        assert_eq!(arms("text.eval-stats").len(), 2 + 5 * 5);
        let controls = arms("text.eval-controls");
        assert_eq!(controls.len(), 5);
        assert_eq!(controls.last().map(String::as_str), Some("A-fp8-block-r32"));
        assert_eq!(arms("text.agent-stats").len(), 4);
    }

    #[test]
    fn the_other_pairs_are_asked_about_two_formats_and_all_of_them_in_full() {
        let file = workspace::root().join("recipes/fixture.toml");
        let mut recipe = Recipe::read(&file).expect("parses");
        let arms = |recipe: &Recipe| {
            let steps = all(recipe, Path::new("out")).into_iter();
            steps
                .filter(|step| step.name.starts_with("elicited.eval-C-"))
                .map(|step| step.name)
                .collect::<Vec<_>>()
        };
        let some = ["elicited.eval-C-fp8-block", "elicited.eval-C-int2"];
        assert_eq!(arms(&recipe), some);
        recipe.fill();
        assert_eq!(arms(&recipe).len(), 4);
    }

    #[test]
    fn what_a_scripted_judge_says_is_in_no_table_of_arms() {
        let steps = steps();
        let judged = named(&steps, "text.judged-tuned");
        assert_eq!(judged.inputs, [PathBuf::from("out/text.eval-tuned")]);
        let others = steps.iter().filter(|step| step.kind != Kind::Judge);
        for step in others {
            assert!(!step.inputs.contains(&judged.out), "{}", step.name);
        }
    }

    #[test]
    fn without_a_recipe_nobody_is_asked() {
        let file = workspace::root().join("recipes/fixture.toml");
        let mut recipe = Recipe::read(&file).expect("parses");
        recipe.evaluate = Vec::new();
        assert!(all(&recipe, Path::new("out")).is_empty());
    }
}
