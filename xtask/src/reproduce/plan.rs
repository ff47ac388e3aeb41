//! `--dry-run`: what each step will cost, and whether it can begin.

use super::{
    model::Model,
    recipe::{Rates, Recipe},
    space,
    steps::{Kind, Priced, Step},
    units,
};
use crate::workspace;
use anyhow::{Result, bail};
use std::path::Path;
use xshell::Shell;

/// What a step reads, writes and computes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Price {
    pub(super) reads: u64,
    pub(super) writes: u64,
    pub(super) flops: f64,
}

impl Price {
    /// Reading and writing go beside the arithmetic, so the slower of the two decides.
    fn seconds(&self, rates: &Rates, cores: usize) -> f64 {
        let disk = (self.reads + self.writes) as f64 / (1e9 * rates.disk_gb_per_s);
        let arithmetic = self.flops / (1e9 * rates.gflops_per_core * cores as f64);
        disk.max(arithmetic)
    }
}

/// The models of a recipe, seen or published.
struct Models {
    base: Model,
    tuned: Model,
    quantized: Model,
}

impl Models {
    fn of(recipe: &Recipe) -> Result<Self> {
        let published = recipe.published.as_ref();
        let full = |dir: &Path| workspace::root().join(dir);
        let base = Model::find(&full(&recipe.base), published, |p| p.base_bytes_per_weight)?;
        let tuned = Model::find(&full(&recipe.tuned), published, |p| {
            p.tuned_bytes_per_weight
        })?;
        let given = recipe.quantized.as_ref().map(|dir| full(dir));
        let quantized = match given.filter(|dir| dir.join("config.json").is_file()) {
            Some(dir) => Model::of_dir(&dir)?,
            None => base.in_fp8(),
        };
        Ok(Self {
            base,
            tuned,
            quantized,
        })
    }

    fn price(&self, kind: Kind) -> Price {
        let adapter = |rank| self.base.adapter_bytes(rank);
        match kind {
            Kind::Methods(priced) => self.price(match priced {
                Priced::Quantize => Kind::Quantize,
                Priced::Extract { rank } => Kind::Extract { rank },
                Priced::Verify { rank, exact } => Kind::Verify { rank, exact },
            }),
            Kind::Quantize => Price {
                reads: self.base.bytes,
                writes: self.quantized.bytes,
                // Far less than reading costs.
                flops: 0.0,
            },
            Kind::Extract { rank } => Price {
                reads: self.base.bytes + self.tuned.bytes,
                writes: adapter(rank),
                flops: self.base.factorization_flops(rank),
            },
            Kind::Sanitize { rank } => Price {
                reads: adapter(rank),
                writes: adapter(rank),
                flops: 0.0,
            },
            Kind::Verify { rank, exact } => Price {
                reads: self.quantized.bytes + self.tuned.bytes + adapter(rank),
                writes: 0,
                flops: self.base.product_flops(rank)
                    + if exact {
                        self.base.exact_flops()
                    } else {
                        self.base.factorization_flops(rank)
                    },
            },
            Kind::Orthogonality { rank, noises } => Price {
                reads: noises as u64 * (self.base.bytes + self.quantized.bytes) + adapter(rank),
                writes: 0,
                // The noise times both factors of the adapter, and those of the controls.
                flops: 4.0 * noises as f64 * self.base.product_flops(rank),
            },
            Kind::Ask | Kind::AskAndKill | Kind::Distance => Price {
                reads: self.base.bytes,
                ..Price::default()
            },
            Kind::Stats
            | Kind::Judge
            | Kind::Page
            | Kind::Spoil
            | Kind::Control
            | Kind::MustFail
            | Kind::Report => Price::default(),
        }
    }
}

/// The price of every step.
pub(super) fn prices(recipe: &Recipe, steps: &[Step]) -> Result<Vec<Price>> {
    let models = Models::of(recipe)?;
    Ok(steps.iter().map(|step| models.price(step.kind)).collect())
}

