//! No file imports another that imports it back, by however many steps.
//!
//! A path is followed as far as it names modules; what a `mod.rs` passes on with `pub use` belongs to the file it comes
//! from. The declarations of a `mod.rs` are no imports.

use std::collections::{BTreeMap, BTreeSet};

use super::{Source, sources};

/// A module by its path below the crate, e.g. `["ckks", "encoder"]`.
type Module = Vec<String>;

fn module_of(source: &Source) -> Module {
    let name = source.name.trim_end_matches(".rs").trim_end_matches("/mod").trim_end_matches("lib");
    name.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// The identifiers of a `use` tree, each as one path: `a::{b, c::D as E}` is `a::b` and `a::c::D`.
fn paths_of(tree: &str) -> Vec<Vec<String>> {
    let tree = tree.trim();
    let Some((prefix, list)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        return vec![path.split("::").map(|part| part.trim().to_owned()).collect()];
    };
    let prefix: Vec<String> =
        prefix.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect();
    let list = list.rsplit_once('}').map_or(list, |(inside, _)| inside);
    let (mut depth, mut start, mut parts) = (0usize, 0, Vec::new());
    for (index, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&list[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&list[start..]);
    let inner = parts.into_iter().filter(|part| !part.trim().is_empty()).flat_map(paths_of);
    inner.map(|path| prefix.iter().cloned().chain(path).collect()).collect()
}

/// The `use` items of a file: whether they are public, and their paths from the root of the crate.
fn uses(source: &Source, own: &Module) -> Vec<(bool, Vec<String>)> {
    let mut found = Vec::new();
    for item in source.code.split(';') {
        let Some(start) = item.rfind("use ") else { continue };
        let before = item[..start].trim_end();
        if !before.is_empty() && !before.ends_with(['}', ']', ')', '{']) && !before.ends_with("pub") {
            continue;
        }
        let line = before.rsplit(['}', ']', '{', '\n']).next().unwrap_or_default();
        let is_public = line.trim_start().starts_with("pub");
        for path in paths_of(&item[start + "use ".len()..]) {
            let mut base = own.clone();
            let mut path = path.into_iter().peekable();
            match path.peek().map(String::as_str) {
                Some("crate") => {
                    path.next();
                    base.clear();
                }
                Some("self") => {
                    path.next();
                }
                Some("super") => {
                    while path.next_if(|part| part == "super").is_some() {
                        base.pop();
                    }
                }
                // Another crate, or a child of this module.
                _ => {}
            }
            found.push((is_public, base.into_iter().chain(path).collect()));
        }
    }
    found
}

/// The module that defines what `path` names: the longest prefix that is a module, and behind the `pub use` of a
/// `mod.rs` the one it passes on.
fn defined_in(
    path: &[String],
    modules: &BTreeSet<Module>,
    passed_on: &BTreeMap<(Module, String), Vec<String>>,
) -> Option<Module> {
    let length = (1..=path.len()).rev().find(|length| modules.contains(&path[..*length]))?;
    let module = path[..length].to_vec();
    let Some(name) = path.get(length) else { return Some(module) };
    match passed_on.get(&(module.clone(), name.clone())) {
        Some(source) if source.as_slice() != path => defined_in(source, modules, passed_on),
        _ => Some(module),
    }
}

/// Every file with the files it imports.
fn graph(files: &[Source]) -> BTreeMap<Module, BTreeSet<Module>> {
    let modules: BTreeSet<Module> = files.iter().map(module_of).collect();
    let mut passed_on = BTreeMap::new();
    for file in files.iter().filter(|file| file.name.ends_with("mod.rs")) {
        let own = module_of(file);
        for (is_public, path) in uses(file, &own) {
            if let (true, Some(name)) = (is_public, path.last().cloned()) {
                passed_on.insert((own.clone(), name), path);
            }
        }
    }
    let mut graph: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
    for file in files.iter().filter(|file| !["lib.rs", "main.rs"].contains(&file.name.as_str())) {
        let own = module_of(file);
        let imported = uses(file, &own).into_iter().filter(|(is_public, _)| !is_public);
        let mut targets: BTreeSet<Module> =
            imported.filter_map(|(_, path)| defined_in(&path, &modules, &passed_on)).collect();
        targets.remove(&own);
        graph.insert(own, targets);
    }
    graph
}

/// A way from `start` back to it, if there is one.
fn circle(start: &Module, graph: &BTreeMap<Module, BTreeSet<Module>>) -> Option<Vec<Module>> {
    let mut ways = vec![vec![start.clone()]];
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop() {
        for next in way.last().and_then(|last| graph.get(last)).into_iter().flatten() {
            if next == start {
                return Some(way);
            }
            if seen.insert(next.clone()) {
                ways.push(way.iter().chain([next]).cloned().collect());
            }
        }
    }
    None
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let graph = graph(&sources());
    let edges: usize = graph.values().map(BTreeSet::len).sum();
    assert!(edges > 500, "only {edges} imports found");
    let mut circles: BTreeMap<BTreeSet<Module>, String> = BTreeMap::new();
    for start in graph.keys() {
        if let Some(way) = circle(start, &graph) {
            let text: Vec<String> = way.iter().map(|module| module.join("::")).collect();
            circles.entry(way.into_iter().collect()).or_insert_with(|| text.join(" → "));
        }
    }
    let circles: Vec<String> = circles.into_values().collect();
    assert!(circles.is_empty(), "files that import each other in a circle:\n{}", circles.join("\n"));
}

#[test]
fn circles_are_seen_through_re_exports() {
    let file = |name: &str, code: &str| Source {
        path: std::path::PathBuf::new(),
        name: name.to_owned(),
        lines: 0,
        code: code.to_owned(),
    };
    let files = [
        file("a/mod.rs", "mod b; mod c; pub use b::{B, D as E}; pub use c::C;"),
        file("a/b.rs", "use super::{C}; pub struct B; pub struct D;"),
        file("a/c.rs", "use crate::a::B; pub struct C;"),
        file("d.rs", "use crate::{a::{C, b::B}, e}; use std::fmt;"),
        file("e.rs", "pub fn e() {}"),
    ];
    let graph = graph(&files);
    let module = |path: &str| -> Module { path.split("::").map(str::to_owned).collect() };
    assert_eq!(graph[&module("d")], BTreeSet::from([module("a::b"), module("a::c"), module("e")]));
    assert_eq!(circle(&module("a::b"), &graph), Some(vec![module("a::b"), module("a::c")]));
    assert_eq!(circle(&module("d"), &graph), None);
}
