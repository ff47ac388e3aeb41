//! One method on one format, as the label of its step names it.

use crate::{
    figures::Stroke,
    inputs::{Input, Inputs},
};

/// One method on one format, with one rank.
#[derive(Clone, Debug)]
pub(super) struct Arm<'a> {
    /// Which pair of models; empty where there is one only.
    pub(super) pair: &'a str,
    /// `A`, `B` or `C`.
    pub(super) method: &'a str,
    pub(super) scheme: &'a str,
    pub(super) rank: Option<u32>,
    input: &'a Input,
}

impl<'a> Arm<'a> {
    /// Of a label such as `A-fp8-block-r32`, `C-int4` or `elicited.A-int4-r8`.
    fn of(input: &'a Input) -> Option<Self> {
        let label = &input.label;
        let dotted = label.rsplit_once('.');
        let (pair, name) = dotted
            .filter(|(_, name)| method(name).is_some())
            .unwrap_or(("", label));
        let (method, rest) = method(name)?;
        let split = rest.rsplit_once("-r");
        let ranked = split.and_then(|(scheme, rank)| Some((scheme, rank.parse().ok()?)));
        let (scheme, rank) = match ranked {
            Some((scheme, rank)) => (scheme, Some(rank)),
            None => (rest, None),
        };
        input.total("total_relative_error")?;
        Some(Self {
            pair,
            method,
            scheme,
            rank,
            input,
        })
    }

    pub(super) fn get(&self, metric: &str) -> Option<f64> {
        self.input.total(metric)
    }

    /// `A r32`, `C`.
    pub(super) fn series(&self) -> String {
        match self.rank {
            Some(rank) => format!("{} r{rank}", self.method),
            None => self.method.to_owned(),
        }
    }
}

/// How a series is drawn among others: by its method, and in a lesser form below the largest rank.
pub(super) fn stroke(series: &str, largest: Option<u32>) -> Stroke {
    let (method, rank) = series.split_once(" r").unwrap_or((series, ""));
    let stroke = Stroke::of_method(method);
    match rank.parse().ok() {
        Some(rank) if Some(rank) < largest => stroke.lesser(),
        _ => stroke,
    }
}

fn method(name: &str) -> Option<(&str, &str)> {
    let split = name.split_once('-');
    split.filter(|(method, _)| ["A", "B", "C"].contains(method))
}

/// The arms of one pair of models.
pub(super) struct Pair<'a> {
    pub(super) name: &'a str,
    pub(super) arms: Vec<Arm<'a>>,
}

/// Every pair with its arms, in the order of the inputs.
pub(super) fn pairs(inputs: &Inputs) -> Vec<Pair<'_>> {
    let mut pairs: Vec<Pair<'_>> = Vec::new();
    for arm in inputs.0.iter().filter_map(Arm::of) {
        match pairs.iter_mut().find(|pair| pair.name == arm.pair) {
            Some(pair) => pair.arms.push(arm),
            None => pairs.push(Pair {
                name: arm.pair,
                arms: vec![arm],
            }),
        }
    }
    pairs
}

impl<'a> Pair<'a> {
    /// The formats, in the order in which they first appear.
    pub(super) fn schemes(&self) -> Vec<&'a str> {
        distinct(self.arms.iter().map(|arm| arm.scheme))
    }

    /// The arm of this format and series.
    pub(super) fn find(&self, scheme: &str, series: &str) -> Option<&Arm<'a>> {
        let mut arms = self.arms.iter();
        arms.find(|arm| arm.scheme == scheme && arm.series() == series)
    }

    /// ‖N‖/‖ΔW‖ of the base in this format; C's noise is that of another model, and stands in only where there is no other arm.
    pub(super) fn noise(&self, scheme: &str) -> Option<f64> {
        let these = || self.arms.iter().filter(|arm| arm.scheme == scheme);
        these()
            .filter(|arm| arm.method != "C")
            .chain(these())
            .find_map(|arm| arm.get("total_noise_ratio"))
    }

    /// A heading, with the pair's name where there are several.
    pub(super) fn title(&self, text: &str) -> String {
        match self.name {
            "" => text.to_owned(),
            name => format!("{text}, {name}"),
        }
    }
}

/// Each once, in the order in which it first appears.
pub(super) fn distinct<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut once = Vec::new();
    for item in all {
        if !once.contains(&item) {
            once.push(item);
        }
    }
    once
}
