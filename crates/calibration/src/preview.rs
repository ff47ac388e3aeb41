//! The set as a page to look at.

use std::fmt::Write as _;

use crate::{Report, Sample};

/// Of a long text, this many characters of its beginning and its end are shown.
const SHOWN: usize = 1_500;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1d2430}\
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .8rem;border-bottom:1px solid #dfe3ea;text-align:right}\
td:first-child,th:first-child{text-align:left}pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f6f7f9;padding:.6rem;border-radius:.4rem}\
summary{cursor:pointer}.role{color:#5b6575;font-size:.8rem;text-transform:uppercase}.bar{background:#5786c9;height:.8rem;display:inline-block}";

/// One HTML page that loads nothing: the counts, and every sample with its beginning and end.
#[must_use]
pub fn preview(samples: &[Sample], report: &Report) -> String {
    let mut page = String::from(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Calibration set</title>\n",
    );
    let _ = writeln!(page, "<style>{STYLE}</style>\n<h1>Calibration set</h1>");
    let tokens = report.tokens;
    let _ = writeln!(
        page,
        "<p>{} samples of {} rows; {} tokens, of which {} remain when each is cut at {} ({} samples are cut).</p>",
        report.samples, report.rows, tokens.total, tokens.used, tokens.limit, tokens.cut
    );
    if !report.contaminated.is_empty() {
        let _ = writeln!(
            page,
            "<p><strong>{} samples have something of the evaluation set in them.</strong></p>",
            report.contaminated.len()
        );
    }
    tasks(&mut page, report);
    lengths(&mut page, report);
    for sample in samples {
        one(&mut page, sample);
    }
    page.push_str("</html>\n");
    page
}

fn tasks(page: &mut String, report: &Report) {
    page.push_str("<table><tr><th>task<th>even share<th>available<th>taken</tr>\n");
    for (task, share) in &report.tasks {
        let task = escaped(task);
        let (quota, available, taken) = (share.quota, share.available, share.taken);
        let _ = writeln!(
            page,
            "<tr><td>{task}<td>{quota}<td>{available}<td>{taken}</tr>"
        );
    }
    page.push_str("</table>\n");
}

fn lengths(page: &mut String, report: &Report) {
    page.push_str("<table><tr><th>tokens from<th>samples<th></tr>\n");
    let most = report
        .histogram
        .iter()
        .map(|bin| bin.samples)
        .max()
        .unwrap_or(1);
    for bin in &report.histogram {
        let width = 200 * bin.samples / most;
        let _ = writeln!(
            page,
            "<tr><td>{}<td>{}<td style=\"text-align:left\"><span class=\"bar\" style=\"width:{width}px\"></span></tr>",
            bin.from, bin.samples
        );
    }
    page.push_str("</table>\n");
}

fn one(page: &mut String, sample: &Sample) {
    let from = &sample.provenance;
    let _ = writeln!(
        page,
        "<details><summary>{}: question {}, arm {}, {} tokens</summary>",
        escaped(&from.task),
        escaped(&from.question),
        escaped(&from.arm),
        sample.tokens
    );
    for message in &sample.messages {
        let role = format!("{:?}", message.role).to_lowercase();
        let text = escaped(&shortened(&message.content));
        let _ = writeln!(page, "<p class=\"role\">{role}</p><pre>{text}</pre>");
    }
    page.push_str("</details>\n");
}

fn shortened(text: &str) -> String {
    let count = text.chars().count();
    if count <= 2 * SHOWN {
        return text.to_owned();
    }
    let start: String = text.chars().take(SHOWN).collect();
    let end: String = text.chars().skip(count - SHOWN).collect();
    format!("{start}\n… {} characters …\n{end}", count - 2 * SHOWN)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
