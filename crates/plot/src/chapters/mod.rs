//! What a report can talk about. Each chapter is one file: it looks at the rows and gives a section, or nothing when they are not its.

mod accuracy;
mod check;
mod energy;
mod extraction;
mod findings;
mod grid;
mod kernels;
mod methods;
mod origin;
mod orthogonality;
mod spectra;
mod summary;

use crate::{Result, Section, inputs::Inputs};

type Chapter = fn(&Inputs) -> Result<Option<Section>>;

/// The chapters in reading order.
pub(crate) const ALL: &[Chapter] = &[
    summary::section,
    accuracy::section,
    extraction::section,
    check::section,
    methods::section,
    orthogonality::section,
    kernels::section,
    findings::section,
    origin::section,
];
