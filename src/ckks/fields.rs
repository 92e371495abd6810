//! Little-endian numbers in and out of byte sections, with every read checked against what is there.

use crate::contract::{Error, Result};

/// Reads numbers from the front of a byte slice. A list is read only when the bytes for it are there, so that a
/// length from untrusted data never leads to an allocation larger than the data itself.
#[derive(Debug)]
pub struct FieldReader<'a> {
    what: &'static str,
    total: usize,
    left: &'a [u8],
}

impl<'a> FieldReader<'a> {
    /// Reader of `bytes`; `what` names the object in errors.
    #[must_use]
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, total: bytes.len(), left: bytes }
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`Error::Format`] when fewer are left.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        let Some((taken, left)) = self.left.split_at_checked(count) else {
            return Err(self.error(format!(
                "{count} bytes wanted at offset {} of {}",
                self.total - self.left.len(),
                self.total
            )));
        };
        self.left = left;
        Ok(taken)
    }

    /// Everything left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.left)
    }

    /// The next `COUNT` bytes as an array.
    ///
    /// # Errors
    /// [`Error::Format`] when fewer are left.
    pub fn array<const COUNT: usize>(&mut self) -> Result<[u8; COUNT]> {
        let bytes = self.bytes(COUNT)?;
        bytes.try_into().map_err(|_| self.error("a slice of the wrong length".to_owned()))
    }

    /// The next u16.
    ///
    /// # Errors
    /// [`Error::Format`] when too few bytes are left.
    pub fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// The next u32.
    ///
    /// # Errors
    /// [`Error::Format`] when too few bytes are left.
    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// The next u64.
    ///
    /// # Errors
    /// [`Error::Format`] when too few bytes are left.
    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// The next u64 as a count, refused above `maximum`.
    ///
    /// # Errors
    /// [`Error::Format`] naming `field`, the number and the maximum.
    pub fn count(&mut self, field: &str, maximum: usize) -> Result<usize> {
        let count = self.u64()?;
        usize::try_from(count)
            .ok()
            .filter(|count| *count <= maximum)
            .ok_or_else(|| self.error(format!("{field} is {count}, at most {maximum} is allowed")))
    }

    /// The next f64, which must be finite.
    ///
    /// # Errors
    /// [`Error::Format`] when it is not, or too few bytes are left.
    pub fn finite_f64(&mut self, field: &str) -> Result<f64> {
        let value = f64::from_le_bytes(self.array()?);
        if !value.is_finite() {
            return Err(self.error(format!("{field} is {value}")));
        }
        Ok(value)
    }

    /// The next `count` u64.
    ///
    /// # Errors
    /// [`Error::Format`] when too few bytes are left; nothing is allocated then.
    pub fn u64_list(&mut self, count: usize) -> Result<Vec<u64>> {
        let bytes = self.bytes(count.saturating_mul(8))?;
        Ok(bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect())
    }

    /// That nothing is left.
    ///
    /// # Errors
    /// [`Error::Format`] naming the number of bytes too many.
    pub fn finish(&self) -> Result<()> {
        if self.left.is_empty() {
            return Ok(());
        }
        Err(self.error(format!("{} bytes too many after {}", self.left.len(), self.total - self.left.len())))
    }

    fn error(&self, why: String) -> Error {
        Error::Format {
            what: self.what.to_owned(),
            why,
            remedy: "the data is damaged or not of this program: transfer it again".to_owned(),
        }
    }
}

/// Appends `values` to `bytes`, eight bytes each.
pub fn extend_u64(bytes: &mut Vec<u8>, values: &[u64]) {
    bytes.reserve(8 * values.len());
    for value in values {
        bytes.extend_from_slice(&value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_nothing_is_left() {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&3u16.to_le_bytes());
        bytes.extend_from_slice(&70_000u32.to_le_bytes());
        bytes.extend_from_slice(&(-0.5f64).to_le_bytes());
        extend_u64(&mut bytes, &[1, u64::MAX]);
        let mut reader = FieldReader::new("sample", &bytes);
        assert_eq!(reader.u16().unwrap(), 3);
        assert_eq!(reader.u32().unwrap(), 70_000);
        assert_eq!(reader.finite_f64("half").unwrap(), -0.5);
        assert_eq!(reader.u64_list(2).unwrap(), [1, u64::MAX]);
        reader.finish().unwrap();
    }

    #[test]
    fn lists_longer_than_the_data_are_refused_before_allocation() {
        let bytes = [0; 24];
        for count in [4, 1 << 40, usize::MAX / 8, usize::MAX] {
            let error = FieldReader::new("sample", &bytes).u64_list(count).unwrap_err().to_string();
            assert!(error.contains("of 24"), "{error}");
        }
    }

    #[test]
    fn counts_above_their_maximum_and_numbers_that_are_not_finite_are_refused() {
        let bytes = 9u64.to_le_bytes();
        let error = FieldReader::new("sample", &bytes).count("limbs", 8).unwrap_err().to_string();
        assert!(error.contains("limbs is 9, at most 8"), "{error}");
        for value in [f64::NAN, f64::INFINITY] {
            FieldReader::new("sample", &value.to_le_bytes()).finite_f64("scale").unwrap_err();
        }
    }

    #[test]
    fn bytes_too_many_are_counted() {
        let mut reader = FieldReader::new("sample", &[0; 11]);
        reader.u64().unwrap();
        let error = reader.finish().unwrap_err().to_string();
        assert!(error.contains("3 bytes too many"), "{error}");
    }
}
