//! The labels of a sample.
//!
//! Text labels become series in some servers, so a profile has at most [`MOST_SETS`] distinct sets
//! of them; the sets with the smallest sums share one, in which every label whose values differ
//! reads `[other]`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::handle::index;
use crate::callsite::CallSite;
use crate::merge::{Key, Sums, VALUES};
use crate::view::LabelView;

/// How many distinct sets of text labels a profile may have: far below the 5,000 series that
/// servers take, and room for some twenty profiles of a hundred instances.
pub(crate) const MOST_SETS: usize = 200;
/// How many labels the shared set may have; servers take 30.
const MOST_OTHER_LABELS: usize = 16;
/// The longest `span` label; servers take 2,048 bytes.
const LONGEST_PATH: usize = 1024;
/// Stands for values that are not shown.
const OTHER: &str = "[other]";

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Label {
    pub(crate) key: Arc<str>,
    pub(crate) value: Value,
}

/// The value of a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Value {
    /// Never empty: the format cannot tell an empty text from none.
    Text(Arc<str>),
    /// A number, never 0, and its unit, which may be empty.
    Number(i64, &'static str),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number, "") => number.fmt(f),
            Self::Number(number, unit) => write!(f, "{number} {unit}"),
        }
    }
}

/// Sorted by key, keys unique.
pub(crate) type LabelSet = Arc<[Label]>;

/// What of a row's key stands in its labels.
#[derive(PartialEq, Eq, Hash)]
struct Shown<'a> {
    own: &'a [(Arc<str>, Arc<str>)],
    waiting_for: Option<&'static str>,
    lock: Option<&'static str>,
    path: &'a [&'static CallSite],
    acquired_at: Option<&'static Location<'static>>,
    thread: Option<&'a str>,
    on_cpu: Option<bool>,
}

/// Forms the text labels of all rows: the distinct sets, and which one each row has.
///
/// `column` is the value that decides which sets are kept.
pub(crate) fn text_labels(
    rows: &[(&Key, &Sums)],
    view: LabelView,
    column: usize,
) -> (Vec<LabelSet>, Vec<u32>) {
    let mut by_key: FxHashMap<Shown<'_>, u32> = FxHashMap::default();
    let mut by_set: HashMap<LabelSet, u32> = HashMap::new();
    let mut sets: Vec<LabelSet> = Vec::new();
    let mut of_rows = Vec::with_capacity(rows.len());
    for (key, _) in rows {
        let shown = Shown {
            own: &key.labels,
            waiting_for: key.waiting_for,
            lock: key.lock,
            path: if view.span { &key.path } else { &[] },
            acquired_at: key.acquired_at.filter(|_| view.acquired_at),
            thread: key.thread.as_deref().filter(|_| view.thread),
            on_cpu: key.on_cpu.filter(|_| view.state),
        };
        let id = *by_key.entry(shown).or_insert_with_key(|shown| {
            *by_set.entry(shown.labels()).or_insert_with_key(|set| {
                sets.push(Arc::clone(set));
                index(sets.len() - 1)
            })
        });
        of_rows.push(id);
    }
    if sets.len() > MOST_SETS {
        limit(&mut sets, &mut of_rows, rows, column);
    }
    (sets, of_rows)
}

impl Shown<'_> {
    fn labels(&self) -> LabelSet {
        // In a map, so that keys are unique and sorted; the profiler's own come last and win.
        let mut labels: BTreeMap<&str, Arc<str>> =
            self.own.iter().map(|(key, value)| (&**key, Arc::clone(value))).collect();
        let own = [
            ("kind", self.waiting_for.map(Arc::from)),
            ("lock", self.lock.map(Arc::from)),
            ("span", path_label(self.path)),
            (
                "acquired_at",
                self.acquired_at.map(|at| format!("{}:{}", at.file(), at.line()).into()),
            ),
            ("thread", self.thread.map(Arc::from)),
            ("state", self.on_cpu.map(|on_cpu| if on_cpu { "running" } else { "waiting" }.into())),
        ];
        labels.extend(own.into_iter().filter_map(|(key, value)| Some((key, value?))));
        labels
            .into_iter()
            .filter(|(key, value)| !key.is_empty() && !value.is_empty())
            .map(|(key, value)| Label { key: key.into(), value: Value::Text(value) })
            .collect()
    }
}

