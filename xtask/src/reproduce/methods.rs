//! Methods A, B and C beside each other: which steps make their arms.
//!
//! A: the delta of tuned and base, on the quantized base. B: the delta of tuned and quantized base, on it. C: the tuned model
//! itself, quantized. All are held against the tuned weights and against the base before it was quantized.

use super::recipe::{Methods, Recipe};
use super::steps::{Arguments, Kind, Priced, Step, step};
use std::path::Path;

/// The steps, in order; nothing if the recipe does not compare methods.
pub(super) fn all(recipe: &Recipe, out: &Path) -> Vec<Step> {
    let mut steps = Vec::new();
    for methods in &recipe.methods {
        let pair = Comparison {
            exact: recipe.verify.exact,
            base: methods.base.as_ref().unwrap_or(&recipe.base),
            tuned: methods.tuned.as_ref().unwrap_or(&recipe.tuned),
            methods,
            out,
        };
        steps.extend(pair.steps());
    }
    steps
}

/// Whether a step of the comparison is what an arm of the report is made of, and not what another step needs.
pub(super) fn is_arm(step: &Step) -> bool {
    let name = step.name.rsplit('.').next().unwrap_or_default();
    ["A-", "B-", "C-"].iter().any(|arm| name.starts_with(arm))
}

/// A step's name, with the pair's in front where it has one.
pub(super) fn named(methods: &Methods, name: &str) -> String {
    match methods.name.as_str() {
        "" => name.to_owned(),
        pair => format!("{pair}.{name}"),
    }
}

/// The comparison on one pair of models.
struct Comparison<'a> {
    methods: &'a Methods,
    base: &'a Path,
    tuned: &'a Path,
    exact: bool,
    out: &'a Path,
}

impl Comparison<'_> {
    fn steps(&self) -> Vec<Step> {
        let Methods {
            schemes,
            ranks,
            curve,
            ..
        } = self.methods;
        let mut all: Vec<u32> = ranks.iter().chain(curve).copied().collect();
        all.sort_unstable();
        all.dedup();
        let of_a = |rank: &u32| self.extract(&format!("adapter-A-r{rank}"), self.base, *rank);
        let mut steps: Vec<Step> = all.iter().map(of_a).collect();
        for (at, scheme) in schemes.iter().enumerate() {
            let ranks = if at == 0 { &all } else { ranks };
            steps.extend(self.on(scheme, ranks));
        }
        steps
    }

    /// All methods on one format.
    fn on(&self, scheme: &str, ranks: &[u32]) -> Vec<Step> {
        let quantized = self.quantize(&format!("base-{scheme}"), self.base, scheme, None);
        let served = quantized.out.clone();
        let c = self.quantize(&format!("C-{scheme}"), self.tuned, scheme, Some(self.base));
        let mut steps = vec![quantized, c];
        for rank in ranks {
            let a = self.out.join(self.named(&format!("adapter-A-r{rank}")));
            steps.push(self.verify(&format!("A-{scheme}-r{rank}"), &served, &a, *rank));
            let b = self.extract(&format!("adapter-B-{scheme}-r{rank}"), &served, *rank);
            let adapter = b.out.clone();
            steps.push(b);
            steps.push(self.verify(&format!("B-{scheme}-r{rank}"), &served, &adapter, *rank));
        }
        steps
    }

    fn named(&self, name: &str) -> String {
        named(self.methods, name)
    }

    fn quantize(&self, name: &str, model: &Path, scheme: &str, base: Option<&Path>) -> Step {
        let mut arguments = Arguments::new("quantize").path(model).scheme(scheme);
        if let Some(base) = base {
            arguments = arguments.input("--base", base);
        }
        step(
            &self.named(name),
            Kind::Methods(Priced::Quantize),
            arguments,
            self.out,
        )
    }

    fn extract(&self, name: &str, base: &Path, rank: u32) -> Step {
        let arguments = Arguments::new("extract")
            .input("--base", base)
            .input("--tuned", self.tuned)
            .option("--rank", &rank.to_string());
        step(
            &self.named(name),
            Kind::Methods(Priced::Extract { rank }),
            arguments,
            self.out,
        )
    }

    fn verify(&self, name: &str, base: &Path, adapter: &Path, rank: u32) -> Step {
        let exact = self.exact;
        // What an adapter leaves out of the fine-tune is reported, and is no reason to stop the comparison.
        let mut arguments = Arguments::new("verify")
            .input("--base", base)
            .input("--tuned", self.tuned)
            .input("--original", self.base)
            .input("--adapter", adapter)
            .option("--max-uncovered", "1");
        if exact {
            arguments.texts.push("--exact".to_owned());
        }
        step(
            &self.named(name),
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
        let methods = |name: &str, schemes: &[&str]| Methods {
            name: name.to_owned(),
            base: None,
            tuned: None,
            schemes: schemes.iter().map(|scheme| (*scheme).to_owned()).collect(),
            ranks: vec![8],
            curve: if name.is_empty() {
                vec![4, 8]
            } else {
                Vec::new()
            },
        };
        recipe.methods = vec![
            methods("", &["fp8-block", "int2"]),
            methods("other", &["int2-g256"]),
        ];
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
            "other.C-int2-g256",
            "other.A-int2-g256-r8",
            "other.B-int2-g256-r8",
        ];
        assert_eq!(arms, expected);
        let steps = all(&recipe, Path::new("out"));
        let grouped = steps
            .iter()
            .find(|step| step.name == "other.base-int2-g256");
        let arguments = grouped.expect("is there").shown();
        assert!(
            arguments.ends_with("--scheme int2 --group-size 256"),
            "{arguments}"
        );
        recipe.methods = Vec::new();
        assert!(all(&recipe, Path::new("out")).is_empty());
    }
}
