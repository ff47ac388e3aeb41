//! One label an attempt, and who agrees with whom: the fourth step.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::{Deserialize, Serialize};
use xgraft_dataset::Class;
use xgraft_statistics::{Agreement, Count, Estimate};

use super::judge::Judgement;
use super::{Decision, Entry, Item, Key, Log, LogError, Opinion, Signals, Triage};
use crate::stats::Share;

/// What an attempt counts as in the judged accuracy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Label {
    /// Right.
    Right,
    /// Wrong.
    Wrong,
    /// A limit was reached first.
    Overflow,
    /// The endpoint failed: not counted.
    Infrastructure,
    /// Nobody has said yet. It counts by its official score.
    Open,
}

/// Who gave the label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// A person.
    Human,
    /// The way the attempt ended.
    Class,
    /// The plain rules.
    Triage,
    /// The judge.
    Judge,
    /// Nobody.
    Nobody,
}

/// The label of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelRow {
    /// Which attempt.
    #[serde(flatten)]
    pub key: Key,
    /// Its task.
    pub task: String,
    /// How it ended by the official score.
    pub class: Class,
    /// What it counts as.
    pub label: Label,
    /// Who says so.
    pub by: By,
}

impl Entry for LabelRow {
    const SCHEMA: &'static str = "xgraft.label/1";
}

impl LabelRow {
    /// The class that the attempt has in the judged accuracy.
    #[must_use]
    pub fn judged(&self) -> Class {
        match self.label {
            Label::Right => Class::Right,
            Label::Wrong if self.class == Class::Right => Class::Wrong,
            Label::Overflow => Class::Overflow,
            Label::Infrastructure => Class::Infrastructure,
            Label::Wrong | Label::Open => self.class,
        }
    }
}

/// How well two raters agree.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Agreed {
    /// Attempts that both rated.
    pub n: u64,
    /// The share on which they agree.
    pub observed: f64,
    /// Cohen's kappa; none where both always say the same word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kappa: Option<Estimate>,
}

/// What annotation comes to, for one arm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The arm.
    pub arm: String,
    /// By the official score.
    pub strict: Share,
    /// By the labels.
    pub judged: Share,
    /// How many labels each source gave.
    pub by: BTreeMap<By, u64>,
    /// Judge and people, over all that both rated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge_human: Option<Agreed>,
    /// Judge and official score, over all that the judge rated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge_strict: Option<Agreed>,
    /// Official score and labels, over all that have both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strict_judged: Option<Agreed>,
}

/// One label for every item: people's word first, then how the attempt ended, the plain rules, and the judge.
///
/// Of several decisions on one attempt, and of several judgements, the last counts.
#[must_use]
pub fn aggregate(
    items: &[(Item, Signals)],
    judgements: &[Judgement],
    decisions: &[Decision],
) -> (Vec<LabelRow>, Vec<Summary>) {
    let judged = last_opinions(judgements.iter().filter_map(|j| Some((&j.key, j.opinion?))));
    let human = last_opinions(decisions.iter().map(|d| (&d.key, d.opinion)));
    let rows: Vec<LabelRow> = items
        .iter()
        .map(|(item, signals)| {
            let key = &item.key;
            let (label, by) = label(item, signals.triage, human.get(key), judged.get(key));
            LabelRow {
                key: key.clone(),
                task: item.task.clone(),
                class: item.class,
                label,
                by,
            }
        })
        .collect();
    let mut arms: BTreeMap<&str, Vec<&LabelRow>> = BTreeMap::new();
    for row in &rows {
        arms.entry(&row.key.arm).or_default().push(row);
    }
    let summaries = arms
        .into_iter()
        .map(|(arm, rows)| summary(arm, &rows, &judged, &human))
        .collect();
    (rows, summaries)
}

/// Reads the labels of a run.
///
/// # Errors
/// The file cannot be read, or a line is no label.
pub fn read_labels(path: &Path) -> Result<HashMap<Key, LabelRow>, LogError> {
    let rows = Log::read::<LabelRow>(path)?.into_iter();
    Ok(rows.map(|row| (row.key.clone(), row)).collect())
}

type Opinions<'a> = HashMap<&'a Key, Opinion>;

fn last_opinions<'a>(all: impl Iterator<Item = (&'a Key, Opinion)>) -> Opinions<'a> {
    all.collect()
}

fn label(
    item: &Item,
    triage: Triage,
    human: Option<&Opinion>,
    judge: Option<&Opinion>,
) -> (Label, By) {
    let said = |opinion: Option<&Opinion>| match opinion {
        Some(Opinion::Right) => Some(Label::Right),
        Some(Opinion::Wrong) => Some(Label::Wrong),
        Some(Opinion::Unsure) | None => None,
    };
    if let Some(label) = said(human) {
        return (label, By::Human);
    }
    match (item.class, triage) {
        (Class::Infrastructure, _) => (Label::Infrastructure, By::Class),
        (Class::Overflow, _) => (Label::Overflow, By::Class),
        (_, Triage::Right) => (Label::Right, By::Triage),
        (_, Triage::Wrong) => (Label::Wrong, By::Triage),
        _ => said(judge).map_or((Label::Open, By::Nobody), |label| (label, By::Judge)),
    }
}

const LEVEL: f64 = 0.95;

fn summary(arm: &str, rows: &[&LabelRow], judged: &Opinions, human: &Opinions) -> Summary {
    let share = |class: &dyn Fn(&LabelRow) -> Class| {
        let classes = rows.iter().map(|row| class(row));
        let scored: Vec<Class> = classes.filter(|class| class.is_scored()).collect();
        let right = scored.iter().filter(|class| **class == Class::Right);
        Share::of(Count::new(right.count() as u64, scored.len() as u64), LEVEL)
    };
    let decided = |opinions: &Opinions, key: &Key| match opinions.get(key) {
        Some(Opinion::Right) => Some(true),
        Some(Opinion::Wrong) => Some(false),
        Some(Opinion::Unsure) | None => None,
    };
    let both = rows
        .iter()
        .filter_map(|row| Some((decided(judged, &row.key)?, decided(human, &row.key)?)));
    let rated = rows
        .iter()
        .filter(|row| row.class.is_scored())
        .filter_map(|row| Some((decided(judged, &row.key)?, row.class == Class::Right)));
    let labelled = rows
        .iter()
        .filter(|row| matches!(row.label, Label::Right | Label::Wrong) && row.class.is_scored());
    let mut by = BTreeMap::new();
    for row in rows {
        *by.entry(row.by).or_default() += 1;
    }
    Summary {
        arm: arm.to_owned(),
        strict: share(&|row| row.class),
        judged: share(&LabelRow::judged),
        by,
        judge_human: agreed(&Agreement::of_verdicts(both)),
        judge_strict: agreed(&Agreement::of_verdicts(rated)),
        strict_judged: agreed(&Agreement::of_verdicts(
            labelled.map(|row| (row.class == Class::Right, row.label == Label::Right)),
        )),
    }
}

fn agreed(agreement: &Agreement) -> Option<Agreed> {
    (agreement.n() > 0).then(|| Agreed {
        n: agreement.n(),
        observed: agreement.observed(),
        kappa: agreement.kappa(LEVEL),
    })
}
