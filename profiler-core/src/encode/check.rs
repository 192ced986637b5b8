//! The rules that readers hold a profile to: Go's `CheckValid`, and those of Parca, of Alloy's
//! difference and of Pyroscope.

use std::collections::HashSet;

use super::proto::Profile;

/// Returns the first rule that is broken.
pub(crate) fn check_valid(profile: &Profile) -> Result<(), String> {
    let strings = &profile.string_table;
    rule(strings.first().is_some_and(String::is_empty), "the first string is empty")?;
    let text = |position: i64| {
        usize::try_from(position)
            .ok()
            .and_then(|position| strings.get(position))
            .ok_or_else(|| format!("string {position} does not exist"))
    };

    rule(!profile.sample_type.is_empty(), "there are sample types")?;
    rule(profile.sample_type.len() <= 4, "at most four values (Alloy)")?;
    let mut types = HashSet::new();
    for value in profile.sample_type.iter().chain(&profile.period_type) {
        let (name, _) = (text(value.r#type)?, text(value.unit)?);
        rule(!name.is_empty(), "a type has a name")?;
        rule(!name.contains('-'), "no hyphen in a type (Pyroscope)")?;
    }
    for value in &profile.sample_type {
        rule(types.insert(value.r#type), "types differ")?;
    }
    // Go's is 0 too for a heap of which nothing is sampled.
    rule(profile.period_type.is_some() && profile.period >= 0, "there is a period")?;
    rule(profile.time_nanos > 0, "the time is known")?;
    rule(profile.duration_nanos >= 0, "the duration is not negative")?;
    text(profile.default_sample_type)?;

    rule(!profile.mapping.is_empty(), "there is a mapping")?;
    for (mapping, id) in profile.mapping.iter().zip(1..) {
        rule(mapping.id == id, "mappings are numbered in order (Parca)")?;
        text(mapping.filename)?;
        let build_id = text(mapping.build_id)?;
        let lower = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        rule(build_id.bytes().all(lower), "a build id is lower-case hexadecimal")?;
    }
    for (function, id) in profile.function.iter().zip(1..) {
        rule(function.id == id, "functions are numbered in order (Parca)")?;
        rule(!text(function.name)?.is_empty(), "a function has a name")?;
        rule(text(function.name)? != text(function.system_name)?, "the system name differs")?;
        text(function.filename)?;
    }
    let mut addresses = HashSet::new();
    for (location, id) in profile.location.iter().zip(1..) {
        rule(location.id == id, "locations are numbered in order (Parca)")?;
        rule(location.address != 0, "an address is not 0 (Alloy)")?;
        rule(addresses.insert(location.address), "addresses are unique (Alloy)")?;
        let mapping = usize::try_from(location.mapping_id).unwrap().checked_sub(1);
        rule(mapping.is_some(), "a location has a mapping (flameshow)")?;
        let mapping = mapping.and_then(|position| profile.mapping.get(position));
        let mapping = mapping.ok_or("broken: the mapping exists")?;
        // Without bounds it is for addresses that lie in no other.
        let range = mapping.memory_start..mapping.memory_limit;
        rule(
            range.is_empty() || range.contains(&location.address),
            "the mapping holds the address",
        )?;
        rule(!mapping.has_functions || !location.line.is_empty(), "has_functions is honest")?;
        for line in &location.line {
            let functions = 1..=profile.function.len() as u64;
            rule(functions.contains(&line.function_id), "the function exists")?;
        }
    }
    check_samples(profile, &text)
}

fn check_samples<'a>(
    profile: &Profile,
    text: &impl Fn(i64) -> Result<&'a String, String>,
) -> Result<(), String> {
    let mut stacks = HashSet::new();
    rule(profile.sample.len() <= 16_000, "at most 16,000 samples (Pyroscope)")?;
    for sample in &profile.sample {
        rule(sample.value.len() == profile.sample_type.len(), "as many values as types")?;
        rule(sample.value.iter().any(|&value| value != 0), "a sample has a value")?;
        let locations = 1..=profile.location.len() as u64;
        rule(sample.location_id.iter().all(|id| locations.contains(id)), "the location exists")?;
        rule(sample.location_id.len() <= 1000, "at most 1,000 frames (Pyroscope)")?;
        rule(sample.label.len() <= 30, "at most 30 labels (Pyroscope)")?;
        let mut last = "";
        let mut labels = Vec::new();
        for label in &sample.label {
            let (key, value, unit) = (text(label.key)?, text(label.str)?, text(label.num_unit)?);
            rule(!key.is_empty() && last < key.as_str(), "label keys are unique and sorted")?;
            rule(value.is_empty() != (label.num == 0), "a label is a text or a number")?;
            rule(label.num != 0 || unit.is_empty(), "only a number has a unit")?;
            last = key;
            labels.push((label.key, label.str, label.num));
        }
        rule(stacks.insert((&sample.location_id, labels)), "no stack stands twice")?;
    }
    Ok(())
}

fn rule(holds: bool, rule: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("broken: {rule}")) }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NATIVE, START, decode, native, profile, reading, sums};
    use super::*;
    use crate::kind::Kind;
    use crate::merge::Rows;

    type Spoil = fn(&mut Profile);

    #[test]
    fn the_check_finds_what_is_wrong() {
        let rows = Rows::from_iter([
            (native(&[START + 1, START + 2]), sums(3, 100)),
            (native(&[START + 2]), sums(1, 10)),
        ]);
        let names = [(START + 1, "inner | outer"), (START + 2, "main")];
        let good = decode(&profile(reading(Kind::Mutex, NATIVE), &rows, &names));
        let broken: [(&str, Spoil); 11] = [
            ("a location has a mapping", |p| p.location[0].mapping_id = 0),
            ("the mapping exists", |p| p.location[0].mapping_id = 9),
            ("the mapping holds the address", |p| p.location[0].address = 1),
            ("the first string is empty", |p| p.string_table[0] = "x".into()),
            ("as many values as types", |p| p.sample[0].value.push(1)),
            ("locations are numbered in order", |p| p.location[0].id = 9),
            ("an address is not 0", |p| p.location[0].address = 0),
            ("addresses are unique", |p| p.location[0].address = p.location[1].address),
            ("the system name differs", |p| p.function[0].system_name = p.function[0].name),
            ("no stack stands twice", |p| p.sample[1] = p.sample[0].clone()),
            ("has_functions is honest", |p| p.location[0].line.clear()),
        ];
        for (rule, spoil) in broken {
            let mut message = good.clone();
            spoil(&mut message);
            let error = check_valid(&message).unwrap_err();
            assert!(error.contains(rule), "{rule}: {error}");
        }
    }
}
