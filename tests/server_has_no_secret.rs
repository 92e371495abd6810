//! No type that the server side reaches holds a secret key. Programs that would take one from it do not compile: see
//! the documentation tests of `src/backend/trust.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: what fails, fails the test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Types that hold a secret, or make one.
const SECRET: [&str; 12] = [
    "Client",
    "Chat",
    "SecretKey",
    "StoredSecret",
    "SecretPolynomial",
    "CkksClient",
    "NativeClient",
    "OpenFheClient",
    "ClearClient",
    "Randomness",
    "PrivateKey",
    "KeyPair",
];

/// What a server holds. Evaluators of features that are not there are skipped.
const SERVER: [&str; 21] = [
    "Server",
    "Setup",
    "Model",
    "Scheme",
    "Decoder",
    "DecoderState",
    "EncryptedTokens",
    "EncryptedAnswer",
    "Answer",
    "Bootstrapper",
    "ModRaise",
    "CkksEvaluator",
    "NativeEvaluator",
    "OpenFheEvaluator",
    "ClearEvaluator",
    "CountingEvaluator",
    "EvaluationKeys",
    "KeySwitchingKey",
    "Ciphertext",
    "Tensor",
    "PublicKey",
];

/// Words of the fields of every struct and enum of the library, by name.
fn fields_of_types() -> BTreeMap<String, BTreeSet<String>> {
    let mut files = Vec::new();
    rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut types: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files {
        let text: String = std::fs::read_to_string(&file)
            .unwrap()
            .lines()
            .map(|line| line.split("//").next().unwrap_or_default())
            .collect::<Vec<_>>()
            .join("\n");
        for keyword in ["struct ", "enum ", "type "] {
            for (position, _) in text.match_indices(keyword) {
                let preceded = text[..position].chars().next_back();
                if preceded.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                    continue;
                }
                let definition = definition(&text[position + keyword.len()..]);
                let words = |text: &str| -> Vec<String> {
                    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
                    words.map(str::to_owned).collect()
                };
                let all = words(definition);
                let Some(name) = all.first().filter(|name| !name.is_empty()) else { continue };
                // Variants of an enum are names, not types: what counts is what they carry.
                let held = if keyword == "enum " { words(&carried(definition)) } else { all[1..].to_vec() };
                types.entry(name.clone()).or_default().extend(held);
            }
        }
    }
    types
}

/// From a type's name to the end of its fields.
fn definition(text: &str) -> &str {
    let mut depth = 0usize;
    for (index, c) in text.char_indices() {
        match c {
            '{' | '(' => depth += 1,
            '}' | ')' if depth <= 1 => return &text[..index],
            '}' | ')' => depth -= 1,
            ';' if depth == 0 => return &text[..index],
            _ => {}
        }
    }
    text
}

/// What the variants of an enum carry: everything inside parentheses and braces within its own.
fn carried(definition: &str) -> String {
    let mut depth = 0usize;
    let mut carried = String::new();
    for c in definition.chars() {
        match c {
            '{' | '(' => depth += 1,
            '}' | ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        carried.push(if depth >= 2 { c } else { ' ' });
    }
    carried
}

#[test]
fn an_enum_holds_what_its_variants_carry_and_not_their_names() {
    let words = carried("HeadSide { Client, Server(SecretKey), Other { key: Seed } }");
    assert!(!words.contains("Client") && !words.contains("Server"), "{words}");
    assert!(words.contains("SecretKey") && words.contains("Seed"), "{words}");
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // What stands above the parties has types of the same names, and no party can reach it (tests/imports.rs).
        let above = ["cli", "benchmarks"].iter().any(|name| path.ends_with(name));
        if path.is_dir() {
            if !above {
                rust_files(&path, files);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The way from `start` to a type that holds a secret, if there is one.
fn way_to_a_secret(start: &str, types: &BTreeMap<String, BTreeSet<String>>) -> Option<String> {
    let mut seen = BTreeSet::from([start.to_owned()]);
    let mut open = vec![(start.to_owned(), start.to_owned())];
    while let Some((name, way)) = open.pop() {
        for word in types.get(&name).into_iter().flatten() {
            let way = format!("{way} → {word}");
            if SECRET.contains(&word.as_str()) {
                return Some(way);
            }
            if seen.insert(word.clone()) {
                open.push((word.clone(), way));
            }
        }
    }
    None
}

#[test]
fn no_type_reachable_from_the_server_side_holds_a_secret() {
    let types = fields_of_types();
    let present: Vec<&str> = SERVER.into_iter().filter(|name| types.contains_key(*name)).collect();
    for needed in
        ["Server", "Setup", "NativeEvaluator", "Bootstrapper", "ModRaise", "ClearEvaluator", "Ciphertext"]
    {
        assert!(present.contains(&needed), "{needed} is not defined any more: this test looks at nothing");
    }
    for name in present {
        let way = way_to_a_secret(name, &types);
        assert!(way.is_none(), "the server can reach a secret: {}", way.unwrap_or_default());
    }
    // The search finds what is there to be found.
    let way = way_to_a_secret("CkksClient", &types).expect("a client holds a secret");
    println!("control: {way}");
}
