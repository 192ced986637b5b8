//! The real `go tool pprof`, and what its reports say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::go::{self, Started};
use crate::pprof::Profile;

/// Reports then hold the numbers of the profile: times are in nanoseconds already, and of a count
/// or a size only the unit shown is wrong.
const RAW: &str = "-unit=ns";

/// `go tool pprof` with a home of its own, so that it finds nothing of the user's and leaves
/// nothing behind.
#[derive(Debug)]
pub struct Tool {
    home: TempDir,
}

/// The report `-top`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Top {
    /// The lines above the table, for example `Type: delay`.
    pub header: Vec<String>,
    /// The sum over all samples.
    pub total: i64,
    /// The rows, largest flat value first.
    pub rows: Vec<Row>,
}

/// One function of [`Top`], in the base unit: nanoseconds, bytes or a count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What the function itself accounts for.
    pub flat: i64,
    /// The same with all that it called.
    pub cum: i64,
    /// The function as the tool shows it, without ` (inline)`.
    pub name: String,
}

/// One sample of the report `-traces`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// The labels, as text.
    pub labels: BTreeMap<String, String>,
    /// The value of the chosen column in its base unit.
    pub value: i64,
    /// The functions, leaf first, without ` (inline)`.
    pub names: Vec<String>,
}

impl Top {
    /// Returns the row of a function.
    #[must_use]
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// Asserts that each function is shown with what it has in a column of the profile, and no other one.
    ///
    /// # Panics
    ///
    /// It is not so.
    #[track_caller]
    pub fn shows(&self, profile: &Profile, column: usize) {
        let names: BTreeSet<_> = profile.samples.iter().flat_map(|sample| &sample.names).collect();
        let values = |name: &str| (profile.flat(name)[column], profile.cumulative(name)[column]);
        let expected: BTreeMap<&str, _> =
            names.into_iter().map(|name| (name.as_str(), values(name))).collect();
        for row in &self.rows {
            assert_eq!(expected.get(&*row.name), Some(&(row.flat, row.cum)), "{}", row.name);
        }
        for (name, (_, cum)) in expected {
            assert!(cum == 0 || self.row(name).is_some(), "{name} is not shown");
        }
    }
}

impl Default for Tool {
    fn default() -> Self {
        Self::new()
    }
}

impl Tool {
    /// Makes a home for the tool.
    ///
    /// # Panics
    ///
    /// No temporary directory can be made.
    #[must_use]
    pub fn new() -> Self {
        Self { home: TempDir::new().expect("a temporary directory") }
    }

    /// Returns the directory that the tool takes for the user's home; tests may put files there.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Runs `go tool pprof` and returns all that it said.
    ///
    /// # Panics
    ///
    /// The tool cannot be started.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("go can be started")
    }

    /// Starts `go tool pprof` as a server.
    ///
    /// # Panics
    ///
    /// The tool cannot be started.
    #[must_use]
    pub fn start(&self, arguments: &[&str]) -> Started {
        go::start(&mut self.command(arguments))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = go::command(self.home());
        command
            .args(["tool", "pprof"])
            .args(arguments)
            .env("PPROF_TMPDIR", self.home())
            .env_remove("PPROF_BINARY_PATH")
            .env_remove("http_proxy")
            .env_remove("HTTP_PROXY");
        command
    }

    /// Runs `go tool pprof` and returns the report.
    ///
    /// # Panics
    ///
    /// The tool refuses; the message is what it said.
    #[must_use]
    #[track_caller]
    pub fn report(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "go tool pprof {arguments:?} refused: {said}");
        String::from_utf8(output.stdout).expect("the report is text")
    }

    /// Runs `go tool pprof` on what it must refuse, and returns what it said.
    ///
    /// # Panics
    ///
    /// The tool does not refuse.
    #[must_use]
    #[track_caller]
    pub fn refusal(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "go tool pprof {arguments:?} did not refuse");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Returns `-top`, every row of it, with options and the source in `arguments`.
    ///
    /// # Panics
    ///
    /// The tool refuses, or its report has another form.
    #[must_use]
    #[track_caller]
    pub fn top(&self, arguments: &[&str]) -> Top {
        let mut all = vec!["-top", RAW, "-nodecount=1000000", "-nodefraction=0"];
        all.push("-edgefraction=0");
        all.extend(arguments);
        parse_top(&self.report(&all))
    }

    /// Returns `-traces`, with options and the source in `arguments`.
    ///
    /// # Panics
    ///
    /// The tool refuses, or its report has another form.
    #[must_use]
    #[track_caller]
    pub fn traces(&self, arguments: &[&str]) -> Vec<Trace> {
        let mut all = vec!["-traces", RAW];
        all.extend(arguments);
        parse_traces(&self.report(&all))
    }
}

