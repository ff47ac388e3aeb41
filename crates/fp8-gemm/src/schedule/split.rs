//! Split-k.

use std::ops::Range;

/// The blocks of k of one part of a split, all parts as long as each other or one longer.
///
/// **Panics** in debug builds if there is no such part.
pub fn split_range(k_blocks: u32, split: u32, part: u32) -> Range<u32> {
    debug_assert!(part < split);
    let cut = |part: u32| (u64::from(part) * u64::from(k_blocks) / u64::from(split)) as u32;
    cut(part)..cut(part + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_block_is_in_exactly_one_part_and_in_order(k_blocks in 1u32..3000, split in 1u32..40) {
            let all: Vec<u32> = (0..split).flat_map(|part| split_range(k_blocks, split, part)).collect();
            prop_assert_eq!(all, (0..k_blocks).collect::<Vec<_>>());
        }

        #[test]
        fn no_part_is_more_than_one_block_longer_than_another(k_blocks in 1u32..3000, split in 1u32..40) {
            let lens = (0..split).map(|part| split_range(k_blocks, split, part).len());
            let (least, most) = (lens.clone().min().unwrap_or(0), lens.max().unwrap_or(0));
            prop_assert!(most - least <= 1);
            // With no more parts than blocks, none is empty.
            prop_assert!(split > k_blocks || least > 0);
        }
    }
}
