//! The contract: a token's logits are the same bits whatever else is computed with it.

use xgraft_fixtures::{TINY, golden};
use xgraft_model::{KvType, LoraAdapter, Model, Options};

use crate::sequence::{Sequence, all_logits, cache};

fn tokens(seed: u32, count: u32) -> Vec<u32> {
    (0..count)
        .map(|i| (seed * 31 + i * 17 + i * i) % 120)
        .collect()
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn logits_do_not_depend_on_how_a_prompt_is_cut_nor_on_the_threads() {
    let open = |threads| {
        Model::open(
            TINY.base(),
            &Options {
                threads,
                ..Options::default()
            },
        )
    };
    let (one, two) = (open(1).unwrap(), open(2).unwrap());
    let tokens = tokens(3, 60);
    for kind in [KvType::F32, KvType::Bf16] {
        let whole = all_logits(&one, kind, &tokens, None);
        assert_eq!(bits(&all_logits(&two, kind, &tokens, None)), bits(&whole));
        for sizes in [vec![1; 60], vec![7, 1, 30, 2, 20], vec![59, 1]] {
            let mut sequence =
                Sequence::new(&tokens, [5, 3, 14, 0, 7, 8, 9, 1, 2, 4, 6, 10, 11, 12, 13]);
            let mut cache = cache(&one, kind, 15);
            let (mut cut, mut logits) = (Vec::new(), Vec::new());
            for size in sizes {
                one.forward(&mut cache, &[sequence.next(size, size)], &mut logits);
                sequence.done += size;
                cut.extend_from_slice(&logits);
            }
            assert_eq!(bits(&cut), bits(&whole));
        }
    }
}

#[test]
fn logits_do_not_depend_on_the_rest_of_the_batch() {
    let model = Model::open(TINY.base(), &Options::default()).unwrap();
    let open = || LoraAdapter::open(golden::path("peft-plain"), model.spec()).unwrap();
    let (one, other) = (open(), open());
    let prompts: Vec<Vec<u32>> = (0..9).map(|i| tokens(i, 3 + 6 * i)).collect();
    let adapters = [
        None,
        Some(&one),
        None,
        Some(&other),
        Some(&one),
        None,
        Some(&one),
        None,
        None,
    ];
    let alone: Vec<_> = prompts
        .iter()
        .zip(adapters)
        .map(|(prompt, adapter)| all_logits(&model, KvType::Bf16, prompt, adapter))
        .collect();
    assert_ne!(
        alone[8],
        all_logits(&model, KvType::Bf16, &prompts[8], Some(&one))
    );

    let mut next_block = 0..;
    let sequences: Vec<Sequence<'_>> = prompts
        .iter()
        .zip(adapters)
        .map(|(prompt, adapter)| {
            let blocks = next_block.by_ref().take(prompt.len().div_ceil(4));
            let sequence = Sequence::new(prompt, blocks);
            adapter.into_iter().fold(sequence, Sequence::with)
        })
        .collect();
    let segments: Vec<_> = sequences
        .iter()
        .map(|s| s.next(s.tokens.len(), s.tokens.len()))
        .collect();
    let mut logits = Vec::new();
    let mut cache = cache(&model, KvType::Bf16, next_block.start as usize);
    model.forward(&mut cache, &segments, &mut logits);
    assert_eq!(bits(&logits), bits(&alone.concat()));
}
