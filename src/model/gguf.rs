//! Reader of GGUF version 2 and 3 files, for import only.
//!
//! Layout (ggml's `docs/gguf.md`): magic, version, tensor count, metadata count; metadata as key, type, value;
//! tensors as name, dimensions (fastest first), type, offset; then the data at a multiple of the alignment.
//! Everything is little-endian. Own reader because the small one on crates.io (ggus 0.5) reserves memory by the
//! counts in the header and slices beyond the end of a cut-off file; here nothing is allocated beyond the bytes
//! that are really there, and every offset is checked.

use std::collections::BTreeMap;

use crate::contract::{Error, Result};

use crate::model::gguf_blocks::BlockFormat;

const DEFAULT_ALIGNMENT: u64 = 32;
/// ggml tensors have at most four dimensions.
const MAX_DIMENSIONS: u32 = 4;
/// Arrays of arrays are legal but unused; deeper nesting is refused.
const MAX_ARRAY_DEPTH: usize = 2;

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum GgufValue {
    /// Any integer type.
    Integer(i128),
    /// f32 or f64.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// UTF-8 text.
    Text(String),
    /// Elements of one type.
    Array(Vec<GgufValue>),
}

impl GgufValue {
    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Where a tensor lies, and how it is stored.
#[derive(Clone, Debug)]
pub struct GgufTensor {
    /// Dimensions, slowest first (rows, columns), as the rest of this crate writes shapes.
    pub shape: Vec<usize>,
    /// How its blocks are stored.
    pub format: BlockFormat,
    /// Byte range in the file.
    range: std::ops::Range<usize>,
}

/// A parsed file: metadata, and tensors that are decoded on demand.
pub struct Gguf<'a> {
    bytes: &'a [u8],
    path: String,
    metadata: BTreeMap<String, GgufValue>,
    tensors: BTreeMap<String, GgufTensor>,
}

impl<'a> Gguf<'a> {
    /// Parses the headers of a file's bytes; `path` names it in errors.
    ///
    /// # Errors
    /// [`Error::Model`] when the bytes are no GGUF of version 2 or 3, are cut off, or hold a tensor type that is
    /// not read (the type's number is named).
    pub fn parse(bytes: &'a [u8], path: &str) -> Result<Self> {
        let mut reader = Reader { bytes, position: 0, path };
        if reader.take(4)? != b"GGUF" {
            return Err(reader.error("does not begin with GGUF".to_owned()));
        }
        let version = reader.u32()?;
        if !(2..=3).contains(&version) {
            return Err(reader.error(format!("GGUF version {version}, versions 2 and 3 are read")));
        }
        let (tensor_count, metadata_count) = (reader.u64()?, reader.u64()?);
        let mut metadata = BTreeMap::new();
        for _ in 0..metadata_count {
            let key = reader.text()?;
            let kind = reader.u32()?;
            let value = reader.value(kind, 0)?;
            metadata.insert(key, value);
        }
        let mut listed = BTreeMap::new();
        for _ in 0..tensor_count {
            let (name, shape, format, offset) = reader.tensor()?;
            listed.insert(name, (shape, format, offset));
        }
        let alignment = match metadata.get("general.alignment") {
            Some(GgufValue::Integer(value)) => {
                u64::try_from(*value).ok().filter(|value| value.is_power_of_two())
            }
            Some(_) => None,
            None => Some(DEFAULT_ALIGNMENT),
        }
        .ok_or_else(|| reader.error("general.alignment is no power of two".to_owned()))?;
        let data_start = (reader.position as u64)
            .checked_next_multiple_of(alignment)
            .ok_or_else(|| reader.error("general.alignment is too large".to_owned()))?;
        let mut tensors = BTreeMap::new();
        for (name, (shape, format, offset)) in listed {
            let range = reader.locate(&name, &shape, format, data_start, offset)?;
            tensors.insert(name, GgufTensor { shape, format, range });
        }
        Ok(Self { bytes, path: path.to_owned(), metadata, tensors })
    }

    /// Metadata value of a key.
    pub fn value(&self, key: &str) -> Option<&GgufValue> {
        self.metadata.get(key)
    }

    /// Text of a key.
    pub fn text(&self, key: &str) -> Option<&str> {
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
        match self.value(key) {
            Some(GgufValue::Float(value)) => Some(*value),
            Some(GgufValue::Integer(value)) => Some(*value as f64),
            _ => None,
        }
    }

    /// Array of a key; empty when absent.
    pub fn array(&self, key: &str) -> &[GgufValue] {
        match self.value(key) {
            Some(GgufValue::Array(values)) => values,
            _ => &[],
        }
    }

    /// Where a tensor is and how it is stored.
    pub fn tensor(&self, name: &str) -> Option<&GgufTensor> {
        self.tensors.get(name)
    }