/// Prints inputs, steps, prices and room; fails when the steps cannot begin.
pub(super) fn show(
    sh: &Shell,
    recipe: &Recipe,
    steps: &[Step],
    threads: Option<usize>,
) -> Result<()> {
    let models = Models::of(recipe)?;
    println!("{} ({})\n", recipe.title, recipe.name);
    show_inputs(recipe, &models);
    let cores =
        threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into));
    let total = show_steps(recipe, steps, &models, cores);
    let out = steps
        .first()
        .map(|step| step.out.clone())
        .unwrap_or_default();
    let free = space::free(sh, &out);
    let room = free.map_or_else(|| "unknown".to_owned(), units::bytes);
    println!(
        "room on the disk: {room} free, {} needed",
        units::bytes(total.writes)
    );
    let mut faults = recipe.missing_inputs();
    if free.is_some_and(|free| free < total.writes) {
        faults.push("the disk has not enough room".to_owned());
    }
    if faults.is_empty() {
        println!("ready: run the same command without --dry-run");
        return Ok(());
    }
    bail!("not ready:\n  {}", faults.join("\n  "))
}

fn show_inputs(recipe: &Recipe, models: &Models) {
    println!("inputs");
    for (role, path) in recipe.inputs() {
        let model = match role {
            "base" => Some(&models.base),
            "tuned" => Some(&models.tuned),
            "quantized" => Some(&models.quantized),
            _ => None,
        };
        let there = workspace::root().join(path).exists();
        let known = match (there, model) {
            (true, Some(model)) => format!(
                "{}, {} linears, from the headers",
                units::bytes(model.bytes),
                model.linears.len()
            ),
            (false, Some(model)) => format!(
                "MISSING; {}, {} linears by the published shapes",
                units::bytes(model.bytes),
                model.linears.len()
            ),
            (true, None) => "found".to_owned(),
            (false, None) => "MISSING".to_owned(),
        };
        println!("  {role:<15} {}  ({known})", path.display());
    }
    println!();
}

fn show_steps(recipe: &Recipe, steps: &[Step], models: &Models, cores: usize) -> Price {
    let rates = &recipe.rates;
    println!(
        "{:<16} {:>10} {:>10} {:>12} {:>10}",
        "step", "reads", "writes", "arithmetic", "about"
    );
    let mut total = Price::default();
    let mut seconds = 0.0;
    for step in steps {
        let price = models.price(step.kind);
        show_line(&step.name, &price, price.seconds(rates, cores));
        total.reads += price.reads;
        total.writes += price.writes;
        total.flops += price.flops;
        seconds += price.seconds(rates, cores);
    }
    show_line("all", &total, seconds);
    println!(
        "\nassuming {} GFLOP/s on each of {cores} cores and {} GB/s of disk; a step takes the longer of the two",
        rates.gflops_per_core, rates.disk_gb_per_s
    );
    total
}

fn show_line(name: &str, price: &Price, seconds: f64) {
    let (reads, writes) = (units::bytes(price.reads), units::bytes(price.writes));
    let flops = format!("{:.3} TFLOP", price.flops / 1e12);
    let seconds = units::seconds(seconds);
    println!("{name:<16} {reads:>10} {writes:>10} {flops:>12} {seconds:>10}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reproduce::steps;

    fn recipe(name: &str) -> Recipe {
        Recipe::read(&workspace::root().join("recipes").join(name)).expect("parses")
    }

    #[test]
    fn the_fixture_is_priced_from_its_headers() {
        let recipe = recipe("fixture.toml");
        let steps = steps::all(&recipe, Path::new("out"));
        let prices = prices(&recipe, &steps).expect("prices");
        assert!(prices[0].reads > 1_000_000 && prices[0].writes < prices[0].reads);
    }

    #[test]
    fn the_large_model_is_priced_from_its_published_shapes() {
        let mut recipe = recipe("qwen3-32b-biomni.toml");
        recipe.base = "no/such/base".into();
        recipe.tuned = "no/such/tuned".into();
        let models = Models::of(&recipe).expect("prices");
        assert!(!models.base.seen);
        let extract = models.price(Kind::Extract { rank: 256 });
        assert!(extract.reads > 131_000_000_000);
        let minutes = extract.flops / 200e9 / 60.0;
        assert!((5.0..25.0).contains(&minutes), "{minutes}");
    }
}