/// Joins a span path (given leaf first), root first. One that is too long loses its root.
fn path_label(path: &[&'static CallSite]) -> Option<Arc<str>> {
    const SEPARATOR: &str = " > ";
    let mut names = Vec::with_capacity(path.len());
    let mut length = 0;
    for site in path {
        length += site.name().len() + SEPARATOR.len();
        if length > LONGEST_PATH && !names.is_empty() {
            names.push("...");
            break;
        }
        names.push(site.name());
    }
    names.reverse();
    (!names.is_empty()).then(|| names.join(SEPARATOR).into())
}

/// Leaves the sets with the largest sums as they are and puts the others into one.
fn limit(sets: &mut Vec<LabelSet>, of_rows: &mut [u32], rows: &[(&Key, &Sums)], column: usize) {
    let mut weights = vec![(0_u64, 0_u64); sets.len()];
    for (&id, (_, sums)) in of_rows.iter().zip(rows) {
        let weight = &mut weights[id as usize];
        let value = |column: usize| sums.values[column.min(VALUES - 1)].unsigned_abs();
        weight.0 = weight.0.saturating_add(value(column));
        weight.1 = weight.1.saturating_add(value(0));
    }
    let mut order: Vec<usize> = (0..sets.len()).collect();
    order.sort_by(|&a, &b| (Reverse(weights[a]), &sets[a]).cmp(&(Reverse(weights[b]), &sets[b])));
    let (kept, others) = order.split_at(MOST_SETS - 1);

    let shared = shared_set(others.iter().map(|&id| &sets[id]));
    let mut new = vec![index(kept.len()); sets.len()];
    for (position, &id) in kept.iter().enumerate() {
        new[id] = index(position);
    }
    for id in of_rows {
        *id = new[*id as usize];
    }
    *sets = kept.iter().map(|&id| Arc::clone(&sets[id])).chain([shared]).collect();
}

/// Makes one set of many: a value that all have stays, else it is `[other]`.
fn shared_set<'a>(sets: impl Iterator<Item = &'a LabelSet>) -> LabelSet {
    let mut labels: BTreeMap<Arc<str>, (usize, Value)> = BTreeMap::new();
    let mut count = 0;
    for set in sets {
        count += 1;
        for label in set.iter() {
            let (seen, value) =
                labels.entry(Arc::clone(&label.key)).or_insert_with(|| (0, label.value.clone()));
            *seen += 1;
            if *value != label.value {
                *value = Value::Text(OTHER.into());
            }
        }
    }
    labels
        .into_iter()
        .take(MOST_OTHER_LABELS)
        .map(|(key, (seen, value))| {
            let value = if seen == count { value } else { Value::Text(OTHER.into()) };
            Label { key, value }
        })
        .collect()
}

