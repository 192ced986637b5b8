//! The index page: what there is, how much of it, and where to click.

use std::fmt::Write;

use profiler_core::{Kind, Read, Stats};

use crate::path;
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
    /// Whether it takes as long as `seconds` say, 30 if they say nothing.
    interval: bool,
}

/// The endpoints that are no profiles.
const BESIDE: [Row; 2] = [
    Row {
        name: "cmdline",
        count: 0,
        summary: "The command line of this process, its arguments separated by NUL.",
        profile: false,
        delta: false,
        interval: false,
    },
    Row {
        name: "symbol",
        count: 0,
        summary: "Names for addresses: a list of them, separated by +, as the query or in the body of a POST.",
        profile: false,
        delta: false,
        interval: false,
    },
];

/// Writes the page; `memory` is the part on memory, in HTML.
///
/// Links are relative, so that it works wherever it is mounted. If the router took its prefix away
/// (`stripped`) nobody here knows whether the address ended in the slash that paths need: links are queries
/// then, which leave the path as it is, and name the resource.
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
                interval: description.read == Read::Interval,
            }
        })
        .chain(BESIDE)
        .collect();
    rows.sort_by_key(|row| row.name);

    let mut page = String::from(HEAD);
    for row in &rows {
        write_row(&mut page, row, stripped);
    }
    // Writing to a String cannot fail, here and below.
    let dump = path::link("goroutine", "debug=2", stripped);
    let _ = write!(
        page,
        "</tbody>\n</table>\n<p><a href=\"{dump}\">full goroutine stack dump</a></p>\n"
    );
    page.push_str(memory);
    page.push_str(DESCRIPTIONS);
    for Row { name, summary, .. } in &rows {
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

fn write_row(page: &mut String, row: &Row, stripped: bool) {
    let link = |query| path::link(row.name, query, stripped);
    let name = escape_html(row.name);
    let _ =
        write!(page, "<tr><td>{}</td><td><a href=\"{}\">{name}</a>", row.count, link("debug=1"));
    if row.interval {
        page.push_str(" (takes 30 s)");
    }
    page.push_str("</td><td>");
    if row.profile {
        let _ = write!(page, "<a href=\"{}\">download</a>", link(""));
    }
    page.push_str("</td><td>");
    if row.delta {
        let _ = write!(page, "<a href=\"{}\">next 30 s</a>", link("seconds=30"));
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
</head>
<body>
<h1>/debug/pprof/</h1>
<p>Add <code>debug=1</code> to the query for the legacy text format, or give an address to
<code>go tool pprof</code>. Totals are since the profiler started; <code>seconds=30</code> shows
what comes in that time.</p>
<h2>Types of profiles available:</h2>
<table>
<thead><tr><th>Count</th><th>Profile</th><th></th><th></th></tr></thead>
<tbody>
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
        let memory = memory::section(&memory, None, stripped);
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
    fn links_of_a_page_without_its_prefix_leave_the_path_as_it_is() {
        let page = sample(true);
        for link in [
            r#"<a href="?show=mutex&amp;debug=1">mutex</a>"#,
            r#"<a href="?show=mutex">download</a>"#,
            r#"<a href="?show=mutex&amp;seconds=30">next 30 s</a>"#,
            r#"<a href="?show=goroutine&amp;debug=2">"#,
        ] {
            assert!(page.contains(link), "{link} in {page}");
        }
        let links = page.matches(" href=").count();
        assert_eq!(page.matches(r#" href="?show="#).count(), links);
        assert!(!page.contains("<script"));
    }

    #[test]
    fn every_built_in_profile_is_described() {
        for kind in Kind::ALL {
            assert!(!kind.description().summary.is_empty(), "{kind}");
        }
    }
}
