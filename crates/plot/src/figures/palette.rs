//! Colours.

use plotters::style::RGBColor;

/// An ink that follows the reader's light or dark scheme when the figure stands inside a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ink {
    /// What a file of its own shows, on white.
    pub(crate) light: RGBColor,
    /// The CSS variable of the page.
    pub(crate) variable: &'static str,
}

/// Text and marks that must be seen.
pub(crate) const TEXT: Ink = Ink {
    light: RGBColor(0x1f, 0x23, 0x28),
    variable: "--text",
};
/// Labels that explain.
pub(crate) const MUTED: Ink = Ink {
    light: RGBColor(0x59, 0x63, 0x6e),
    variable: "--muted",
};
/// Lines that only guide.
pub(crate) const GRID: Ink = Ink {
    light: RGBColor(0xd9, 0xde, 0xe4),
    variable: "--grid",
};
/// What everything stands on.
pub(crate) const PAPER: Ink = Ink {
    light: RGBColor(0xff, 0xff, 0xff),
    variable: "--paper",
};

/// Inks of series, told apart with every kind of colour vision (Okabe and Ito), in order of use.
const SERIES: [Ink; 6] = [
    series(0x00, 0x72, 0xb2, "--series-1"),
    series(0xd5, 0x5e, 0x00, "--series-2"),
    series(0x00, 0x9e, 0x73, "--series-3"),
    series(0xcc, 0x79, 0xa7, "--series-4"),
    series(0xe6, 0x9f, 0x00, "--series-5"),
    series(0x56, 0xb4, 0xe9, "--series-6"),
];

const fn series(r: u8, g: u8, b: u8, variable: &'static str) -> Ink {
    Ink {
        light: RGBColor(r, g, b),
        variable,
    }
}

/// The ink of the series with this index.
pub(crate) fn of_series(index: usize) -> Ink {
    SERIES[index % SERIES.len()]
}

impl From<Ink> for RGBColor {
    fn from(ink: Ink) -> Self {
        ink.light
    }
}

impl Ink {
    /// As the SVG backend writes it.
    pub(crate) fn hex(self) -> String {
        let RGBColor(r, g, b) = self.light;
        format!("#{r:02X}{g:02X}{b:02X}")
    }
}

/// The figure with its inks bound to the page's variables.
pub(crate) fn themed(svg: &str) -> String {
    let inks = [TEXT, MUTED, GRID, PAPER].into_iter().chain(SERIES);
    inks.fold(svg.to_owned(), |svg, ink| {
        let variable = format!("\"var({})\"", ink.variable);
        svg.replace(&format!("\"{}\"", ink.hex()), &variable)
    })
}
