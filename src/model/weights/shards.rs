//! Files that hold the weights of a model directory, and which of them are there.
//!
//! One `model.safetensors`; or shards with `model.safetensors.index.json`; or a complete set of shards without an
//! index. Anything else is an error that says what lies there instead.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::SafeTensors;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Deserialize;

use crate::contract::{Error, Result};

use crate::model::directory::{listed, names_in};
use crate::model::files::{map_file, read_bounded};
use crate::model::lenient_json::is_git_lfs_pointer;

const MAX_INDEX_BYTES: u64 = 64 << 20;

/// One mapped file with its header parsed.
pub(super) struct Shard {
    pub(super) path: PathBuf,
    map: Mmap,
    metadata: Metadata,
    data_start: usize,
}

/// All files of a model, and which file the index puts each tensor into (without an index, nothing).
pub(super) struct ShardSet {
    pub(super) shards: Vec<Shard>,
    index: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

impl ShardSet {
    /// Opens the files of `directory`; reads headers only.
    ///
    /// # Errors
    /// [`Error::Model`] when no weights are there (naming what is), a shard is missing, a header is damaged, two
    /// layouts lie side by side, or two files of one set hold the same tensor.
    pub(super) fn open(directory: &Path) -> Result<Self> {
        let single = directory.join("model.safetensors");
        let index = directory.join("model.safetensors.index.json");
        let index = if index.is_file() { Some(read_index(&index)?) } else { None };
        let listed_files: BTreeSet<&String> = index.iter().flat_map(BTreeMap::values).collect();
        if single.is_file() {
            let other = listed_files
                .iter()
                .find(|file| file.as_str() != "model.safetensors" && directory.join(file.as_str()).is_file());
            if let Some(other) = other {
                return Err(model_error(
                    directory,
                    format!("both model.safetensors and shards of an index ({other}) are there"),
                    "remove the one that is not meant",
                ));
            }
            return Ok(Self { shards: vec![Shard::open(single)?], index: None });
        }
        if index.is_some() {
            let shards = listed_files
                .iter()
                .map(|file| Shard::open(directory.join(file.as_str())))
                .collect::<Result<_>>()?;
            return Ok(Self { shards, index });
        }
        let names = names_in(directory);
        let set = complete_set(&names).map_err(|missing| no_weights(directory, &names, missing))?;
        let shards = set.iter().map(|name| Shard::open(directory.join(name))).collect::<Result<Vec<_>>>()?;
        let set = Self { shards, index: None };
        set.refuse_duplicates()?;
        Ok(set)
    }

    /// Names of all tensors in all files.
    pub(super) fn names(&self) -> BTreeSet<String> {
        self.shards.iter().flat_map(|shard| shard.metadata.offset_keys()).collect()
    }

    /// Number of the file that holds a tensor; `None` when none does.
    ///
    /// # Errors
    /// [`Error::Model`] when the index puts the tensor into another file than the one that holds it.
    pub(super) fn locate(&self, name: &str) -> Result<Option<usize>> {
        let found = self.shards.iter().position(|shard| shard.metadata.info(name).is_some());
        let (Some(index), Some(shard)) = (&self.index, found.and_then(|found| self.shards.get(found))) else {
            return Ok(found);
        };
        let listed = index.get(name);
        let own = self.shards.iter().position(|shard| {
            listed.is_some_and(|file| shard.file_name() == file.as_str())
                && shard.metadata.info(name).is_some()
        });
        match (listed, own) {
            (_, Some(own)) => Ok(Some(own)),
            (Some(listed), None) => Err(model_error(
                &shard.path,
                format!("tensor {name} is in this file, the index says it is in {listed}"),
                "fetch model.safetensors.index.json again, from where the shards come from",
            )),
            (None, None) => Err(model_error(
                &shard.path,
                format!("tensor {name} is in this file, the index does not list it"),
                "fetch model.safetensors.index.json again, from where the shards come from",
            )),
        }
    }

    /// Header entry and bytes of a tensor in file number `shard`.
    ///
    /// # Errors
    /// [`Error::Internal`] for a file or tensor that [`ShardSet::locate`] did not name.
    pub(super) fn tensor(&self, shard: usize, name: &str) -> Result<(&Shard, &TensorInfo, &[u8])> {
        let shard = self.shards.get(shard).ok_or_else(|| Error::Internal(format!("no shard {shard}")))?;
        let info = shard
            .metadata
            .info(name)
            .ok_or_else(|| Error::Internal(format!("tensor {name} left its shard")))?;
        let bytes = shard
            .map
            .get(shard.data_start..)
            .and_then(|data| data.get(info.data_offsets.0..info.data_offsets.1))
            .ok_or_else(|| Error::Internal(format!("tensor {name} lies outside its file")))?;
        Ok((shard, info, bytes))
    }

    /// A file to name in errors about the whole set.
    pub(super) fn first_path(&self) -> &Path {
        self.shards.first().map_or(Path::new("model.safetensors"), |shard| &shard.path)
    }

