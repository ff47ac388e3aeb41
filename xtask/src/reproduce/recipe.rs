//! What a recipe file says.

use super::model::Published;
use crate::workspace;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// A pipeline's inputs and choices. Paths are relative to the workspace's folder.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Recipe {
    /// The file's name without its ending: the name of the output folder.
    #[serde(skip)]
    pub(super) name: String,
    /// The report's title.
    pub(super) title: String,
    /// The model that was fine-tuned.
    pub(super) base: PathBuf,
    /// The fine-tuned model.
    pub(super) tuned: PathBuf,
    /// The quantized base that will be served; made from the base when absent.
    pub(super) quantized: Option<PathBuf>,
    /// The adapters' ranks.
    pub(super) ranks: Vec<u32>,
    /// How base and tuned are made when they are not there.
    pub(super) synth: Option<Synth>,
    #[serde(default)]
    pub(super) quantize: Quantize,
    #[serde(default)]
    pub(super) extract: Extract,
    #[serde(default)]
    pub(super) sanitize: Sanitize,
    #[serde(default)]
    pub(super) verify: Verify,
    #[serde(default)]
    pub(super) orthogonality: Orthogonality,
    /// Methods A, B and C beside each other, once for each pair of models; left out when absent.
    #[serde(default)]
    pub(super) methods: Vec<Methods>,
    /// Questions for the arms of a comparison; left out when absent.
    #[serde(default)]
    pub(super) evaluate: Vec<Evaluate>,
    /// Which build of the tool: `dev`, which the tests use too, or `release`.
    #[serde(default)]
    pub(super) profile: Profile,
    #[serde(default)]
    pub(super) rates: Rates,
    /// The models' published shapes, to price the work before the files are there.
    pub(super) published: Option<Published>,
}

/// How the base is quantized.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Quantize {
    pub(super) scheme: String,
    pub(super) layout: String,
}

/// How the adapter is made.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct Extract {
    /// The largest share of the update's energy that tensors outside the adapter may have, here and in the check; the verbs'
    /// own limits when absent.
    pub(super) max_dropped: Option<f64>,
}

/// Whose loader must accept the adapter.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Sanitize {
    pub(super) policy: String,
}

/// How the adapter is checked.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Verify {
    /// Compute the optimum of each rank exactly.
    pub(super) exact: bool,
}

/// Whose noise is held beside the adapter.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Orthogonality {
    /// More formats of the base, beside the one that is served; written as in `methods`.
    pub(super) schemes: Vec<String>,
}

/// A synthetic pair; `base` and `tuned` must be the folders of these names in one folder.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Synth {
    /// The model whose shapes it has.
    pub(super) like: String,
    pub(super) layers: u16,
}

/// Methods A, B and C over number formats and ranks, by the weights that they serve.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Methods {
    /// What the report calls the pair of models; needed when there are several.
    #[serde(default)]
    pub(super) name: String,
    /// The model that was fine-tuned, if it is another one than the recipe's.
    pub(super) base: Option<PathBuf>,
    /// The fine-tuned model, if it is another one than the recipe's.
    pub(super) tuned: Option<PathBuf>,
    /// The formats that the base (A, B) and the fine-tune (C) are quantized to; `int2-g256` is `int2` in groups of 256.
    pub(super) schemes: Vec<String>,
    /// The ranks of A and B on every format.
    pub(super) ranks: Vec<u32>,
    /// More ranks on the first format.
    #[serde(default)]
    pub(super) curve: Vec<u32>,
}

/// The arms of one of [`Methods`] as models that answer questions.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Evaluate {
    /// The name of the comparison whose arms they are.
    pub(super) methods: String,
    /// Only these of its formats, unless everything is measured; all when absent.
    pub(super) schemes: Option<Vec<String>>,
    /// The questions of every arm.
    pub(super) questions: PathBuf,
    /// The questions were made up, and everything that is said of answers says so.
    #[serde(default)]
    pub(super) synthetic: bool,
    /// `eval1`, or a file of tasks.
    #[serde(default = "eval1")]
    pub(super) tasks: String,
    /// More arguments of `xgraft eval run`.
    #[serde(default)]
    pub(super) arguments: Vec<String>,
    /// Every so many questions the distance of each arm from the fine-tune is measured.
    #[serde(default = "one")]
    pub(super) kl_every: u32,
    /// Only of adapters of these ranks, unless everything is measured; of all when absent.
    pub(super) kl_ranks: Option<Vec<u32>>,
    /// More questions, for arms whose differences are small.
    pub(super) more_questions: Option<PathBuf>,
    /// These arms: `tuned`, `A-fp8-block-r32`, `C-int2`.
    #[serde(default)]
    pub(super) more_arms: Vec<String>,
    /// And these, where everything is measured.
    #[serde(default)]
    pub(super) more_arms_of_all: Vec<String>,
    /// Arms that also answer as agents, with programs in a sandbox; left out where there is no Python.
    #[serde(default)]
    pub(super) agent_arms: Vec<String>,
    /// The arguments of `xgraft eval run` for these, in place of `arguments`.
    #[serde(default)]
    pub(super) agent_arguments: Vec<String>,
    /// Arms of which a copy of the answers is annotated by a scripted judge, whose word counts nowhere.
    #[serde(default)]
    pub(super) judged_arms: Vec<String>,
    /// Whether spoiled adapters and models are made, which must be caught.
    #[serde(default)]
    pub(super) controls: bool,
}

