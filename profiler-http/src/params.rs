//! The parameters of a request for a profile, read as Go's `net/http/pprof` reads them.

use std::num::IntErrorKind;
use std::time::Duration;

use profiler_core::{Capture, LabelView, StackView, Symbols, ThreadView, View};

use crate::percent::{Plus, decode};

/// The longest difference that can be asked for: a collector that forgets to hang up holds a place
/// for an hour at most.
const MAX_SECONDS: i64 = 3600;

/// The query of a request, as it was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query<'a>(pub(crate) &'a str);

/// The parameters that there are. Each profile passes over those that mean nothing to it.
const KNOWN: [&str; 9] =
    ["debug", "gc", "hz", "idle", "labels", "seconds", "stack", "symbols", "threads"];

impl Query<'_> {
    /// Refuses a parameter that is nearly one of ours: most likely it was meant to be that one. Others, which clients and
    /// proxies add for their own ends, are passed over, as Go does.
    fn check(self) -> Result<(), String> {
        for (key, _) in self.pairs() {
            let is_near = |known: &&&str| {
                // Two letters are near to anything.
                let most = match known.len() {
                    0..=2 => 0,
                    3..=5 => 1,
                    _ => 2,
                };
                strsim::osa_distance(known, &key) <= most
            };
            if !KNOWN.contains(&&*key)
                && let Some(meant) = KNOWN.iter().find(is_near)
            {
                let known = KNOWN.join(", ");
                return Err(format!(
                    "unknown parameter {key:?} - did you mean {meant:?}? There are {known}"
                ));
            }
        }
        Ok(())
    }

    /// Returns keys and values.
    ///
    /// Pairs that cannot be decoded, or hold a semicolon, are passed over, as Go does.
    fn pairs(&self) -> impl Iterator<Item = (String, String)> {
        let pairs = self.0.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';'));
        pairs.filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(key, Plus::Space)?, decode(value, Plus::Space)?))
        })
    }

    /// Returns the first value of that key, empty if there is none.
    ///
    /// Scrapers do send keys twice.
    pub(crate) fn first(self, key: &str) -> String {
        let mut pairs = self.pairs();
        pairs.find_map(|(found, value)| (found == key).then_some(value)).unwrap_or_default()
    }

    /// Returns the whole number of that key, 0 if there is none that can be read.
    fn integer(self, key: &str) -> i64 {
        self.first(key).parse().unwrap_or_else(|error: std::num::ParseIntError| {
            // Go keeps the nearest bound of a number that is out of range.
            match error.kind() {
                IntErrorKind::PosOverflow => i64::MAX,
                IntErrorKind::NegOverflow => i64::MIN,
                _ => 0,
            }
        })
    }
}

/// What is wanted of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CaptureParams {
    pub(crate) time: Duration,
    /// Samples a second.
    pub(crate) rate: u32,
    /// Whether it shall be text.
    pub(crate) text: bool,
    pub(crate) view: View,
}

impl CaptureParams {
    /// Reads the parameters of a capture; what the query leaves open is taken from `view`.
    ///
    /// Like Go, it takes 30 seconds where `seconds` is missing or no positive integer.
    ///
    /// # Errors
    ///
    /// A sentence for the person who asked.
    pub(crate) fn read(query: Query<'_>, view: View) -> Result<Self, String> {
        query.check()?;
        let time = match query.integer("seconds") {
            ..1 => 30,
            seconds @ 1..=MAX_SECONDS => seconds,
            _ => {
                return Err(format!(
                    r#"invalid value for "seconds" - must be at most {MAX_SECONDS}"#
                ));
            }
        };
        let rate = match query.first("hz").as_str() {
            "" => Capture::DEFAULT_RATE,
            text => text
                .parse()
                .ok()
                .filter(|rate| (1..=Capture::MAX_RATE).contains(rate))
                .ok_or_else(|| {
                    refused("hz", text, &format!("a whole number from 1 to {}", Capture::MAX_RATE))
                })?,
        };
        let time = Duration::from_secs(time.unsigned_abs());
        let text = query.integer("debug") > 0;
        Ok(Self { time, rate, text, view: read_view(query, view)? })
    }
}

/// What is wanted of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Params {
    /// Collect twice, this far apart, and give the difference.
    pub(crate) delta: Option<Duration>,
    pub(crate) debug: i64,
    /// Have the allocator give memory back first; means something to `heap` only.
    pub(crate) gc: bool,
    pub(crate) view: View,
}

