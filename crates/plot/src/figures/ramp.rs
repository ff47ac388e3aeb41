//! Amounts as colours: from light to dark in one hue, so that they are read in the same order on white, in print and in grey.

use plotters::style::RGBColor;

/// Light to dark. None of these is an ink of the page's scheme: a number on a cell must keep its contrast to the cell.
const RAMP: [[f64; 3]; 3] = [
    [238.0, 243.0, 248.0],
    [104.0, 160.0, 205.0],
    [8.0, 32.0, 82.0],
];
const ON_LIGHT: RGBColor = RGBColor(16, 18, 20);
const ON_DARK: RGBColor = RGBColor(254, 254, 254);

/// The colour of a share from 0 to 1.
pub(super) fn colour(share: f64) -> RGBColor {
    let along = share * (RAMP.len() - 1) as f64;
    let at = (along as usize).min(RAMP.len() - 2);
    let rest = along - at as f64;
    let [r, g, b] = [0, 1, 2].map(|i| {
        let (from, to) = (RAMP[at][i], RAMP[at + 1][i]);
        (from + rest * (to - from)).round() as u8
    });
    RGBColor(r, g, b)
}

/// What a number on that colour is written in.
pub(super) fn ink(share: f64) -> RGBColor {
    if share < 0.5 { ON_LIGHT } else { ON_DARK }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the eye takes for brightness.
    fn luminance(RGBColor(r, g, b): RGBColor) -> f64 {
        0.2126 * f64::from(r) + 0.7152 * f64::from(g) + 0.0722 * f64::from(b)
    }

    #[test]
    fn the_ramp_darkens_all_the_way() {
        let steps: Vec<f64> = (0..=100)
            .map(|i| luminance(colour(f64::from(i) / 100.0)))
            .collect();
        assert!(steps.windows(2).all(|pair| pair[1] < pair[0] - 0.5));
    }

    #[test]
    fn numbers_stand_out_from_their_cells() {
        for i in 0..=100 {
            let share = f64::from(i) / 100.0;
            let contrast = (luminance(ink(share)) - luminance(colour(share))).abs();
            assert!(contrast > 90.0, "{share}: {contrast}");
        }
    }
}
