//! Which files of a crate import which, by their text.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};
use syn::{Item, ItemMod, ItemUse, UseTree};

use crate::sources::File;

/// The files of a crate, and of each those that it imports from.
pub type Imports = BTreeMap<String, BTreeSet<String>>;

/// What a file is, and what it names of its crate: paths from the crate's root, with the name that each has in the file.
type Modules = BTreeMap<Vec<String>, (String, Vec<(Vec<String>, String)>)>;

/// Returns for each file below `source` those that it imports from, tests aside.
///
/// A module and those inside it belong together: imports between them are left out, but for names that the outer one
/// hands on from a third.
///
/// # Panics
///
/// A file is no Rust.
#[must_use]
pub fn imports(source: &str, files: &[File]) -> Imports {
    let of_crate = files.iter().filter_map(|(path, text)| Some((path.strip_prefix(source)?, text)));
    let modules: Modules = of_crate
        .map(|(path, text)| {
            let mut named = Named { module: module(path), paths: Vec::new() };
            let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{path}: {error}"));
            named.visit_file(&file);
            (named.module, (path.to_owned(), named.paths))
        })
        .collect();
    let mut found = Imports::new();
    for (own, (path, named)) in &modules {
        let files = found.entry(path.clone()).or_default();
        for (path, _) in named {
            let target = resolve(&modules, path, 8).filter(|to| !own.starts_with(to));
            files.extend(
                target.filter(|to| !to.starts_with(own)).map(|target| modules[&target].0.clone()),
            );
        }
    }
    found
}

/// Returns the files that import themselves through others.
#[must_use]
pub fn in_circles(imports: &Imports) -> Vec<&str> {
    let reaches_itself = |start: &&String| {
        let mut open: Vec<&String> = imports[*start].iter().collect();
        let mut seen = BTreeSet::new();
        while let Some(file) = open.pop() {
            if seen.insert(file) {
                open.extend(imports.get(file).into_iter().flatten());
            }
        }
        seen.contains(start)
    };
    imports.keys().filter(reaches_itself).map(String::as_str).collect()
}

/// Returns the module of a file: `buffer`, `thread` of `buffer/thread.rs`.
fn module(path: &str) -> Vec<String> {
    let mut parts: Vec<_> = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib")) {
        parts.pop();
    }
    parts
}

/// Returns the module whose file has what a path names, also where others hand it on.
fn resolve(modules: &Modules, path: &[String], further: usize) -> Option<Vec<String>> {
    let length = (0..=path.len()).rev().find(|&length| modules.contains_key(&path[..length]))?;
    let (own, rest) = path.split_at(length);
    let handed_on = rest.first().filter(|_| further > 0).and_then(|name| {
        let (path, _) = modules[own].1.iter().find(|(_, known)| known == name)?;
        resolve(modules, path, further - 1)
    });
    handed_on.or_else(|| Some(own.to_vec()))
}

struct Named {
    module: Vec<String>,
    paths: Vec<(Vec<String>, String)>,
}

impl Named {
    /// Takes note of a path. One into another crate leads to this module, as nothing else is found for it.
    fn note(&mut self, path: &[String], name: &str) {
        let above = path.iter().take_while(|part| *part == "super").count();
        let start = match path.first().map(String::as_str) {
            Some("crate") => &[],
            _ => &self.module[..self.module.len().saturating_sub(above)],
        };
        let is_word = |part: &&String| matches!(part.as_str(), "crate" | "self" | "super");
        let rest = path.iter().skip_while(is_word).filter(|part| *part != "self");
        let whole = start.iter().chain(rest).cloned().collect();
        self.paths.push((whole, name.to_owned()));
    }

    fn note_tree(&mut self, tree: &UseTree, path: &mut Vec<String>) {
        let length = path.len();
        match tree {
            UseTree::Path(inner) => {
                path.push(inner.ident.to_string());
                self.note_tree(&inner.tree, path);
            }
            UseTree::Name(inner) => {
                path.push(inner.ident.to_string());
                self.note(path, &inner.ident.to_string());
            }
            UseTree::Rename(inner) => {
                path.push(inner.ident.to_string());
                self.note(path, &inner.rename.to_string());
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|item| self.note_tree(item, path));
            }
            UseTree::Glob(_) => self.note(path, "*"),
        }
        path.truncate(length);
    }
}

impl Visit<'_> for Named {
    fn visit_item(&mut self, item: &Item) {
        let attributes = match item {
            Item::Mod(ItemMod { attrs, .. }) | Item::Use(ItemUse { attrs, .. }) => &**attrs,
            _ => &[],
        };
        let is_for_tests = attributes.iter().any(|attribute| {
            attribute.path().is_ident("cfg")
                && attribute.meta.require_list().is_ok_and(|list| {
                    let condition = list.tokens.to_string();
                    condition == "test" || condition.starts_with("all (test")
                })
        });
        if !is_for_tests {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &ItemUse) {
        self.note_tree(&item.tree, &mut Vec::new());
    }

    fn visit_path(&mut self, path: &syn::Path) {
        let parts: Vec<_> = path.segments.iter().map(|part| part.ident.to_string()).collect();
        self.note(&parts, "");
        visit::visit_path(self, path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], expected: &[&str]) {
        let files: Vec<_> =
            files.iter().map(|(path, text)| (format!("src/{path}"), (*text).to_owned())).collect();
        assert_eq!(in_circles(&imports("src/", &files)), expected);
    }

    #[test]
    fn files_that_import_each_other_are_found() {
        let inner = ("a/inner.rs", "use super::other::{Other, more::More as Most};");
        check(&[("a/mod.rs", "mod inner; mod other;"), inner, ("a/other.rs", "")], &[]);
        check(
            &[("a/mod.rs", ""), inner, ("a/other.rs", "use crate::a::inner;")],
            &["a/inner.rs", "a/other.rs"],
        );
        check(
            &[("a/mod.rs", ""), inner, ("a/other.rs", "fn f() { super::inner::g() }")],
            &["a/inner.rs", "a/other.rs"],
        );
        // Through a third, and by a name that the module around hands on.
        let facade = ("a/mod.rs", "pub(crate) use third::Inner as It;");
        check(
            &[facade, inner, ("a/other.rs", "use super::It;"), ("a/third.rs", "use super::inner;")],
            &["a/inner.rs", "a/other.rs", "a/third.rs"],
        );
    }

    #[test]
    fn tests_and_what_a_module_holds_are_no_circle() {
        check(&[("a.rs", "mod b; use self::b::B;"), ("a/b.rs", "use super::A;")], &[]);
        check(
            &[
                ("a.rs", "#[cfg(test)]\nmod tests { use crate::b::B; }"),
                ("b.rs", "use crate::a::A;"),
            ],
            &[],
        );
        check(&[("a.rs", "use std::fmt;"), ("fmt.rs", "use crate::a::A;")], &[]);
    }
}
