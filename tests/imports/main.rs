//! The shape of the house: imports run one way, files stay short, printing and `anyhow` stay in the command line.
//!
//! Reads the sources as text. Test code (`#[cfg(test)]` modules, inline or in files of their own) is left out: it may
//! use the simulator from anywhere.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: what fails, fails the test"
)]

mod circles;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// From the top down. A layer may import the layers after it.
const LAYERS: [&str; 19] = [
    "cli",
    "pages",
    "benchmarks",
    "setup",
    "fidelity",
    "generation",
    "related_work",
    "decoder",
    "calibration",
    "model",
    "placement",
    "packing",
    "backend",
    "bootstrapping",
    "circuits",
    "ckks",
    "ring",
    "measure",
    "contract",
];

/// Layers that may import even less than everything below them.
const NARROW: [(&str, &[&str]); 4] = [
    // Used by everyone, so that it can know none of them.
    ("measure", &["contract"]),
    // Generic over any backend.
    ("packing", &["circuits", "contract"]),
    ("circuits", &["contract"]),
    // Levels, costs and the geometry of packings; knows nothing of ciphertexts or of how a backend works.
    ("placement", &["packing", "contract"]),
];

const LONGEST_FILE: usize = 800;
const MEDIAN_FILE: usize = 220;
const DEEPEST_FOLDER: usize = 3;

/// A source file without comments, strings and test code.
struct Source {
    path: PathBuf,
    /// Path below `src`, e.g. `backend/clear/mod.rs`.
    name: String,
    lines: usize,
    code: String,
}

impl Source {
    /// The first folder (or file) of the module path.
    fn layer(&self) -> &str {
        self.name.split(['/', '.']).next().unwrap_or_default()
    }

    /// Modules above this file: `backend/clear/mod.rs` is two deep, `backend/clear/client.rs` three.
    fn depth(&self) -> usize {
        let folders = self.name.matches('/').count();
        if self.name.ends_with("/mod.rs") { folders } else { folders + 1 }
    }

    /// Top-level modules named by `crate::…` or by enough `super::` to reach the root.
    fn imported_layers(&self) -> BTreeSet<String> {
        let mut layers = BTreeSet::new();
        for (position, _) in self.code.match_indices("crate::") {
            layers.extend(modules_at(&self.code[position + "crate::".len()..]));
        }
        let to_root = "super::".repeat(self.depth());
        for (position, _) in self.code.match_indices(&to_root) {
            layers.extend(modules_at(&self.code[position + to_root.len()..]));
        }
        layers
    }
}

/// The modules a path that continues with `rest` names: one, or all in braces.
fn modules_at(rest: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(list) = rest.strip_prefix('{') else { return vec![word(rest)] };
    let (mut depth, mut names, mut start) = (0usize, Vec::new(), 0);
    for (index, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(word(&list[start..index]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(word(&list[start..index]));
                start = index + 1;
            }
            _ => {}
        }
    }
    names
}

/// Without comments and without the contents of string and character literals.
fn strip_comments_and_strings(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw_string_hashes(rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            let open = hashes + 2;
            rest[open..].find(&end).map_or(rest.len(), |at| open + at + end.len())
        } else if c == '"' {
            string_end(rest)
        } else if rest.starts_with("'\"'") || rest.starts_with("'{'") || rest.starts_with("'}'") {
            3
        } else if let Some(escaped) = rest.strip_prefix("'\\") {
            // The escaped character may itself be a quote.
            escaped.char_indices().skip(1).find(|(_, c)| *c == '\'').map_or(rest.len(), |(at, _)| at + 3)
        } else {
            code.push(c);
            c.len_utf8()
        };
        rest = &rest[skip..];
    }
    code
}

fn raw_string_hashes(text: &str) -> Option<usize> {
    let after = text.strip_prefix('r')?;
    let hashes = after.chars().take_while(|c| *c == '#').count();
    after[hashes..].starts_with('"').then_some(hashes)
}

fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (index, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return index + 1,
            _ => {}
        }
    }
    text.len()
}

/// Removes what follows every `#[cfg(test)]` or `#[cfg(all(test, …))]` up to the end of the item, and reports the test
/// modules that live in files of their own.
fn strip_test_code(code: &str) -> (String, Vec<String>) {
    let (mut kept, mut test_modules, mut rest) = (String::new(), Vec::new(), code);
    while let Some(at) = ["#[cfg(test)]", "#[cfg(all(test"].iter().filter_map(|a| rest.find(a)).min() {
        kept.push_str(&rest[..at]);
        let item = &rest[at..];
        let (brace, semicolon) = (item.find('{'), item.find(';'));
        let length = match (brace, semicolon) {
            (Some(open), semicolon) if semicolon.is_none_or(|s| open < s) => block_end(item, open),
            (_, Some(semicolon)) => {
                let declaration = &item[..semicolon];
                if let Some(name) = declaration.split_once("mod ").map(|(_, name)| name.trim()) {
                    test_modules.push(name.to_owned());
                }
                semicolon + 1
            }
            _ => item.len(),
        };
        rest = &item[length..];
    }
    kept.push_str(rest);
    (kept, test_modules)
}