fn parse_top(report: &str) -> Top {
    let mut top = Top::default();
    let mut lines = report.lines();
    for line in lines.by_ref() {
        if line.trim_start().starts_with("flat ") {
            break;
        }
        if let Some(rest) = line.strip_prefix("Showing nodes accounting for ") {
            // `600ms, 100% of 600ms total`
            let total = rest.split(" of ").nth(1).and_then(|rest| rest.split(' ').next());
            top.total = number(total.expect("a total"));
        }
        top.header.push(line.to_owned());
    }
    for line in lines {
        // flat  flat%   sum%        cum   cum%  name
        let (columns, name) = split_columns(line, 5);
        top.rows.push(Row { flat: number(columns[0]), cum: number(columns[3]), name });
    }
    top
}

fn parse_traces(report: &str) -> Vec<Trace> {
    let mut traces = Vec::new();
    // The blocks stand between rulers; the first is the header, the last is empty.
    let is_ruler = |line: &str| line.starts_with("-----------+");
    let lines: Vec<_> = report.lines().collect();
    for block in lines.split(|line| is_ruler(line)).skip(1).filter(|block| !block.is_empty()) {
        let mut trace = Trace::default();
        let mut has_value = false;
        for line in block {
            let label = line.split_once(':').filter(|(key, _)| {
                !has_value && key.trim_start().chars().all(|letter| !letter.is_whitespace())
            });
            if !has_value && let Some((key, value)) = label.filter(|(_, v)| v.starts_with(' ')) {
                trace.labels.insert(key.trim().to_owned(), value.trim().to_owned());
            } else if has_value {
                trace.names.push(without_inline(line.trim()));
            } else {
                let (columns, name) = split_columns(line, 1);
                trace.value = number(columns[0]);
                trace.names.push(name);
                has_value = true;
            }
        }
        traces.push(trace);
    }
    traces
}

/// Splits `count` columns off a line; the rest is a name and may hold spaces.
fn split_columns(line: &str, count: usize) -> (Vec<&str>, String) {
    let mut rest = line.trim_start();
    let columns = (0..count)
        .map(|_| {
            let (column, after) = rest.split_once(' ').unwrap_or((rest, ""));
            rest = after.trim_start();
            column
        })
        .collect();
    (columns, without_inline(rest))
}

fn without_inline(name: &str) -> String {
    let marks = [" (inline)", " (partial-inline)"];
    marks.iter().find_map(|mark| name.strip_suffix(mark)).unwrap_or(name).to_owned()
}

/// Reads `1500ns`; see [`RAW`].
#[track_caller]
fn number(text: &str) -> i64 {
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    digits.parse().unwrap_or_else(|_| panic!("{text:?} is not in the base unit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_is_read_with_names_that_hold_spaces() {
        let report = "\
File: shop
Type: delay
Showing nodes accounting for 600ns, 100% of 601ns total
      flat  flat%   sum%        cum   cum%
     400ns 66.67% 66.67%      600ns   100%  <shop::Till as shop::Sell>::sell
    -200ns 33.33%   100%          0     0%  shop::main::{{closure}} (inline)
";
        let row = |flat, cum, name: &str| Row { flat, cum, name: name.into() };
        let top = parse_top(report);
        assert_eq!(top.total, 601);
        assert_eq!(top.header[1], "Type: delay");
        assert_eq!(
            top.rows,
            [
                row(400, 600, "<shop::Till as shop::Sell>::sell"),
                row(-200, 0, "shop::main::{{closure}}"),
            ]
        );
        assert_eq!(top.row("shop::main::{{closure}}"), Some(&top.rows[1]));
    }

    #[test]
    fn traces_are_read_with_labels() {
        let report = "\
File: shop
Type: delay
-----------+-------------------------------------------------------
      lock:  the stock
     400ns   <shop::Till as shop::Sell>::sell
             shop::main (inline)
-----------+-------------------------------------------------------
     200ns   shop::main
-----------+-------------------------------------------------------
";
        let trace = |value, names: &[&str], labels: &[(&str, &str)]| Trace {
            labels: labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
            value,
            names: names.iter().map(|name| (*name).into()).collect(),
        };
        let sell = ["<shop::Till as shop::Sell>::sell", "shop::main"];
        assert_eq!(
            parse_traces(report),
            [trace(400, &sell, &[("lock", "the stock")]), trace(200, &["shop::main"], &[]),]
        );
    }
}
