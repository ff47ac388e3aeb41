//! What is asked for, as JSON.

use std::collections::HashMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use xgraft_fp8_gemm::{
    Shape,
    call::{self, Call, Operand},
    cuda::{Cuda, Prepared, Region},
    kernel::all,
    plan::{self, Choice, Table},
};

/// So many of the candidates are worth measuring.
const MOST: usize = 12;

/// A product to compute.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Product {
    m: u32,
    n: u32,
    k: u32,
    rank: u32,
}

/// A way to compute it.
#[derive(Debug, PartialEq, Serialize)]
struct Candidate {
    kernel: String,
    /// [`Choice::number`].
    number: u32,
    /// Whether the plan takes it.
    chosen: bool,
    /// What the model of the data sheet expects, in microseconds.
    us: Option<f64>,
    parts: u64,
    counters: u32,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Output {
    Bf16,
    F32,
}

/// A call, and where its operands lie.
#[derive(Debug, Deserialize)]
struct Request {
    #[serde(flatten)]
    what: What,
    /// Address and length in bytes, by name.
    operands: HashMap<String, (u64, u64)>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum What {
    Product {
        m: u32,
        n: u32,
        k: u32,
        rank: u32,
        kernel: String,
        number: u32,
        output: Output,
    },
    Quantize {
        m: u32,
        k: u32,
        tiles: u32,
        split: u32,
        t_stride: u32,
    },
    Expand {
        m: u32,
        n: u32,
        tiles: u32,
        t_stride: u32,
        output: Output,
    },
    W8a16 {
        m: u32,
        n: u32,
        k: u32,
        output: Output,
    },
}

impl From<Output> for call::Output {
    fn from(output: Output) -> Self {
        match output {
            Output::Bf16 => Self::Bf16,
            Output::F32 => Self::F32,
        }
    }
}

/// The likeliest ways to compute a product on this GPU, with what each needs, the likeliest first.
pub(crate) fn candidates(cuda: &Cuda, table: &Table, text: &str) -> Result<String> {
    let product: Product = serde_json::from_str(text).context("a request of candidates")?;
    let Product { m, n, k, rank } = product;
    let (gpu, shape) = (cuda.gpu(), Shape::new(m, n, k)?);
    let chosen = plan::choose(table, gpu, shape, rank)?;
    let expected = |choice: &Choice| plan::model::microseconds(gpu, shape, rank, *choice);
    let mut choices = plan::candidates(gpu, shape, rank);
    choices.sort_by(|a, b| expected(a).total_cmp(&expected(b)));
    choices.truncate(MOST);
    if !choices.contains(&chosen) {
        choices.push(chosen);
    }
    let list = choices.into_iter().map(|choice| {
        let call = choice.call(gpu, shape, rank, call::Output::Bf16);
        Candidate {
            kernel: choice.kernel().name(),
            number: choice.number(),
            chosen: choice == chosen,
            us: Some(expected(&choice)).filter(|us| us.is_finite()),
            parts: call.parts,
            counters: call.counters,
        }
    });
    Ok(serde_json::to_string(&list.collect::<Vec<_>>())?)
}

/// The choice of a kernel's name and its number.
fn choice(name: &str, number: u32) -> Result<Choice> {
    let kernel = all().into_iter().find(|kernel| kernel.name() == name);
    let kernel = kernel.with_context(|| format!("no kernel is called {name}"))?;
    Choice::of_number(kernel, number).with_context(|| {
        format!("{name} computes no product by itself, or not over {number} blocks")
    })
}

/// A call with its operands put in.
pub(crate) fn prepare(cuda: &Cuda, text: &str) -> Result<Prepared> {
    let request: Request = serde_json::from_str(text).context("a request of a call")?;
    let call = request.what.call(cuda)?;
    let mut operands = Vec::new();
    for (name, (address, bytes)) in request.operands {
        let operand = Operand::ALL
            .into_iter()
            .find(|operand| operand.name() == name);
        let operand = operand.with_context(|| format!("no operand is called {name}"))?;
        operands.push((operand, Region { address, bytes }));
    }
    Ok(cuda.prepare(&call, &operands)?)
}

impl What {
    fn call(&self, cuda: &Cuda) -> Result<Call> {
        let form = cuda.gpu().form();
        Ok(match *self {
            Self::Product {
                m,
                n,
                k,
                rank,
                ref kernel,
                number,
                output,
            } => {
                let choice = choice(kernel, number)?;
                let has_slots = choice.kernel().tile().is_some_and(|tile| tile.lora);
                anyhow::ensure!(
                    has_slots == (rank > 0),
                    "{kernel} is not for a rank of {rank}"
                );
                choice.call(cuda.gpu(), Shape::new(m, n, k)?, rank, output.into())
            }
            Self::Quantize {
                m,
                k,
                tiles,
                split,
                t_stride,
            } => Call::quantize(form, Shape::new(m, 1, k)?, tiles, split, t_stride),
            Self::Expand {
                m,
                n,
                tiles,
                t_stride,
                output,
            } => Call::expand(form, Shape::new(m, n, 1)?, tiles, t_stride, output.into()),
            Self::W8a16 { m, n, k, output } => Call::w8a16(Shape::new(m, n, k)?, output.into())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use xgraft_fp8_gemm::plan::Gpu;

    use super::*;

    fn request(text: &str) -> Request {
        serde_json::from_str(text).expect("a request")
    }

    #[test]
    fn requests_are_read_with_their_operands() {
        let product = request(
            r#"{"kind": "product", "m": 1, "n": 128, "k": 256, "rank": 0, "kernel": "decode-128x8-s12", "number": 2,
                "output": "bf16", "operands": {"x": [16, 256]}}"#,
        );
        assert!(matches!(product.what, What::Product { number: 2, .. }));
        assert_eq!(product.operands["x"], (16, 256));
        for text in [
            r#"{"kind": "quantize", "m": 1, "k": 128, "tiles": 1, "split": 1, "t_stride": 64, "operands": {}}"#,
            r#"{"kind": "expand", "m": 1, "n": 128, "tiles": 1, "t_stride": 64, "output": "f32", "operands": {}}"#,
            r#"{"kind": "w8a16", "m": 1, "n": 128, "k": 128, "output": "bf16", "operands": {}}"#,
        ] {
            request(text);
        }
    }

    #[test]
    fn every_candidate_can_be_asked_for_by_its_name_and_number() {
        let shape = Shape::new(3, 5120, 8192).expect("not empty");
        for rank in [0, 64] {
            for candidate in plan::candidates(Gpu::H100, shape, rank) {
                let again = choice(&candidate.kernel().name(), candidate.number());
                assert_eq!(again.expect("known"), candidate);
            }
        }
        assert!(choice("decode-1x1-s1", 1).is_err());
        assert!(choice("expand", 1).is_err());
    }
}