fn block_end(text: &str, open: usize) -> usize {
    let mut depth = 0usize;
    for (index, c) in text[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return open + index + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// All sources of the crate outside test modules.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    let mut sources = Vec::new();
    let mut test_files: BTreeSet<PathBuf> = BTreeSet::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let (code, test_modules) = strip_test_code(&strip_comments_and_strings(&text));
        let name = path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
        let folder =
            if matches!(path.file_name().and_then(|f| f.to_str()), Some("mod.rs" | "lib.rs" | "main.rs")) {
                path.parent().unwrap().to_owned()
            } else {
                path.with_extension("")
            };
        for module in test_modules {
            test_files.insert(folder.join(&module));
            test_files.insert(folder.join(format!("{module}.rs")));
        }
        sources.push(Source { lines: text.lines().count(), path, name, code });
    }
    sources.retain(|source| !source.path.ancestors().any(|ancestor| test_files.contains(ancestor)));
    assert!(sources.len() > 20, "only {} sources found below {}", sources.len(), root.display());
    sources
}

#[test]
fn imports_run_downwards_only() {
    let rank: BTreeMap<&str, usize> = LAYERS.iter().enumerate().map(|(rank, layer)| (*layer, rank)).collect();
    let mut wrong = Vec::new();
    for source in sources() {
        let layer = source.layer().to_owned();
        let Some(own) = rank.get(layer.as_str()) else { continue };
        for imported in source.imported_layers() {
            let Some(other) = rank.get(imported.as_str()) else { continue };
            let narrow = NARROW.iter().find(|(name, _)| *name == layer).map(|(_, allowed)| *allowed);
            let allowed = other == own
                || other > own && narrow.is_none_or(|allowed| allowed.contains(&imported.as_str()));
            if !allowed {
                wrong.push(format!("src/{}: {layer} imports {imported}", source.name));
            }
        }
    }
    assert!(wrong.is_empty(), "imports against the order {LAYERS:?}:\n{}", wrong.join("\n"));
}

#[test]
fn placement_knows_nothing_of_ciphertexts() {
    for source in sources().iter().filter(|source| source.layer() == "placement") {
        let mut words = source.code.split(|c: char| !c.is_alphanumeric() && c != '_');
        let word = words.find(|word| ["Ciphertext", "Plaintext", "Evaluator", "Client"].contains(word));
        assert!(word.is_none(), "src/{} names {}", source.name, word.unwrap_or_default());
    }
}

#[test]
fn every_folder_of_the_library_is_a_layer() {
    for source in sources() {
        let layer = source.layer();
        assert!(
            LAYERS.contains(&layer) || ["lib", "main"].contains(&layer),
            "src/{}: `{layer}` is not in the list of layers",
            source.name
        );
    }
}

#[test]
fn only_the_command_line_prints_and_uses_anyhow() {
    for source in sources().iter().filter(|source| !["cli", "main"].contains(&source.layer())) {
        for word in ["println!", "print!(", "anyhow"] {
            assert!(
                !source.code.contains(word),
                "src/{} contains `{word}`: return the text, or log with tracing",
                source.name
            );
        }
    }
}

#[test]
fn files_are_short_and_folders_shallow() {
    let sources = sources();
    let mut lengths: Vec<usize> = sources.iter().map(|source| source.lines).collect();
    lengths.sort_unstable();
    for source in &sources {
        assert!(
            source.lines <= LONGEST_FILE,
            "src/{} has {} lines, at most {LONGEST_FILE} are allowed",
            source.name,
            source.lines
        );
        let folders = source.name.matches('/').count();
        assert!(folders <= DEEPEST_FOLDER, "src/{} lies {folders} folders deep", source.name);
    }
    let median = lengths[lengths.len() / 2];
    println!("{} files, median {median} lines, longest {}", lengths.len(), lengths[lengths.len() - 1]);
    assert!(median <= MEDIAN_FILE, "the median file has {median} lines, at most {MEDIAN_FILE} are allowed");
}

#[test]
fn unsafe_code_stays_in_the_kernels_the_bridge_and_the_file_mapping() {
    for source in sources() {
        let words: BTreeSet<&str> = source.code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let allowed = source.name.starts_with("ring/kernels")
            || source.name.starts_with("backend/openfhe")
            // Maps model files into memory.
            || source.name == "model/files.rs";
        assert!(!words.contains("unsafe") || allowed, "src/{} contains unsafe code", source.name);
    }
}

#[test]
fn the_reader_of_sources_sees_through_comments_strings_and_tests() {
    let text = "use crate::ring::A; // crate::model\nlet s = \"crate::cli { \"; let c = '\"';\n\
                use crate::{ckks::{B, C}, contract};\n#[cfg(test)]\nmod tests { use crate::model::X; fn f() {} }\n\
                fn after() {}\n#[cfg(test)]\nmod more;\n";
    let (code, modules) = strip_test_code(&strip_comments_and_strings(text));
    let source = Source { path: PathBuf::new(), name: "backend/clear/client.rs".to_owned(), lines: 0, code };
    let layers: Vec<String> = source.imported_layers().into_iter().collect();
    assert_eq!(layers, ["ckks", "contract", "ring"]);
    assert_eq!(modules, ["more"]);
    assert!(source.code.contains("fn after"));
    assert_eq!(source.depth(), 3);
}
