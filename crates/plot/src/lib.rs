//! Measurement rows to SVG plots and to one self-contained HTML report
