//! The index page: what there is, how much of it, and where to click.

use std::fmt::Write;

use profiler_core::{Kind, Stats};

use crate::percent::encode_path;
use crate::response::escape_html;

/// One line of the table.
#[derive(Debug, Clone)]
struct Row {
    name: &'static str,
    count: usize,
    summary: &'static str,
    /// Whether it is a profile, not one of the small endpoints beside them.
    profile: bool,
    delta: bool,
}

/// The endpoints that are no profiles.
const BESIDE: [Row; 2] = [
    Row {
        name: "cmdline",
        count: 0,
        summary: "The command line of this process, its arguments separated by NUL.",
        profile: false,
        delta: false,
    },
    Row {
        name: "symbol",
        count: 0,
        summary: "Names for addresses: a list of them, separated by +, as the query or in the body of a POST.",
        profile: false,
        delta: false,
    },
];

/// Writes the page; `memory` is the part on memory, in HTML.
///
/// Links are relative, so that it works wherever it is mounted. If the router took its prefix away
/// (`stripped`) nobody here knows whether the address ended in the slash that relative links need;
/// a line of script adds it in the browser.
pub(crate) fn page(kinds: &[(Kind, usize)], memory: &str, stats: &Stats, stripped: bool) -> String {
    let mut rows: Vec<Row> = kinds
        .iter()
        .map(|&(kind, count)| {
            let description = kind.description();
            Row {
                name: description.name,
                count,
                summary: description.summary,
                profile: true,
                delta: description.delta,
            }
        })
        .chain(BESIDE)
        .collect();
    rows.sort_by_key(|row| row.name);

    let mut page = String::from(HEAD);
    if stripped {
        page.push_str(SLASH);
    }
    page.push_str(INTRODUCTION);
    for row in &rows {
        write_row(&mut page, row);
    }
    page.push_str(DUMP);
    page.push_str(memory);
    page.push_str(DESCRIPTIONS);
    for Row { name, summary, .. } in &rows {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(page, "<li><b>{}</b> {}</li>", escape_html(name), escape_html(summary));
    }
    let _ = write!(
        page,
        "</ul>\n<p class=stats>profiler {}: {}, {} records, {} of them lost, {} threads, {} KiB held</p>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION"),
        if stats.started { "recording" } else { "not started" },
        stats.records,
        stats.lost,
        stats.threads,
        stats.bytes.div_ceil(1024),
    );
    page
}

fn write_row(page: &mut String, row: &Row) {
    let (link, name) = (encode_path(row.name), escape_html(row.name));
    let _ =
        write!(page, "<tr><td>{}</td><td><a href=\"{link}?debug=1\">{name}</a></td>", row.count);
    page.push_str("<td>");
    if row.profile {
        let _ = write!(page, "<a href=\"{link}\">download</a>");
    }
    page.push_str("</td><td>");
    if row.delta {
        let _ = write!(page, "<a href=\"{link}?seconds=30\">next 30 s</a>");
    }
    page.push_str("</td></tr>\n");
}

const HEAD: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>/debug/pprof/</title>
<style>
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }
td, th { padding: .1em 1.5em .1em 0; text-align: left }
td:first-child, th:first-child { text-align: right; font-variant-numeric: tabular-nums }
.memory td:nth-child(2), .memory th:nth-child(2) { text-align: right; font-variant-numeric: tabular-nums }
.memory td:nth-child(-n+2) { white-space: nowrap; vertical-align: top }
pre { white-space: pre-wrap }
.stats { opacity: .7 }
</style>
"#;

const SLASH: &str = "<script>location.pathname.endsWith('/') || location.replace(location.pathname + '/')</script>\n";

const INTRODUCTION: &str = r"</head>
<body>
<h1>/debug/pprof/</h1>
<p>Add <code>debug=1</code> to the query for the legacy text format, or give an address to
<code>go tool pprof</code>. Totals are since the profiler started; <code>seconds=30</code> shows
what comes in that time.</p>
<h2>Types of profiles available:</h2>
<table>
<thead><tr><th>Count</th><th>Profile</th><th></th><th></th></tr></thead>
<tbody>
";

const DUMP: &str = r#"</tbody>
</table>
<p><a href="goroutine?debug=2">full goroutine stack dump</a></p>
"#;

const DESCRIPTIONS: &str = "<h2>Profile Descriptions:</h2>\n<ul>\n";

#[cfg(test)]
mod tests {
    use profiler_core::{Allocations, Memory};

    use super::*;
    use crate::memory;

    fn sample(stripped: bool) -> String {
        let kinds = [(Kind::Custom("<b>/x y"), 3), (Kind::Block, 2), (Kind::Mutex, 12)];
        let mut memory = Memory::default();
        memory.allocations = Some(Allocations::default());
        memory.resident_bytes = Some(117_700_000);
        let memory = memory::section(&memory, None);
        page(&kinds, &memory, &Stats::default(), stripped)
    }

    #[test]
    fn the_page_is_as_it_should_be() {
        let expected = include_str!("index_golden.html")
            .replace("VERSION", env!("CARGO_PKG_VERSION"))
            .replace("SUMMARY OF BLOCK", Kind::Block.description().summary)
            .replace("SUMMARY OF MUTEX", Kind::Mutex.description().summary);
        assert_eq!(sample(false), expected, "the page has changed");
    }

    #[test]
    fn only_a_page_without_its_prefix_has_a_script() {
        assert!(!sample(false).contains("<script"));
        assert!(sample(true).contains(SLASH));
        assert_eq!(sample(true).replace(SLASH, ""), sample(false));
    }

    #[test]
    fn every_built_in_profile_is_described() {
        for kind in Kind::ALL {
            assert!(!kind.description().summary.is_empty(), "{kind}");
        }
    }
}