    /// Values of a tensor, decoded to f32, row by row.
    ///
    /// # Errors
    /// [`Error::Model`] when the tensor is missing.
    pub fn decode(&self, name: &str) -> Result<Vec<f32>> {
        let tensor = self.tensor(name).ok_or_else(|| Error::Model {
            path: self.path.clone(),
            why: format!("tensor {name} is missing"),
            remedy: "use a complete GGUF of a Llama".to_owned(),
        })?;
        let bytes = self
            .bytes
            .get(tensor.range.clone())
            .ok_or_else(|| Error::Internal(format!("tensor {name} lies outside its file")))?;
        Ok(tensor.format.decode(bytes))
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
    path: &'a str,
}

impl<'a> Reader<'a> {
    fn error(&self, why: String) -> Error {
        Error::Model {
            path: self.path.to_owned(),
            why: format!("{why} (at byte {} of {})", self.position, self.bytes.len()),
            remedy: "fetch the file again, or use a Llama GGUF in F32, F16, Q8_0, Q4_0 or Q4_1".to_owned(),
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let slice = self
            .position
            .checked_add(count)
            .and_then(|end| self.bytes.get(self.position..end))
            .ok_or_else(|| self.error(format!("cut off: {count} more bytes are announced")))?;
        self.position += count;
        Ok(slice)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Result<String> {
        let length = usize::try_from(self.u64()?).unwrap_or(usize::MAX);
        let bytes = self.take(length)?;
        String::from_utf8(bytes.to_vec())
            .map_err(|source| self.error(format!("text is not UTF-8 ({source})")))
    }

    fn value(&mut self, kind: u32, depth: usize) -> Result<GgufValue> {
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
            8 => GgufValue::Text(self.text()?),
            9 if depth < MAX_ARRAY_DEPTH => {
                let kind = self.u32()?;
                // Grown as elements arrive: an announced length alone reserves nothing.
                let mut values = Vec::new();
                for _ in 0..self.u64()? {
                    values.push(self.value(kind, depth + 1)?);
                }
                GgufValue::Array(values)
            }
            10 => Integer(self.u64()?.into()),
            11 => Integer(i64::from_le_bytes(self.array()?).into()),
            12 => Float(f64::from_le_bytes(self.array()?)),
            other => return Err(self.error(format!("metadata of unknown type {other}"))),
        })
    }

    fn tensor(&mut self) -> Result<(String, Vec<usize>, BlockFormat, u64)> {
        let name = self.text()?;
        let dimensions = self.u32()?;
        if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
            return Err(self.error(format!("tensor {name} has {dimensions} dimensions")));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            let size = self.u64()?;
            shape.push(
                usize::try_from(size)
                    .map_err(|_| self.error(format!("tensor {name} has a dimension {size}")))?,
            );
        }
        shape.reverse();
        let kind = self.u32()?;
        let format = BlockFormat::from_ggml(kind).ok_or_else(|| {
            self.error(format!("tensor {name} is stored as ggml type {kind}, which is not read"))
        })?;
        Ok((name, shape, format, self.u64()?))
    }

    fn locate(
        &self,
        name: &str,
        shape: &[usize],
        format: BlockFormat,
        data_start: u64,
        offset: u64,
    ) -> Result<std::ops::Range<usize>> {
        let outside =
            || self.error(format!("cut off: tensor {name} of shape {shape:?} lies outside the file"));
        let count =
            shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size)).ok_or_else(outside)?;
        let length = format.bytes_of(count).ok_or_else(|| {
            self.error(format!("tensor {name} of shape {shape:?} is no whole number of blocks"))
        })?;
        let start = data_start.checked_add(offset).and_then(|start| usize::try_from(start).ok());
        let start = start.ok_or_else(outside)?;
        let end = start.checked_add(length).filter(|end| *end <= self.bytes.len()).ok_or_else(outside)?;
        Ok(start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file with one text, one array and one Q4_1 tensor.
    pub(crate) fn sample() -> Vec<u8> {
        let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
        let mut file = b"GGUF".to_vec();
        file.extend(3u32.to_le_bytes());
        file.extend(1u64.to_le_bytes());
        file.extend(2u64.to_le_bytes());
        file.extend([text("general.architecture"), 8u32.to_le_bytes().to_vec(), text("llama")].concat());
        file.extend([text("list"), 9u32.to_le_bytes().to_vec(), 4u32.to_le_bytes().to_vec()].concat());
        file.extend(2u64.to_le_bytes());
        file.extend([7u32.to_le_bytes(), 9u32.to_le_bytes()].concat());
        file.extend([text("w"), 2u32.to_le_bytes().to_vec()].concat());
        file.extend([32u64.to_le_bytes(), 1u64.to_le_bytes()].concat());
        file.extend([3u32.to_le_bytes().to_vec(), 0u64.to_le_bytes().to_vec()].concat());
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend(half::f16::from_f32(0.5).to_le_bytes());
        file.extend(half::f16::from_f32(-1.0).to_le_bytes());
        file.extend([0x21; 16]);
        file
    }

    #[test]
    fn metadata_and_a_quantized_tensor_read_back() {
        let bytes = sample();
        let file = Gguf::parse(&bytes, "sample").unwrap();
        assert_eq!(file.text("general.architecture"), Some("llama"));
        assert_eq!(file.array("list"), [GgufValue::Integer(7), GgufValue::Integer(9)]);
        assert_eq!(file.tensor("w").unwrap().shape, [1, 32]);
        let values = file.decode("w").unwrap();
        assert_eq!(values[..16], [-0.5; 16]);
        assert_eq!(values[16..], [0.0; 16]);
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error() {
        let bytes = sample();
        for length in 0..bytes.len() {
            assert!(Gguf::parse(&bytes[..length], "sample").is_err(), "cut to {length} bytes");
        }
    }

    proptest! {
        #[test]
        fn damaged_bytes_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
            let mut bytes = sample();
            for (index, value) in changes {
                let index = index.index(bytes.len());
                bytes[index] = value;
            }
            if let Ok(file) = Gguf::parse(&bytes, "sample") {
                let _ = file.decode("w");
            }
        }
    }
}
