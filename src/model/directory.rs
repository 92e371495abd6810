//! What people give for a model directory, and what is wrong with it.

use std::path::Path;

use crate::contract::{Error, Result};

/// Refuses a path that is no model directory, by what it is instead.
///
/// # Errors
/// [`Error::Model`] naming the mistake and the remedy: a path that does not exist (the name of a repository, for
/// example), a file of weights, the root of a download cache, a directory without `config.json`, or one with an
/// adapter.
pub(crate) fn check_directory(directory: &Path) -> Result<()> {
    let refuse = |why: String, remedy: &str| {
        Err(Error::Model { path: directory.display().to_string(), why, remedy: remedy.to_owned() })
    };
    if !directory.exists() {
        let text = directory.to_string_lossy();
        let is_repository = text.split('/').count() == 2 && !text.starts_with(['.', '/', '~']);
        return if is_repository {
            refuse(
                "there is no such directory; it looks like the name of a repository on a hub".to_owned(),
                "download the repository and give the directory it lies in",
            )
        } else {
            refuse("there is no such directory".to_owned(), "check the path")
        };
    }
    if !directory.is_dir() {
        let extension = directory.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        return match extension.to_ascii_lowercase().as_str() {
            "gguf" => refuse(
                "this is a GGUF file, not a model directory".to_owned(),
                "import it into a directory first, and give that directory",
            ),
            "safetensors" | "json" | "bin" | "pt" | "pth" => refuse(
                "this is a file of a model, not its directory".to_owned(),
                "give the directory that holds config.json, the weights and tokenizer.json",
            ),
            _ => refuse(
                "this is a file, not a model directory".to_owned(),
                "give the directory that holds config.json, the weights and tokenizer.json",
            ),
        };
    }
    if directory.join("adapter_config.json").is_file() {
        return refuse(
            "adapter_config.json says that an adapter belongs to these weights; adapters are not applied"
                .to_owned(),
            "merge the adapter into the weights and remove its files, or remove them to use the model without it",
        );
    }
    if directory.join("config.json").is_file() {
        return Ok(());
    }
    let names = names_in(directory);
    let remedy = "give the directory that holds config.json, the weights and tokenizer.json";
    if let Some(name) = names.iter().find(|name| name.starts_with("models--")) {
        return refuse(
            format!("config.json is not there, this is the root of a download cache (it holds {name})"),
            "give the directory below snapshots/ in one of its models",
        );
    }
    if names.iter().any(|name| name == "snapshots") {
        return refuse(
            "config.json is not there, this is one model of a download cache".to_owned(),
            "give the directory below snapshots/",
        );
    }
    if let Some(name) = names.iter().find(|name| name.ends_with(".gguf")) {
        return refuse(
            format!("config.json is not there, but {name} is"),
            "import that file into a directory first, and give that directory",
        );
    }
    if names.iter().any(|name| name == "params.json") {
        return refuse(
            "config.json is not there; params.json and consolidated weights are another layout".to_owned(),
            "use the model in Hugging Face layout",
        );
    }
    refuse(format!("config.json is not there ({})", listed(&names)), remedy)
}

/// Names of the files in a directory, sorted; empty when it cannot be listed.
pub(crate) fn names_in(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    names
}

/// "it holds a, b, c and 4 more", for messages.
pub(crate) fn listed(names: &[String]) -> String {
    const SHOWN: usize = 6;
    if names.is_empty() {
        return "it holds nothing".to_owned();
    }
    let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => format!("it holds {}", shown.join(", ")),
        more => format!("it holds {} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mistake_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::write(root.join("m.gguf"), "GGUF").unwrap();
        std::fs::write(root.join("model.safetensors"), "x").unwrap();
        for (name, file) in [
            ("cache", "models--a--b/refs"),
            ("one", "snapshots/x"),
            ("gguf", "m.gguf"),
            ("meta", "params.json"),
            ("adapter", "adapter_config.json"),
            ("other", "notes.txt"),
            ("empty", ""),
        ] {
            std::fs::create_dir_all(root.join(name).join(file).parent().unwrap()).unwrap();
            std::fs::create_dir_all(root.join(name)).unwrap();
            if !file.is_empty() {
                std::fs::write(root.join(name).join(file), "{}").unwrap();
            }
        }
        let message = |path: &Path| check_directory(path).unwrap_err().to_string();
        assert!(message(Path::new("HuggingFaceTB/SmolLM2-135M")).contains("name of a repository"));
        assert!(message(&root.join("nowhere/at/all")).contains("no such directory"));
        for (name, word) in [
            ("m.gguf", "GGUF file"),
            ("model.safetensors", "not its directory"),
            ("cache", "root of a download cache"),
            ("one", "below snapshots/"),
            ("gguf", "import"),
            ("meta", "params.json"),
            ("adapter", "adapters are not applied"),
            ("other", "it holds notes.txt"),
            ("empty", "it holds nothing"),
        ] {
            let message = message(&root.join(name));
            assert!(message.contains(word), "{name}: {message}");
        }
        std::fs::write(root.join("other/config.json"), "{}").unwrap();
        assert!(check_directory(&root.join("other")).is_ok());
    }
}