fn one() -> u32 {
    1
}

fn eval1() -> String {
    "eval1".to_owned()
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Profile {
    #[default]
    Dev,
    Release,
}

/// What the machine is taken to do, for prices only.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct Rates {
    /// f32 products and sums of one core, in 10^9 a second.
    pub(super) gflops_per_core: f64,
    /// Reading and writing, in 10^9 bytes a second.
    pub(super) disk_gb_per_s: f64,
}

impl Default for Quantize {
    fn default() -> Self {
        Self {
            scheme: "fp8-block".to_owned(),
            layout: "hf".to_owned(),
        }
    }
}

impl Default for Sanitize {
    fn default() -> Self {
        Self {
            policy: "vllm".to_owned(),
        }
    }
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            gflops_per_core: 100.0,
            disk_gb_per_s: 1.0,
        }
    }
}

impl Recipe {
    pub(super) fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read the recipe {}", file.display()))?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        Self::parse(&text, &name).with_context(|| format!("recipe {}", file.display()))
    }

    fn parse(text: &str, name: &str) -> Result<Self> {
        let mut recipe: Self = toml::from_str(text)?;
        name.clone_into(&mut recipe.name);
        ensure!(
            !recipe.ranks.is_empty(),
            "`ranks` is empty: give one at least"
        );
        ensure!(
            !recipe.ranks.contains(&0),
            "`ranks` holds 0: a rank is at least 1"
        );
        ensure!(
            recipe.synth.is_none() || recipe.synth_folder().is_some(),
            "`synth` makes FOLDER/base and FOLDER/tuned: `base` and `tuned` must be these"
        );
        for methods in &recipe.methods {
            ensure!(
                !methods.schemes.is_empty() && !methods.ranks.is_empty(),
                "`methods` needs `schemes` and `ranks`"
            );
            let ranks = methods.ranks.iter().chain(&methods.curve);
            ensure!(
                ranks.min() != Some(&0),
                "`methods` holds a rank of 0: a rank is at least 1"
            );
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
            let same = recipe.methods.iter().filter(|m| m.name == methods.name);
            ensure!(
                methods.name.chars().all(plain) && same.count() == 1,
                "`methods` needs a `name` of letters, digits and `-` for each pair, found `{}`",
                methods.name
            );
        }
        for evaluate in &recipe.evaluate {
            ensure!(
                recipe.methods.iter().any(|m| m.name == evaluate.methods),
                "`evaluate` needs the name of one of `methods`, found `{}`",
                evaluate.methods
            );
            let methods = recipe.methods.iter().find(|m| m.name == evaluate.methods);
            let known = methods.map_or(&[][..], |methods| &methods.schemes);
            let wanted = evaluate.schemes.iter().flatten();
            let missing = wanted.clone().find(|scheme| !known.contains(scheme));
            ensure!(
                missing.is_none(),
                "`evaluate` of `{}` asks for the format `{}`, which its `methods` do not have",
                evaluate.methods,
                missing.map_or("", String::as_str)
            );
        }
        Ok(recipe)
    }

    /// Leaves nothing out: `--full`.
    pub(super) fn fill(&mut self) {
        for evaluate in &mut self.evaluate {
            evaluate.kl_every = 1;
            evaluate.kl_ranks = None;
            evaluate.schemes = None;
            let all = std::mem::take(&mut evaluate.more_arms_of_all);
            evaluate.more_arms.extend(all);
        }
    }

    /// The folder of a synthetic base and tuned.
    pub(super) fn synth_folder(&self) -> Option<&Path> {
        let folder = self.base.parent()?;
        let there = self.base.ends_with("base") && self.tuned == folder.join("tuned");
        there.then_some(folder)
    }

    /// The directories and files that the steps read from outside, by role.
    pub(super) fn inputs(&self) -> Vec<(&'static str, &Path)> {
        let models = [("base", &self.base), ("tuned", &self.tuned)];
        let quantized = self.quantized.as_ref().map(|dir| ("quantized", dir));
        let methods = self.methods.iter().flat_map(|methods| {
            let base = methods.base.as_ref().map(|dir| ("base (methods)", dir));
            let tuned = methods.tuned.as_ref().map(|dir| ("tuned (methods)", dir));
            base.into_iter().chain(tuned)
        });
        let evaluated = self.evaluate.iter().flat_map(|evaluate| {
            let more = evaluate.more_questions.iter();
            more.chain([&evaluate.questions])
                .map(|file| ("questions", file))
        });
        let all = models
            .into_iter()
            .chain(quantized)
            .chain(methods)
            .chain(evaluated);
        all.map(|(role, path)| (role, path.as_path())).collect()
    }

    /// What is wrong with the inputs, one line each; a synthetic pair is no input.
    pub(super) fn missing_inputs(&self) -> Vec<String> {
        let made = |role: &str| self.synth.is_some() && matches!(role, "base" | "tuned");
        let missing = |(role, path): (&str, &Path)| {
            let full = workspace::root().join(path);
            let path = path.display();
            if !full.exists() {
                if made(role) {
                    return None;
                }
                return Some(format!("{role}: {path} does not exist"));
            }
            let has_config = full.join("config.json").is_file();
            (role != "questions" && !has_config)
                .then(|| format!("{role}: {path} has no config.json"))
        };
        self.inputs().into_iter().filter_map(missing).collect()
    }

    pub(super) fn check_inputs(&self) -> Result<()> {
        let missing = self.missing_inputs();
        let (base, tuned) = (self.base.display(), self.tuned.display());
        ensure!(
            missing.is_empty(),
            "{}\nhint: put the models where the recipe says ({base}, {tuned}), or name them with --base, --tuned, --quantized",
            missing.join("\n")
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "title = 't'\nbase = 'b'\ntuned = 't'\nranks = [32]\n";

    #[test]
    fn the_least_recipe_quantizes_and_is_sanitized_for_vllm() {
        let recipe = Recipe::parse(LEAST, "x").expect("parses");
        assert_eq!(recipe.quantize.scheme, "fp8-block");
        assert_eq!(recipe.sanitize.policy, "vllm");
        assert!(recipe.quantized.is_none());
    }

    #[test]
    fn unknown_keys_and_bad_ranks_are_refused() {
        let refused = |more: &str| Recipe::parse(&format!("{LEAST}{more}"), "x").is_err();
        assert!(refused("rank = 8"));
        assert!(refused("[data]\nquestions = 'q'"), "no step reads it");
        let zero = LEAST.replace("[32]", "[8, 0]");
        assert!(Recipe::parse(&zero, "x").is_err());
        assert!(Recipe::parse(&LEAST.replace("32", ""), "x").is_err());
        let methods = "[[methods]]\nschemes = ['int8']\nranks = [8]\n";
        assert!(!refused(methods));
        assert!(refused(&methods.repeat(2)), "two pairs of one name");
        let asked = "[[evaluate]]\nmethods = ''\nquestions = 'q'\nschemes = ['int4']\n";
        assert!(refused(&format!("{methods}{asked}")), "no such format");
    }

    #[test]
    fn a_synthetic_pair_lies_in_one_folder_and_is_never_missing() {
        let synth = "[synth]\nlike = 'small'\nlayers = 64\n";
        assert!(Recipe::parse(&format!("{LEAST}{synth}"), "x").is_err());
        let paired = LEAST
            .replace("'b'", "'out/x/base'")
            .replace("tuned = 't'", "tuned = 'out/x/tuned'");
        let recipe = Recipe::parse(&format!("{paired}{synth}"), "x").expect("parses");
        assert_eq!(recipe.synth_folder(), Some(Path::new("out/x")));
        assert_eq!(recipe.missing_inputs(), Vec::<String>::new());
    }

    #[test]
    fn missing_inputs_are_named_by_role() {
        let recipe = Recipe::parse(LEAST, "x").expect("parses");
        assert_eq!(recipe.missing_inputs().len(), 2);
        assert!(recipe.missing_inputs()[0].starts_with("base: b does not exist"));
    }

    #[test]
    fn a_full_run_leaves_no_question_out() {
        let more = "[[methods]]\nschemes = ['int8']\nranks = [8]\n\
                    [[evaluate]]\nmethods = ''\nquestions = 'q'\nkl-every = 4\nkl-ranks = [8]\nschemes = ['int8']\n\
                    more-arms = ['tuned']\nmore-arms-of-all = ['base']\n";
        let mut recipe = Recipe::parse(&format!("{LEAST}{more}"), "x").expect("parses");
        recipe.fill();
        let all = &recipe.evaluate[0];
        assert_eq!((all.kl_every, &all.kl_ranks), (1, &None));
        assert_eq!((&all.schemes, all.more_arms.len()), (&None, 2));
    }

    #[test]
    fn every_recipe_of_the_repository_parses() {
        let dir = workspace::root().join("recipes");
        let mut count = 0;
        for entry in std::fs::read_dir(dir).expect("lists") {
            let path = entry.expect("lists").path();
            if path.extension().is_some_and(|e| e == "toml") {
                Recipe::read(&path).expect("parses");
                count += 1;
            }
        }
        assert!(count >= 2);
    }
}
