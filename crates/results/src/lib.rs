//! The measurement row, the finding and the manifest that every xgraft tool writes, and their JSONL
