//! The text form of what has none in Go, `debug=1`: a table of functions and folded stacks.
//!
//! Lines that begin with `#` are for people. The others are folded stacks, which tools that draw flame graphs take:
//! names from the outermost to the leaf, separated by semicolons, and the value.

use std::collections::BTreeMap;
use std::io::{self, Write};

use crate::profile::{Label, Profile, Row, TopEntry};

/// Functions of the table: a screen of them.
const MOST: usize = 40;

/// Writes the table, by the column that tools show first, and the stacks, largest value first.
pub(super) fn report(profile: &Profile, writer: &mut impl Write) -> io::Result<()> {
    let kind = profile.kind();
    let column = kind.default_column();
    let value = kind.values()[column];
    let total = profile.totals()[column];
    let amount = |amount: i64| in_unit(amount, value.unit);
    write!(writer, "# {kind}: {} of {}", amount(total), value.name)?;
    match profile.duration().as_secs_f64() {
        0.0 => writeln!(writer)?,
        seconds => writeln!(writer, " in {seconds:.1} s")?,
    }
    let percent = |part: i64| 100.0 * part as f64 / total.max(1) as f64;
    writeln!(writer, "#{:>11}  flat%{:>11}   cum%", "flat", "cum")?;
    for TopEntry { name, flat, cum } in profile.top(MOST) {
        let (flat_share, cum_share) = (percent(flat), percent(cum));
        let (flat, cum) = (amount(flat), amount(cum));
        writeln!(writer, "#{flat:>11} {flat_share:>5.1}%{cum:>11} {cum_share:>5.1}%  {name}")?;
    }
    writeln!(writer, "#\n# Folded stacks, in {}:", value.unit)?;
    let mut stacks: BTreeMap<String, i64> = BTreeMap::new();
    for row in profile.rows() {
        let sum = stacks.entry(folded(profile, row)).or_default();
        *sum = sum.saturating_add(row.values[column]);
    }
    let mut stacks: Vec<_> = stacks.into_iter().collect();
    stacks.sort_by_key(|(_, value)| std::cmp::Reverse(*value));
    for (stack, value) in stacks {
        writeln!(writer, "{stack} {value}")?;
    }
    Ok(())
}

/// Returns the names of a stack, outermost first, with its labels below the leaf.
fn folded(profile: &Profile, row: &Row) -> String {
    let mut names = Vec::new();
    for &id in row.stack.iter().rev() {
        let location = &profile.locations()[id as usize];
        if location.lines().is_empty() {
            names.push(format!("{:#x}", location.address));
        }
        let lines = location.lines().iter().rev();
        names.extend(lines.map(|line| line.function.name.replace(';', ":")));
    }
    let labels = &profile.label_sets()[row.labels as usize];
    names.extend(
        labels.iter().map(|Label { key, value }| format!("{key}={value}").replace(';', ":")),
    );
    names.join(";")
}

fn in_unit(value: i64, unit: &str) -> String {
    let seconds = value as f64 / 1e9;
    match unit {
        "nanoseconds" if seconds.abs() >= 1.0 => format!("{seconds:.2}s"),
        "nanoseconds" => format!("{:.2}ms", seconds * 1e3),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use crate::encode::testing::{NATIVE, START, labelled, native, profile, reading, sums};
    use crate::kind::Kind;
    use crate::merge::Rows;

    #[test]
    fn functions_come_first_and_then_folded_stacks() {
        let names = [(START + 1, "inner | outer"), (START + 2, "main"), (START + 3, "a;b")];
        let rows = Rows::from_iter([
            (native(&[START + 1, START + 2]), sums(3, 30_000_000)),
            (labelled(&[START + 3, START + 2], &[("k", "v")]), sums(120, 1_200_000_000)),
            (native(&[START + 9, START + 2]), sums(1, 10_000_000)),
        ]);
        let mut text = Vec::new();
        profile(reading(Kind::Profile, NATIVE), &rows, &names).write_text(&mut text).unwrap();
        let expected = "\
# profile: 1.24s of cpu
#       flat  flat%        cum   cum%
#      1.20s  96.8%      1.20s  96.8%  a;b
#    30.00ms   2.4%    30.00ms   2.4%  inner
#    10.00ms   0.8%    10.00ms   0.8%  0x100009
#     0.00ms   0.0%      1.24s 100.0%  main
#     0.00ms   0.0%    30.00ms   2.4%  outer
#
# Folded stacks, in nanoseconds:
main;a:b;k=v 1200000000
main;outer;inner 30000000
main;0x100009 10000000
";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
