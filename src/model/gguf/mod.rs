//! Reader of GGUF version 2 and 3 files, for import only.
//!
//! Layout (ggml's `docs/gguf.md`): magic, version, tensor count, metadata count; metadata as key, type, value;
//! tensors as name, dimensions (fastest first), type, offset; then the data at a multiple of the alignment.
//! Everything is little-endian. Own reader because the small one on crates.io (ggus 0.5) reserves memory by the
//! counts in the header and slices beyond the end of a cut-off file; here values are views of the file's bytes,
//! nothing is allocated on the word of a count, and every offset is checked.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::contract::{Error, Result};

use crate::model::lenient_json::is_git_lfs_pointer;

pub mod blocks;
mod k_quants;
mod reader;
mod value;

use blocks::BlockFormat;
use reader::Reader;
pub use value::{GgufArray, GgufValue};

const DEFAULT_ALIGNMENT: u64 = 32;
/// Most entries of each kind that are believed; the largest published files have some thousand.
const MAX_ENTRIES: u64 = 1 << 16;

/// Where a tensor lies, and how it is stored.
#[derive(Clone, Debug)]
pub struct GgufTensor {
    /// Dimensions, slowest first (rows, columns), as the rest of this crate writes shapes.
    pub shape: Vec<usize>,
    /// How its blocks are stored.
    pub format: BlockFormat,
    /// Byte range in the file.
    range: Range<usize>,
}

/// A parsed file: metadata, and tensors that are decoded on demand.
pub struct Gguf<'a> {
    bytes: &'a [u8],
    path: String,
    metadata: BTreeMap<&'a str, GgufValue<'a>>,
    tensors: BTreeMap<&'a str, GgufTensor>,
}

impl<'a> Gguf<'a> {
    /// Parses the headers of a file's bytes; `path` names it in errors.
    ///
    /// Memory: some hundred bytes for each entry of the header, at most 65,536 entries of a kind.
    ///
    /// # Errors
    /// [`Error::Model`] when the bytes are no little-endian GGUF of version 2 or 3 (saying what they are, where that
    /// can be told), are cut off, name a key or tensor twice, let tensors overlap, or hold a tensor type that is not
    /// read.
    pub fn parse(bytes: &'a [u8], path: &'a str) -> Result<Self> {
        let mut reader = Reader::new(bytes, path);
        check_magic(&mut reader, bytes)?;
        let (tensor_count, metadata_count) = (reader.u64()?, reader.u64()?);
        for (count, what) in [(tensor_count, "tensors"), (metadata_count, "metadata entries")] {
            if count > MAX_ENTRIES {
                return Err(reader.error(
                    format!("{count} {what} are announced, up to {MAX_ENTRIES} are read"),
                    "fetch the file again",
                ));
            }
        }
        let mut metadata = BTreeMap::new();
        for _ in 0..metadata_count {
            let key = reader.text()?;
            let kind = reader.u32()?;
            let value = reader.value(kind, 0)?;
            if metadata.insert(key, value).is_some() {
                return Err(reader.error(format!("metadata {key} is there twice"), "fetch the file again"));
            }
        }
        let mut entries = Vec::new();
        for _ in 0..tensor_count {
            entries.push(reader.tensor()?);
        }
        let alignment = match metadata.get("general.alignment") {
            Some(GgufValue::Integer(value)) => {
                u64::try_from(*value).ok().filter(|value| value.is_power_of_two())
            }
            Some(_) => None,
            None => Some(DEFAULT_ALIGNMENT),
        }
        .ok_or_else(|| reader.error("general.alignment is no power of two", "fetch the file again"))?;
        let data_start = (reader.position as u64)
            .checked_next_multiple_of(alignment)
            .ok_or_else(|| reader.error("general.alignment is too large", "fetch the file again"))?;
        let mut tensors = BTreeMap::new();
        for entry in entries {
            let range = reader.locate(&entry, data_start)?;
            let tensor = GgufTensor { shape: entry.shape, format: entry.format, range };
            if tensors.insert(entry.name, tensor).is_some() {
                return Err(
                    reader.error(format!("tensor {} is there twice", entry.name), "fetch the file again")
                );
            }
        }
        let file = Self { bytes, path: path.to_owned(), metadata, tensors };
        file.refuse_overlaps()?;
        Ok(file)
    }

