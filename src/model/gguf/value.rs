//! Values of a GGUF's metadata, as views of the file's bytes.

use crate::contract::Result;

use crate::model::gguf::reader::Reader;

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum GgufValue<'a> {
    /// Any integer type.
    Integer(i128),
    /// f32 or f64.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// UTF-8 text.
    Text(&'a str),
    /// Elements of one type, read when they are asked for.
    Array(GgufArray<'a>),
}

impl<'a> GgufValue<'a> {
    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, integer or not, if it is one.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            Self::Integer(value) => Some(*value as f64),
            _ => None,
        }
    }
}

/// An array of the metadata: its place in the file. Nothing is copied, however many elements it announces.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GgufArray<'a> {
    /// ggml's number of the element type.
    pub(super) kind: u32,
    pub(super) count: u64,
    /// The elements; checked when the file was parsed.
    pub(super) bytes: &'a [u8],
}

impl<'a> GgufArray<'a> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        // Every element takes a byte at least, so that the count fits whatever fits memory.
        usize::try_from(self.count).unwrap_or(usize::MAX)
    }

    /// There is no element.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

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
