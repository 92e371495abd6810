//! A model in several GGUF files: `NAME-00002-of-00005.gguf`, metadata in the first, tensors in all.

use std::path::{Path, PathBuf};

use crate::contract::{Error, Result};

use crate::model::gguf::{Gguf, GgufTensor};

/// Number of this part, counted from 0.
const PART: &str = "split.no";
/// Number of parts.
const COUNT: &str = "split.count";
/// Number of tensors in all parts.
const TENSORS: &str = "split.tensors.count";
/// Most parts that are believed.
const MAX_PARTS: usize = 1000;

/// All parts of a model.
pub(super) struct GgufParts<'a> {
    /// The part with the metadata, number 0.
    first: Gguf<'a>,
    others: Vec<Gguf<'a>>,
}

/// Files of the other parts, which lie beside this one; none where the model is in one file.
///
/// # Errors
/// [`Error::Model`] with the part's number and the first file that is missing, or when the file's name does not tell
/// those of the others.
pub(super) fn other_paths(part: &Gguf<'_>, path: &Path) -> Result<Vec<PathBuf>> {
    let count = part.integer(COUNT).unwrap_or(1);
    if count <= 1 {
        return Ok(Vec::new());
    }
    let number = part.integer(PART).map_or(0, |number| number.saturating_add(1));
    let refuse = |why: String, remedy: &str| {
        Err(Error::Model { path: path.display().to_string(), why, remedy: remedy.to_owned() })
    };
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let own = format!("-{number:05}-of-{count:05}.gguf");
    let Some(stem) = name.strip_suffix(&own).filter(|_| (1..=count).contains(&number) && count <= MAX_PARTS)
    else {
        return refuse(
            format!("this is part {number} of {count}, and its name does not end in {own}"),
            "keep the names of the parts as they were published, all in one directory",
        );
    };
    let mut others = Vec::new();
    for other in (1..=count).filter(|other| *other != number) {
        let file = path.with_file_name(format!("{stem}-{other:05}-of-{count:05}.gguf"));
        if !file.is_file() {
            return refuse(
                format!("this is part {number} of {count}, part {other} ({}) is missing", file.display()),
                "fetch all parts into one directory",
            );
        }
        others.push(file);
    }
    Ok(others)
}

impl<'a> GgufParts<'a> {
    /// Joins the part that was asked for with all others.
    ///
    /// # Errors
    /// [`Error::Model`] when a part belongs to another model, a part is there twice, or two parts hold the same tensor.
    pub(super) fn join(given: Gguf<'a>, others: Vec<Gguf<'a>>) -> Result<Self> {
        let mut joined = Self { first: given, others };
        if joined.others.is_empty() {
            return Ok(joined);
        }
        joined.others.sort_by_key(|part| part.integer(PART));
        if let Some(front) = joined.others.first_mut().filter(|part| part.integer(PART) == Some(0)) {
            std::mem::swap(&mut joined.first, front);
            joined.others.sort_by_key(|part| part.integer(PART));
        }
        let count = joined.others.len() + 1;
        for (number, part) in joined.parts().enumerate() {
            let found = (part.integer(PART), part.integer(COUNT));
            if found != (Some(number), Some(count)) {
                let shown =
                    |value: Option<usize>| value.map_or("nothing".to_owned(), |value| value.to_string());
                return Err(Error::Model {
                    path: part.path().to_owned(),
                    why: format!(
                        "its header says {PART} = {}, {COUNT} = {}; part {} of {count} is wanted here",
                        shown(found.0),
                        shown(found.1),
                        number + 1,
                    ),
                    remedy: "fetch all parts of one model again".to_owned(),
                });
            }
        }
        let mut names: Vec<&str> = joined.tensor_names().collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        if names.len() != count {
            return Err(joined.error("two parts hold the same tensor", "fetch all parts of one model again"));
        }
        match joined.metadata().integer(TENSORS) {
            Some(announced) if announced != count => Err(joined.error(
                format!("{announced} tensors are announced, the parts hold {count}"),
                "fetch all parts of one model again",
            )),
            _ => Ok(joined),
        }
    }

    /// The part that holds the metadata.
    pub(super) fn metadata(&self) -> &Gguf<'a> {
        &self.first
    }

    fn parts(&self) -> impl Iterator<Item = &Gguf<'a>> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Names of all tensors.
    pub(super) fn tensor_names(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.parts().flat_map(Gguf::tensor_names)
    }

    /// A tensor of any part.
    pub(super) fn tensor(&self, name: &str) -> Option<&GgufTensor> {
        self.part_with(name)?.tensor(name)
    }

    /// Values of one row of a tensor, decoded to f32.
    ///
    /// # Errors
    /// [`Error::Model`] when no part holds the tensor.
    pub(super) fn decode_row(&self, name: &str, row: usize) -> Result<Vec<f32>> {
        self.part_with(name).unwrap_or(self.metadata()).decode_row(name, row)
    }

    fn part_with(&self, name: &str) -> Option<&Gguf<'a>> {
        self.parts().find(|part| part.tensor(name).is_some())
    }

    /// An error about the model.
    pub(super) fn error(&self, why: impl Into<String>, remedy: &str) -> Error {
        Error::Model { path: self.metadata().path().to_owned(), why: why.into(), remedy: remedy.to_owned() }
    }
}
