//! Bytes of a GGUF, read one after the other and never beyond the end.

use std::ops::Range;

use crate::contract::{Error, Result};

use crate::model::gguf::blocks::BlockFormat;
use crate::model::gguf::value::{GgufArray, GgufValue};

/// ggml tensors have at most four dimensions.
const MAX_DIMENSIONS: u32 = 4;
/// Arrays of arrays are legal but unused; deeper nesting is refused.
const MAX_ARRAY_DEPTH: usize = 2;
const TEXT: u32 = 8;
const ARRAY: u32 = 9;

/// A position in a file's bytes.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    pub(super) position: usize,
    path: &'a str,
}

/// Header entry of a tensor: how many values each dimension has (slowest first), how they are stored, and where.
pub(super) struct TensorEntry<'a> {
    pub(super) name: &'a str,
    pub(super) shape: Vec<usize>,
    pub(super) format: BlockFormat,
    /// Bytes from the start of the data.
    pub(super) offset: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], path: &'a str) -> Self {
        Self { bytes, position: 0, path }
    }

    /// An error at this position.
    pub(super) fn error(&self, why: impl std::fmt::Display, remedy: &str) -> Error {
        Error::Model {
            path: self.path.to_owned(),
            why: format!("{why} (at byte {} of {})", self.position, self.bytes.len()),
            remedy: remedy.to_owned(),
        }
    }

    fn damaged(&self, why: impl std::fmt::Display) -> Error {
        self.error(why, "fetch the file again")
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let slice = self
            .position
            .checked_add(count)
            .and_then(|end| self.bytes.get(self.position..end))
            .ok_or_else(|| self.damaged(format!("cut off: {count} more bytes are announced")))?;
        self.position += count;
        Ok(slice)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn text(&mut self) -> Result<&'a str> {
        let length = usize::try_from(self.u64()?).unwrap_or(usize::MAX);
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|source| self.damaged(format!("text is not UTF-8 ({source})")))
    }

    /// A value of type `kind`, inside of `depth` arrays.
    pub(super) fn value(&mut self, kind: u32, depth: usize) -> Result<GgufValue<'a>> {
        use GgufValue::{Bool, Float, Integer};
        Ok(match kind {
            0 => Integer(u8::from_le_bytes(self.array()?).into()),
            1 => Integer(i8::from_le_bytes(self.array()?).into()),
            2 => Integer(u16::from_le_bytes(self.array()?).into()),
            3 => Integer(i16::from_le_bytes(self.array()?).into()),
            4 => Integer(self.u32()?.into()),
            5 => Integer(i32::from_le_bytes(self.array()?).into()),
            6 => Float(f32::from_le_bytes(self.array()?).into()),
            7 => Bool(self.array::<1>()? != [0]),
            TEXT => GgufValue::Text(self.text()?),
            ARRAY if depth < MAX_ARRAY_DEPTH => {
                let kind = self.u32()?;
                let count = self.u64()?;
                let start = self.position;
                self.skip(kind, count, depth + 1)?;
                let bytes = self.bytes.get(start..self.position).unwrap_or_default();
                GgufValue::Array(GgufArray { kind, count, bytes })
            }
            10 => Integer(self.u64()?.into()),
            11 => Integer(i64::from_le_bytes(self.array()?).into()),
            12 => Float(f64::from_le_bytes(self.array()?)),
            other => return Err(self.damaged(format!("metadata of unknown type {other}"))),
        })
    }

    /// Passes over `count` elements, checking each text and array among them.
    fn skip(&mut self, kind: u32, count: u64, depth: usize) -> Result<()> {
        let width = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            _ => {
                for _ in 0..count {
                    self.value(kind, depth)?;
                }
                return Ok(());
            }
        };
        let length = count.checked_mul(width).and_then(|length| usize::try_from(length).ok());
        self.take(length.unwrap_or(usize::MAX)).map(drop)
    }

    pub(super) fn tensor(&mut self) -> Result<TensorEntry<'a>> {
        let name = self.text()?;
        let dimensions = self.u32()?;
        if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
            return Err(self.damaged(format!("tensor {name} has {dimensions} dimensions")));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            let size = self.u64()?;
            shape.push(
                usize::try_from(size)
                    .map_err(|_| self.damaged(format!("tensor {name} has a dimension {size}")))?,
            );
        }
        shape.reverse();
        let kind = self.u32()?;
        let format = BlockFormat::from_ggml(kind).ok_or_else(|| {
            let what = match BlockFormat::name_of(kind) {
                Some(known) => format!("{known} (ggml type {kind})"),
                None => format!("ggml type {kind}, which is not known"),
            };
            self.error(
                format!("tensor {name} is stored as {what}, which is not read"),
                &format!("use the model in one of {}", BlockFormat::NAMES.join(", ")),
            )
        })?;
        Ok(TensorEntry { name, shape, format, offset: self.u64()? })
    }

    /// Bytes of a tensor in the file.
    pub(super) fn locate(&self, entry: &TensorEntry<'_>, data_start: u64) -> Result<Range<usize>> {
        let TensorEntry { name, shape, format, offset } = entry;
        let outside =
            || self.damaged(format!("cut off: tensor {name} of shape {shape:?} lies outside the file"));
        // Blocks never cross a row.
        let length = shape.split_last().and_then(|(columns, rows)| {
            let row = format.bytes_of(*columns)?;
            Some(rows.iter().try_fold(row, |product, size| product.checked_mul(*size)))
        });
        let length = length.ok_or_else(|| {
            self.damaged(format!("rows of tensor {name} of shape {shape:?} are no whole number of blocks"))
        })?;
        let length = length.ok_or_else(outside)?;
        let start = data_start.checked_add(*offset).and_then(|start| usize::try_from(start).ok());
        let start = start.ok_or_else(outside)?;
        let end = start.checked_add(length).filter(|end| *end <= self.bytes.len()).ok_or_else(outside)?;
        Ok(start..end)
    }
}

impl<'a> GgufArray<'a> {
    /// The elements, in order.
    pub fn iter(&self) -> impl Iterator<Item = GgufValue<'a>> + use<'a> {
        let (kind, mut reader) = (self.kind, Reader::new(self.bytes, "array"));
        (0..self.count).map_while(move |_| -> Option<GgufValue<'a>> {
            let value: Result<GgufValue<'a>> = reader.value(kind, 1);
            value.ok()
        })
    }

    /// The elements that are texts, in order.
    pub fn texts(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.iter().filter_map(|value| value.as_text())
    }
}