    fn refuse_duplicates(&self) -> Result<()> {
        let mut seen = BTreeSet::new();
        for shard in &self.shards {
            for name in shard.metadata.offset_keys() {
                if !seen.insert(name.clone()) {
                    return Err(model_error(
                        &shard.path,
                        format!(
                            "tensor {name} is in two shards; parts of one matrix (tensor parallel) are not joined"
                        ),
                        "use the model as one set of whole tensors, with its index",
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Shard {
    fn open(path: PathBuf) -> Result<Self> {
        if !path.is_file() {
            return Err(model_error(
                &path,
                "the index lists this shard, the file is missing".to_owned(),
                "fetch it",
            ));
        }
        let map = map_file(&path)?;
        if is_git_lfs_pointer(&map) {
            return Err(model_error(
                &path,
                format!("this is a git-lfs pointer of {} bytes, not the weights", map.len()),
                "run `git lfs pull` in the directory",
            ));
        }
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(|source| {
            model_error(
                &path,
                format!("cut off or not a safetensors file, {} bytes ({source})", map.len()),
                "fetch the file again",
            )
        })?;
        // The header is preceded by its length in eight bytes.
        let data_start = header + 8;
        Ok(Self { path, map, metadata, data_start })
    }

    fn file_name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }
}

fn read_index(path: &Path) -> Result<BTreeMap<String, String>> {
    let index: ShardIndex =
        serde_json::from_slice(&read_bounded(path, MAX_INDEX_BYTES)?).map_err(|source| {
            model_error(path, format!("not an index of shards ({source})"), "fetch the file again")
        })?;
    for file in index.weight_map.values() {
        // An index from elsewhere must not reach outside the model's directory.
        if Path::new(file).file_name().is_none_or(|name| name != file.as_str()) {
            return Err(model_error(
                path,
                format!("shard {file:?} is not a plain file name"),
                "fetch the index again",
            ));
        }
    }
    Ok(index.weight_map)
}

/// Part and number of parts of `model-00002-of-00005.safetensors`.
fn part_of(name: &str) -> Option<(usize, usize)> {
    let (part, count) = name.strip_prefix("model-")?.strip_suffix(".safetensors")?.split_once("-of-")?;
    Some((part.parse().ok()?, count.parse().ok()?))
}

/// Shards of the one complete set among `names`; otherwise what is missing from a set, if one was begun.
fn complete_set(names: &[String]) -> std::result::Result<Vec<&String>, Option<String>> {
    let parts: Vec<(&String, (usize, usize))> =
        names.iter().filter_map(|name| part_of(name).map(|part| (name, part))).collect();
    let Some((_, (_, count))) = parts.first() else { return Err(None) };
    let here: BTreeSet<usize> = parts.iter().map(|(_, (part, _))| *part).collect();
    if parts.iter().any(|(_, (_, other))| other != count) || here.len() != parts.len() {
        return Err(Some("shards of several sets lie side by side".to_owned()));
    }
    // Numbered from 1 (transformers) or from 0.
    let first = usize::from(!here.contains(&0));
    match (first..first.saturating_add(*count)).find(|part| !here.contains(part)) {
        None if here.len() == *count => Ok(parts.into_iter().map(|(name, _)| name).collect()),
        None => Err(Some(format!("{} shards are there, their names say {count}", here.len()))),
        Some(missing) => Err(Some(format!("shard {missing} of {count} is missing"))),
    }
}

/// Why no weights were found, from what is there.
fn no_weights(directory: &Path, names: &[String], incomplete: Option<String>) -> Error {
    if let Some(why) = incomplete {
        return model_error(directory, why, "fetch the whole set, best with model.safetensors.index.json");
    }
    let ends = |ending: &str| names.iter().find(|name| name.ends_with(ending));
    let (found, remedy) = if let Some(name) = ends(".distcp") {
        (name, "convert the distributed checkpoint to safetensors")
    } else if let Some(name) = ends(".bin").or_else(|| ends(".pth")).or_else(|| ends(".pt")) {
        (name, "convert it to safetensors: PyTorch's files can run code when they are read, and are not")
    } else if let Some(name) = ends(".gguf") {
        (name, "import the GGUF file into a directory, and give that directory")
    } else if let Some(name) = ends(".safetensors") {
        (name, "name the file model.safetensors if it holds the whole model, or add the index of its shards")
    } else {
        return model_error(
            directory,
            format!(
                "neither model.safetensors nor model.safetensors.index.json is there ({})",
                listed(names)
            ),
            "fetch the weights in safetensors format",
        );
    };
    model_error(
        directory,
        format!("neither model.safetensors nor model.safetensors.index.json is there, but {found} is"),
        remedy,
    )
}

pub(super) fn model_error(path: &Path, why: String, remedy: &str) -> Error {
    Error::Model { path: path.display().to_string(), why, remedy: remedy.to_owned() }
}