impl Params {
    /// Reads the parameters for a profile that does or does not give differences; what the query
    /// leaves open is taken from `view`.
    ///
    /// # Errors
    ///
    /// A sentence for the person who asked. The checks of Go come first, in Go's order.
    pub(crate) fn read(query: Query<'_>, delta: bool, view: View) -> Result<Self, String> {
        let debug = query.integer("debug");
        let seconds = match query.first("seconds").as_str() {
            "" => None,
            text => Some(seconds(text, delta, debug)?),
        };
        // Go looks at this only where there is no difference to wait for.
        let gc = seconds.is_none() && query.integer("gc") > 0;
        query.check()?;
        Ok(Self { delta: seconds, debug, gc, view: read_view(query, view)? })
    }
}

fn seconds(text: &str, delta: bool, debug: i64) -> Result<Duration, String> {
    let seconds = match text.parse::<i64>() {
        Ok(seconds) if seconds > 0 => seconds,
        _ => return Err(r#"invalid value for "seconds" - must be a positive integer"#.to_owned()),
    };
    if !delta {
        return Err(r#""seconds" parameter is not supported for this profile type"#.to_owned());
    }
    if debug != 0 {
        return Err("seconds and debug params are incompatible".to_owned());
    }
    if seconds > MAX_SECONDS {
        return Err(format!(r#"invalid value for "seconds" - must be at most {MAX_SECONDS}"#));
    }
    Ok(Duration::from_secs(seconds.unsigned_abs()))
}

fn read_view(query: Query<'_>, mut view: View) -> Result<View, String> {
    match query.first("stack").as_str() {
        "" => {}
        "native" => view = view.stack(StackView::Native),
        "logical" => view = view.stack(StackView::Logical),
        other => return Err(refused("stack", other, "native or logical")),
    }
    match query.first("symbols").as_str() {
        "" => {}
        "dwarf" => view = view.symbols(Symbols::Dwarf),
        "table" => view = view.symbols(Symbols::SymbolTable),
        "none" => view = view.symbols(Symbols::None),
        other => return Err(refused("symbols", other, "dwarf, table or none")),
    }
    view = view.idle(query.integer("idle") > 0);
    match query.first("threads").as_str() {
        "" => {}
        "published" => view = view.threads(ThreadView::Published),
        "all" => view = view.threads(ThreadView::All),
        other => return Err(refused("threads", other, "published or all")),
    }
    match query.first("labels").as_str() {
        "" => {}
        names => {
            let labels = names.split(',').try_fold(LabelView::NONE, LabelView::with);
            view = view.labels(labels.map_err(|name| {
                refused("labels", name, &format!("any of {}", LabelView::NAMES.join(", ")))
            })?);
        }
    }
    Ok(view)
}

fn refused(parameter: &str, value: &str, accepted: &str) -> String {
    format!("invalid value {value:?} for {parameter:?} - must be {accepted}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn first(query: &str, expected: &str) {
        assert_eq!(Query(query).first("k"), expected, "{query}");
    }

    #[track_caller]
    fn debug(query: &str, expected: i64) {
        assert_eq!(Query(query).integer("debug"), expected, "{query}");
    }

    #[track_caller]
    fn delta(query: &str, expected: Result<Option<u64>, &str>) {
        let read = Params::read(Query(query), true, View::default());
        let seconds = read.map(|params| params.delta.map(|time| time.as_secs()));
        assert_eq!(seconds, expected.map_err(str::to_owned), "{query}");
    }

    #[track_caller]
    fn gc(query: &str, expected: bool) {
        let read = Params::read(Query(query), true, View::default());
        assert_eq!(read.map(|params| params.gc), Ok(expected), "{query}");
    }

    #[track_caller]
    fn view(query: &str, expected: Result<View, &str>) {
        let read = Params::read(Query(query), true, View::default());
        assert_eq!(read.map(|params| params.view), expected.map_err(str::to_owned), "{query}");
    }

    #[test]
    fn the_first_value_that_can_be_read_wins() {
        first("", "");
        first("k", "");
        first("k=1", "1");
        first("a=0&k=1&k=2", "1");
        first("k=%zz&k=2", "2");
        first("k=1;a=0&k=2", "2");
        first("&&k=1", "1");
        first("%6B=a+b%26", "a b&");
        first("K=1", "");
        first("k=a=b", "a=b");
    }

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        debug("debug=1", 1);
        debug("debug=%2B1", 1);
        debug("debug=-1", -1);
        debug("debug=+1", 0);
        debug("debug=1.5", 0);
        debug("debug=0x1", 0);
        debug("debug=1_0", 0);
        debug("debug=yes", 0);
        debug("debug=99999999999999999999", i64::MAX);
        debug("debug=-99999999999999999999", i64::MIN);
    }

    #[test]
    fn seconds_are_checked_in_the_order_of_go() {
        let positive = r#"invalid value for "seconds" - must be a positive integer"#;
        delta("", Ok(None));
        delta("seconds=", Ok(None));
        delta("seconds=2", Ok(Some(2)));
        delta("seconds=2&seconds=x", Ok(Some(2)));
        delta("seconds=3600", Ok(Some(3600)));
        delta("seconds=0", Err(positive));
        delta("seconds=-1", Err(positive));
        delta("seconds=1.5", Err(positive));
        delta("seconds=99999999999999999999", Err(positive));
        delta("seconds=x&debug=1", Err(positive));
        delta("seconds=3601&debug=1", Err("seconds and debug params are incompatible"));
        delta("seconds=3601", Err(r#"invalid value for "seconds" - must be at most 3600"#));
    }

    #[test]
    fn memory_is_given_back_for_a_number_above_zero_and_no_difference() {
        gc("", false);
        gc("gc=1", true);
        gc("gc=2&debug=1", true);
        gc("gc=1&gc=0", true);
        gc("gc=99999999999999999999", true);
        gc("gc=1&seconds=", true);
        gc("gc=1&seconds=2", false);
        gc("gc=", false);
        gc("gc=0&gc=1", false);
        gc("gc=-1", false);
        gc("gc=yes", false);
        gc("gc=1.5", false);
    }

    #[test]
    fn a_profile_without_differences_says_so_before_it_looks_at_debug() {
        let read = |query| Params::read(Query(query), false, View::default()).unwrap_err();
        assert_eq!(
            read("seconds=1&debug=1"),
            r#""seconds" parameter is not supported for this profile type"#
        );
        assert!(read("seconds=x").contains("positive integer"));
    }

    #[test]
    fn the_view_is_changed_only_where_the_query_says_so() {
        let plain = View::default();
        let labels = |names: &[&str]| {
            names.iter().try_fold(LabelView::NONE, |labels, name| labels.with(name)).unwrap()
        };
        view("stack=&symbols=&labels=", Ok(plain));
        view("stack=logical", Ok(plain.stack(StackView::Logical)));
        view("stack=native", Ok(plain));
        view("symbols=table", Ok(plain.symbols(Symbols::SymbolTable)));
        view("symbols=none", Ok(plain.symbols(Symbols::None)));
        view("symbols=dwarf", Ok(plain));
        view("labels=span,thread", Ok(plain.labels(labels(&["span", "thread"]))));
        view("labels=all", Ok(plain.labels(LabelView::ALL)));
        view("threads=all", Ok(plain.threads(ThreadView::All)));
        view("threads=published&idle=0&idle=1", Ok(plain));
        view("idle=1", Ok(plain.idle(true)));
        view("threads=1", Err(r#"invalid value "1" for "threads" - must be published or all"#));
        view("stack=go", Err(r#"invalid value "go" for "stack" - must be native or logical"#));
        view("symbols=1", Err(r#"invalid value "1" for "symbols" - must be dwarf, table or none"#));
        view(
            "labels=span,spam",
            Err(
                r#"invalid value "spam" for "labels" - must be any of span, thread, acquired_at, state, wait, all"#,
            ),
        );
    }

    #[test]
    fn what_is_nearly_a_parameter_is_refused_and_what_others_add_is_not() {
        for (query, meant) in [
            ("secnods=5", "seconds"),
            ("second=5", "seconds"),
            ("Seconds=5", "seconds"),
            ("stak=logical", "stack"),
            ("stacks=logical", "stack"),
            ("label=span", "labels"),
            ("thread=all", "threads"),
            ("symbol=none", "symbols"),
            ("debg=1", "debug"),
            ("idel=1", "idle"),
            ("debug=1&thread=all", "threads"),
        ] {
            let key = query.rsplit('&').next().unwrap().split('=').next().unwrap();
            let expected = format!(
                "unknown parameter {key:?} - did you mean {meant:?}? There are debug, gc, hz, idle, labels, seconds, stack, symbols, threads"
            );
            for read in [
                Params::read(Query(query), true, View::default()).map(|_| ()),
                CaptureParams::read(Query(query), View::default()).map(|_| ()),
            ] {
                assert_eq!(read, Err(expected.clone()), "{query}");
            }
        }
        // Of Go's clients, scrapers and proxies.
        for query in [
            "",
            "=",
            "rate=5",
            "ms=1",
            "id=1",
            "t=1",
            "ts=1700000000",
            "cpu=1",
            "host=x",
            "utm_source=x",
            "format=proto",
            "access_token=x",
            "nocache=1",
            "time=5",
            "from=a&until=b",
            "state=x",
            "DEBUG=1",
            "HZ=99",
            "table=1",
        ] {
            assert!(Params::read(Query(query), true, View::default()).is_ok(), "{query}");
        }
        // Go's own checks come first.
        let both = Params::read(Query("seconds=x&stak=1"), true, View::default());
        assert!(both.unwrap_err().contains("positive integer"));
    }

    proptest! {
        #[test]
        fn reading_never_panics(query in "([a-z&=%;+,0-9]|seconds|debug|gc|labels|stack|.){0,60}") {
            let _ = Params::read(Query(&query), true, View::default());
        }
    }
}
