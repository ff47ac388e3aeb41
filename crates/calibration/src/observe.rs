//! The statistics of what goes into every linear layer while a model runs on a calibration set.

use std::ops::ControlFlow;

use rayon::prelude::*;
use xgraft_checkpoint::{ActivationStats, Activations, Observed};
use xgraft_model::{Model, Site, Tap};

use crate::batch::{Runner, each_batch};
use crate::set::Tokenized;
use crate::{Error, Result};

/// Channels that one thread sums.
const CHANNELS: usize = 256;

/// How a model is observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// Rows that are computed together; the statistics do not depend on it.
    pub batch_tokens: usize,
    /// No sample has more ids.
    pub longest: usize,
}

/// Statistics that grow, sample by sample.
///
/// A sum takes the tokens one after the other in the order of the set, so that its bits depend neither on batches nor on
/// threads.
#[derive(Debug)]
pub struct Collector {
    observed: Observed,
    /// By layer, and within it by site.
    sites: Vec<[Activations; 4]>,
    not_finite: Option<(usize, Site, usize)>,
}

impl Collector {
    /// Nothing seen yet of `model`; `observed` says of which files.
    pub fn new(model: &Model, observed: Observed) -> Collector {
        let spec = model.spec();
        let layer = || Site::ALL.map(|site| Activations::new(site.width(spec)));
        Collector {
            observed,
            sites: (0..spec.layers).map(|_| layer()).collect(),
            not_finite: None,
        }
    }

    /// Goes on from what an earlier run has seen of the same model.
    ///
    /// # Errors
    /// [`Error::OtherModel`] for statistics that lack a module or have other channels.
    pub fn resume(model: &Model, stats: &ActivationStats) -> Result<Collector> {
        let mut collector = Collector::new(model, stats.observed.clone());
        for (layer, sites) in collector.sites.iter_mut().enumerate() {
            for (site, seen) in Site::ALL.into_iter().zip(sites) {
                let module = &site.modules(layer)[0];
                let found = stats.modules.get(module);
                let same =
                    |found: &&Activations| found.amax_channel.len() == seen.amax_channel.len();
                let found = found.filter(same).ok_or_else(|| Error::OtherModel {
                    module: module.clone(),
                })?;
                seen.clone_from(found);
            }
        }
        Ok(collector)
    }

    /// Samples that were run.
    pub fn samples(&self) -> u64 {
        self.observed.samples
    }

    /// Tokens that were run.
    pub fn tokens(&self) -> u64 {
        self.observed.tokens
    }

    /// The statistics so far, under the name of every module.
    pub fn stats(&self) -> ActivationStats {
        let sites = self.sites.iter().enumerate().flat_map(|(layer, sites)| {
            let sites = Site::ALL.into_iter().zip(sites);
            sites.flat_map(move |(site, seen)| {
                let modules = site.modules(layer).into_iter();
                modules.map(|module| (module, seen.clone()))
            })
        });
        ActivationStats {
            observed: self.observed.clone(),
            modules: sites.collect(),
        }
    }

    fn count(&mut self, samples: &[Tokenized]) {
        for sample in samples {
            self.observed.samples += 1;
            self.observed.tokens += sample.ids.len() as u64;
            self.observed.cut_tokens += sample.cut as u64;
            self.observed.cut_samples += u64::from(sample.cut > 0);
        }
    }
}

impl Tap for Collector {
    fn input(&mut self, layer: usize, site: Site, x: &mut [f32]) {
        let seen = &mut self.sites[layer][site as usize];
        add(seen, x);
        if self.not_finite.is_none() {
            let sums = &seen.square_sum_channel;
            let channel = sums.iter().position(|sum| !sum.is_finite());
            self.not_finite = channel.map(|channel| (layer, site, channel));
        }
    }
}

/// Takes in rows `[tokens, in]`: channels in parallel, the tokens of each in order.
fn add(seen: &mut Activations, x: &[f32]) {
    let width = seen.amax_channel.len();
    let amax = seen.amax_channel.par_chunks_mut(CHANNELS);
    let abs_sum = seen.abs_sum_channel.par_chunks_mut(CHANNELS);
    let square_sum = seen.square_sum_channel.par_chunks_mut(CHANNELS);
    let channels = amax.zip(abs_sum).zip(square_sum).enumerate();
    channels.for_each(|(at, ((amax, abs_sum), square_sum))| {
        for row in x.chunks_exact(width) {
            let row = &row[at * CHANNELS..][..amax.len()];
            let sums = amax.iter_mut().zip(&mut *abs_sum).zip(&mut *square_sum);
            for (x, ((amax, abs_sum), square_sum)) in row.iter().zip(sums) {
                let magnitude = x.abs();
                *amax = amax.max(magnitude);
                *abs_sum += f64::from(magnitude);
                *square_sum += f64::from(magnitude) * f64::from(magnitude);
            }
        }
    });
    let rows = x.par_chunks_exact(width).with_min_len(16);
    let of_tokens: Vec<f32> = rows
        .map(|row| row.iter().fold(0.0, |most: f32, x| most.max(x.abs())))
        .collect();
    seen.tokens += of_tokens.len() as u64;
    for amax in of_tokens {
        seen.token_amax_sum += f64::from(amax);
    }
}

/// Runs the samples through the model, a batch at a time, and collects; `on_batch` sees what there is after each, and may stop.
///
/// Memory: the statistics and one batch, whatever the length of the set.
///
/// # Errors
/// Those of the samples; [`Error::OtherTokenizer`] for an id beyond the vocabulary, [`Error::NotFinite`] for an input that is
/// NaN or infinite, [`Error::Interrupted`], [`Error::NoTokens`] for a set without any, and those of `on_batch`.
pub fn observe(
    model: &Model,
    samples: impl Iterator<Item = Result<Tokenized>>,
    how: Observation,
    collector: &mut Collector,
    on_batch: &mut dyn FnMut(&Collector) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let mut runner = Runner::new(model, how.batch_tokens, how.longest);
    let first = collector.samples();
    let samples = samples.skip(usize::try_from(first).unwrap_or(usize::MAX));
    each_batch(&runner.fits(), model, samples, first, &mut |samples| {
        batch(&mut runner, samples, collector)?;
        match on_batch(collector)? {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Interrupted),
        }
    })?;
    match collector.tokens() {
        0 => Err(Error::NoTokens),
        _ => Ok(()),
    }
}

fn batch(runner: &mut Runner<'_>, samples: &[Tokenized], collector: &mut Collector) -> Result<()> {
    let first = collector.samples() + 1;
    for piece in runner.pieces(samples) {
        runner.piece(samples, &piece, Some(collector), false);
    }
    collector.count(samples);
    match collector.not_finite {
        None => Ok(()),
        Some((layer, site, channel)) => Err(Error::NotFinite {
            module: site.modules(layer).swap_remove(0),
            channel,
            first,
            last: collector.samples(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_summed_by_channel_and_by_token() {
        let mut seen = Activations::new(2);
        add(&mut seen, &[1.0, -3.0, -2.0, 0.0]);
        add(&mut seen, &[0.5, 0.25]);
        assert_eq!(seen.tokens, 3);
        assert_eq!(seen.amax_channel, [2.0, 3.0]);
        assert_eq!(seen.abs_sum_channel, [3.5, 3.25]);
        assert_eq!(seen.square_sum_channel, [5.25, 9.0625]);
        assert_eq!(seen.token_amax_sum, 5.5);
    }
}
