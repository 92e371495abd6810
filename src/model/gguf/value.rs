//! Values of a GGUF's metadata, as views of the file's bytes.

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

impl GgufArray<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        // Every element takes a byte at least, so that the count fits whatever fits memory.
        usize::try_from(self.count).unwrap_or(usize::MAX)
    }

    /// There is no element.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}