/// Adds a numeric label, in the place of another one of that key.
pub(crate) fn with_number(set: &LabelSet, key: &str, number: i64, unit: &'static str) -> LabelSet {
    let label = Label { key: key.into(), value: Value::Number(number, unit) };
    let mut labels: Vec<Label> =
        set.iter().filter(|other| other.key != label.key).cloned().collect();
    let place = labels.partition_point(|other| other.key < label.key);
    labels.insert(place, label);
    labels.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callsite::Name;
    use crate::encode::testing::{NATIVE, labelled, native, profile, reading, sums, text};
    use crate::kind::Kind;
    use crate::merge::Rows;

    static SITE: CallSite = CallSite::new(Name::Literal("shop::serve"), "src/shop.rs", 3);

    fn check(view: LabelView, row: Key, expected: &str) {
        let rows = Rows::from_iter([(row, sums(1, 1))]);
        let profile = profile(reading(Kind::Block, NATIVE.labels(view)), &rows, &[(1, "f")]);
        assert_eq!(text(&profile), [format!("1 1: f{expected}")]);
    }

    fn full() -> Key {
        Key {
            path: [&SITE, &SITE].into(),
            waiting_for: Some("mutex"),
            lock: Some("stock"),
            acquired_at: Some(Location::caller()),
            thread: Some("worker".into()),
            ..labelled(&[1], &[("a", "1"), ("z", "2")])
        }
    }

    #[test]
    fn lock_kind_and_the_applications_own_are_always_there() {
        check(LabelView::NONE, full(), " a=1 kind=mutex lock=stock z=2");
        check(LabelView::NONE, native(&[1]), "");
    }

    #[test]
    fn others_come_on_request() {
        let row = full();
        let at = row.acquired_at.unwrap();
        let expected = format!(
            " a=1 acquired_at={}:{} kind=mutex lock=stock span=shop::serve > shop::serve thread=worker z=2",
            at.file(),
            at.line()
        );
        check(LabelView::ALL, row, &expected);
        check(LabelView::ALL, native(&[1]), "");
    }

    #[test]
    fn the_profilers_labels_win_and_empty_ones_are_left_out() {
        let labels = [("", "x"), ("empty", ""), ("kind", "mine"), ("lock", "mine")];
        let row = Key { waiting_for: Some("mutex"), ..labelled(&[1], &labels) };
        check(LabelView::NONE, row, " kind=mutex lock=mine");
    }

    #[test]
    fn a_long_path_loses_its_root() {
        static LONG: CallSite =
            CallSite::new(Name::Literal("a_function_with_a_name_of_thirty_2"), "src/shop.rs", 3);
        let path: Vec<&'static CallSite> = [&SITE].into_iter().chain([&LONG; 100]).collect();
        let label = path_label(&path).unwrap();
        assert!(label.len() <= LONGEST_PATH + 3, "{}", label.len());
        assert!(label.starts_with("... > a_function") && label.ends_with(" > shop::serve"));
    }

    #[test]
    fn the_smallest_of_many_sets_share_one() {
        let row = |tenant: i64, kind| {
            let labels = [("tenant", &*format!("t{tenant}")), ("zone", "west")];
            (Key { waiting_for: Some(kind), ..labelled(&[1], &labels) }, sums(1, 1000 + tenant))
        };
        let rows: Rows = (0..300).map(|tenant| row(tenant, "mutex")).collect();
        let profile = profile(reading(Kind::Block, NATIVE), &rows, &[(1, "f")]);
        let text = text(&profile);
        assert_eq!(text.len(), MOST_SETS);
        // Those of tenants 0 to 100 together.
        assert_eq!(text[0], "101 106050: f kind=mutex tenant=[other] zone=west");
        assert_eq!(text[1], "1 1299: f kind=mutex tenant=t299 zone=west");
        assert_eq!(text[199], "1 1101: f kind=mutex tenant=t101 zone=west");
        assert_eq!(profile.totals(), [300, (0..300).map(|tenant| 1000 + tenant).sum()]);
    }

    #[test]
    fn two_hundred_sets_stay_as_they_are() {
        let rows: Rows = (0..MOST_SETS)
            .map(|tenant| (labelled(&[1], &[("tenant", &tenant.to_string())]), sums(1, 1)))
            .collect();
        let profile = profile(reading(Kind::Block, NATIVE), &rows, &[(1, "f")]);
        assert_eq!(profile.len(), MOST_SETS);
        assert!(!text(&profile).iter().any(|sample| sample.contains(OTHER)));
    }

    #[test]
    fn a_label_that_only_some_have_is_other_in_the_shared_set() {
        let set = |labels: &[(&str, &str)]| -> LabelSet {
            let label = |&(key, value): &(&str, &str)| Label {
                key: key.into(),
                value: Value::Text(value.into()),
            };
            labels.iter().map(label).collect()
        };
        let shared = shared_set([&set(&[("a", "1"), ("b", "1")]), &set(&[("b", "1")])].into_iter());
        assert_eq!(shared, set(&[("a", "[other]"), ("b", "1")]));
        let many: Vec<(String, &str)> = (0..40).map(|key| (format!("k{key}"), "v")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(key, value)| (&**key, *value)).collect();
        assert_eq!(shared_set([&set(&many)].into_iter()).len(), MOST_OTHER_LABELS);
    }

    #[test]
    fn a_number_stands_in_its_place_and_takes_that_of_a_text() {
        let text = |key: &str| Label { key: key.into(), value: Value::Text("x".into()) };
        let number = Label { key: "bytes".into(), value: Value::Number(64, "") };
        for (set, expected) in [
            (vec![], vec![number.clone()]),
            (vec![text("a"), text("z")], vec![text("a"), number.clone(), text("z")]),
            (vec![text("bytes"), text("z")], vec![number.clone(), text("z")]),
        ] {
            assert_eq!(*with_number(&set.into(), "bytes", 64, ""), *expected);
        }
    }
}
