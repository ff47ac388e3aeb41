//! Methods A, B and C beside each other: which steps make their arms.
//!
//! A: the delta of tuned and base, on the quantized base. B: the delta of tuned and quantized base, on it. C: the tuned model
//! itself, quantized. All are held against the tuned weights and against the base before it was quantized.

use super::recipe::{Methods, Recipe};
use super::steps::{Arguments, Kind, Priced, Step, step};
use std::path::{Path, PathBuf};

/// The steps, in order; nothing if the recipe does not compare methods.
pub(super) fn all(recipe: &Recipe, out: &Path) -> Vec<Step> {
    let Some(methods) = &recipe.methods else {
        return Vec::new();
    };
    let comparison = Comparison {
        recipe,
        methods,
        tuned: methods.tuned.as_ref().unwrap_or(&recipe.tuned),
        out,
    };
    comparison.steps()
}

/// Whether a step of the comparison is what an arm of the report is made of, and not what another step needs.
pub(super) fn is_arm(step: &Step) -> bool {
    ["A-", "B-", "C-"]
        .iter()
        .any(|arm| step.name.starts_with(arm))
}

struct Comparison<'a> {
    recipe: &'a Recipe,
    methods: &'a Methods,
    tuned: &'a Path,
    out: &'a Path,
}

impl Comparison<'_> {
    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut ranks: Vec<u32> = self
            .methods
            .ranks
            .iter()
            .chain(&self.methods.curve)
            .copied()
            .collect();
        ranks.sort_unstable();
        ranks.dedup();
        for rank in &ranks {
            steps.push(self.extract(&format!("adapter-A-r{rank}"), &self.recipe.base, *rank));
        }
        for (at, scheme) in self.methods.schemes.iter().enumerate() {
            let quantized =
                self.quantize(&format!("base-{scheme}"), &self.recipe.base, scheme, None);
            let served = quantized.out.clone();
            steps.push(quantized);
            steps.push(self.quantize(
                &format!("C-{scheme}"),
                self.tuned,
                scheme,
                Some(&self.recipe.base),
            ));
            let ranks = if at == 0 { &ranks } else { &self.methods.ranks };
            for rank in ranks {
                let a = self.out.join(format!("adapter-A-r{rank}"));
                steps.push(self.verify(&format!("A-{scheme}-r{rank}"), &served, &a, *rank));
                let b = self.extract(&format!("adapter-B-{scheme}-r{rank}"), &served, *rank);
                let adapter = b.out.clone();
                steps.push(b);
                steps.push(self.verify(&format!("B-{scheme}-r{rank}"), &served, &adapter, *rank));
            }
        }
        steps
    }

    fn quantize(&self, name: &str, model: &Path, scheme: &str, base: Option<&PathBuf>) -> Step {
        let mut arguments = Arguments::new("quantize")
            .path(model)
            .option("--scheme", scheme);
        if let Some(base) = base {
            arguments = arguments.input("--base", base);
        }
        step(name, Kind::Methods(Priced::Quantize), arguments, self.out)
    }

    fn extract(&self, name: &str, base: &Path, rank: u32) -> Step {
        let arguments = Arguments::new("extract")
            .input("--base", base)
            .input("--tuned", self.tuned)
            .option("--rank", &rank.to_string());
        step(
            name,
            Kind::Methods(Priced::Extract { rank }),
            arguments,
            self.out,
        )
    }

    fn verify(&self, name: &str, base: &Path, adapter: &Path, rank: u32) -> Step {
        let exact = self.recipe.verify.exact;
        // What an adapter leaves out of the fine-tune is reported, and is no reason to stop the comparison.
        let mut arguments = Arguments::new("verify")
            .input("--base", base)
            .input("--tuned", self.tuned)
            .input("--original", &self.recipe.base)
            .input("--adapter", adapter)
            .option("--max-uncovered", "1");
        if exact {
            arguments.texts.push("--exact".to_owned());
        }
        step(
            name,
            Kind::Methods(Priced::Verify { rank, exact }),
            arguments,
            self.out,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn every_format_has_its_three_methods_and_the_first_one_the_curve() {
        let mut recipe =
            Recipe::read(&workspace::root().join("recipes/fixture.toml")).expect("parses");
        recipe.methods = Some(Methods {
            tuned: None,
            schemes: vec!["fp8-block".into(), "int2".into()],
            ranks: vec![8],
            curve: vec![4, 8],
        });
        let arms: Vec<String> = all(&recipe, Path::new("out"))
            .into_iter()
            .filter(is_arm)
            .map(|step| step.name)
            .collect();
        let expected = [
            "C-fp8-block",
            "A-fp8-block-r4",
            "B-fp8-block-r4",
            "A-fp8-block-r8",
            "B-fp8-block-r8",
            "C-int2",
            "A-int2-r8",
            "B-int2-r8",
        ];
        assert_eq!(arms, expected);
        recipe.methods = None;
        assert!(all(&recipe, Path::new("out")).is_empty());
    }
}