    fn refuse_overlaps(&self) -> Result<()> {
        let mut ranges: Vec<(&Range<usize>, &str)> =
            self.tensors.iter().map(|(name, tensor)| (&tensor.range, *name)).collect();
        ranges.sort_unstable_by_key(|(range, _)| (range.start, range.end));
        for pair in ranges.windows(2) {
            if let [(first, name), (second, other)] = pair
                && second.start < first.end
            {
                return Err(Error::Model {
                    path: self.path.clone(),
                    why: format!(
                        "tensors {name} and {other} share the bytes {}..{}",
                        second.start,
                        first.end.min(second.end)
                    ),
                    remedy: "fetch the file again, or check the tool that wrote it".to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Name of the file.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Names of all metadata, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.metadata.keys().copied()
    }

    /// Metadata value of a key.
    pub fn value(&self, key: &str) -> Option<&GgufValue<'a>> {
        self.metadata.get(key)
    }

    /// Text of a key.
    pub fn text(&self, key: &str) -> Option<&'a str> {
        self.value(key).and_then(GgufValue::as_text)
    }

    /// Non-negative integer of a key.
    pub fn integer(&self, key: &str) -> Option<usize> {
        match self.value(key) {
            Some(GgufValue::Integer(value)) => usize::try_from(*value).ok(),
            _ => None,
        }
    }

    /// Number of a key, integer or not.
    pub fn number(&self, key: &str) -> Option<f64> {
        self.value(key).and_then(GgufValue::as_number)
    }

    /// Flag of a key.
    pub fn flag(&self, key: &str) -> Option<bool> {
        match self.value(key) {
            Some(GgufValue::Bool(flag)) => Some(*flag),
            _ => None,
        }
    }

    /// Array of a key.
    pub fn array(&self, key: &str) -> Option<GgufArray<'a>> {
        match self.value(key) {
            Some(GgufValue::Array(array)) => Some(*array),
            _ => None,
        }
    }

    /// Names of all tensors, sorted.
    pub fn tensor_names(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.tensors.keys().copied()
    }

    /// Where a tensor is and how it is stored.
    pub fn tensor(&self, name: &str) -> Option<&GgufTensor> {
        self.tensors.get(name)
    }

    /// Values of one row of a tensor (all of it, where it has one dimension), decoded to f32.
    ///
    /// # Errors
    /// [`Error::Model`] when the tensor is missing, [`Error::Internal`] when it has no such row.
    pub fn decode_row(&self, name: &str, row: usize) -> Result<Vec<f32>> {
        let tensor = self.present(name)?;
        let columns = tensor.shape.last().copied().unwrap_or(0);
        let width = tensor.format.bytes_of(columns).unwrap_or(0);
        let bytes = self.bytes.get(tensor.range.clone()).and_then(|bytes| {
            let start = row.checked_mul(width)?;
            bytes.get(start..start.checked_add(width)?)
        });
        let bytes = bytes.ok_or_else(|| Error::Internal(format!("tensor {name} has no row {row}")))?;
        Ok(tensor.format.decode(bytes))
    }

    /// Values of a tensor, decoded to f32, row by row.
    ///
    /// # Errors
    /// [`Error::Model`] when the tensor is missing.
    pub fn decode(&self, name: &str) -> Result<Vec<f32>> {
        let tensor = self.present(name)?;
        let bytes = self
            .bytes
            .get(tensor.range.clone())
            .ok_or_else(|| Error::Internal(format!("tensor {name} lies outside its file")))?;
        Ok(tensor.format.decode(bytes))
    }

    fn present(&self, name: &str) -> Result<&GgufTensor> {
        self.tensor(name).ok_or_else(|| Error::Model {
            path: self.path.clone(),
            why: format!("tensor {name} is missing"),
            remedy: "use a complete GGUF of a Llama".to_owned(),
        })
    }
}

/// Passes over magic and version.
fn check_magic(reader: &mut Reader<'_>, bytes: &[u8]) -> Result<()> {
    if bytes.is_empty() {
        return Err(reader.error("the file is empty", "fetch the file again"));
    }
    if is_git_lfs_pointer(bytes) {
        return Err(reader.error("this is a git-lfs pointer, not the file", "run `git lfs pull` there"));
    }
    match reader.take(4)? {
        b"GGUF" => {}
        b"FUGG" => {
            return Err(
                reader.error("this GGUF's bytes are in reverse order", "fetch the little-endian file")
            );
        }
        b"tjgg" | b"fmgg" | b"lmgg" | b"algg" | b"ggjt" | b"ggmf" | b"ggml" | b"ggla" => {
            return Err(reader.error(
                "this is a ggml file from before GGUF",
                "fetch the model as GGUF, or convert it with llama.cpp",
            ));
        }
        b"PK\x03\x04" => {
            return Err(
                reader.error("this is a zip archive (PyTorch), not a GGUF", "fetch the model as GGUF")
            );
        }
        _ => return Err(reader.error("does not begin with GGUF", "give a GGUF file, or fetch it again")),
    }
    match reader.u32()? {
        2 | 3 => Ok(()),
        1 => {
            Err(reader
                .error("GGUF version 1, versions 2 and 3 are read", "convert it with a current llama.cpp"))
        }
        swapped if (1..=16).contains(&swapped.swap_bytes()) => Err(reader.error(
            "this is a big-endian GGUF",
            "fetch the little-endian file, or convert it with llama.cpp",
        )),
        version => Err(reader.error(
            format!("GGUF version {version}, versions 2 and 3 are read"),
            "fetch the file again, or one of version 3",
        )),
    }
}

#[cfg(test)]
mod tests;
