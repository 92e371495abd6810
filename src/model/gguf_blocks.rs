//! Block formats of ggml tensors: what each block holds and how it becomes f32.
//!
//! `Q8_0`: 32 values, f16 scale d, 32 × i8; value d·q. `Q4_0`: f16 d, 16 bytes; value d·(q − 8). `Q4_1`: f16 d,
//! f16 m, 16 bytes; value d·q + m. In the four-bit formats the low halves of the bytes are values 0 .. 16, the high
//! halves values 16 .. 32.

use half::{bf16, f16};

/// Values in one quantized block.
const BLOCK: usize = 32;

/// How a tensor's values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockFormat {
    /// Plain f32.
    F32,
    /// Plain f16.
    F16,
    /// Plain bf16.
    Bf16,
    /// Eight bits, scale per 32 values.
    Q8_0,
    /// Four bits around zero, scale per 32 values.
    Q4_0,
    /// Four bits, scale and minimum per 32 values.
    Q4_1,
}

impl BlockFormat {
    /// Format of a ggml type number, if it is read here.
    pub fn from_ggml(kind: u32) -> Option<Self> {
        Some(match kind {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            8 => Self::Q8_0,
            30 => Self::Bf16,
            _ => return None,
        })
    }

    /// Bytes of `count` values; `None` when they are no whole number of blocks.
    pub fn bytes_of(self, count: usize) -> Option<usize> {
        let (values, bytes) = self.block();
        count.is_multiple_of(values).then_some(())?;
        (count / values).checked_mul(bytes)
    }

    /// Values and bytes of a block.
    fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q8_0 => (BLOCK, 2 + BLOCK),
            Self::Q4_0 => (BLOCK, 2 + BLOCK / 2),
            Self::Q4_1 => (BLOCK, 4 + BLOCK / 2),
        }
    }

    /// Decodes whole blocks; bytes behind the last whole one are ignored.
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F32 => bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect(),
            Self::F16 => {
                bytes.as_chunks::<2>().0.iter().map(|word| f16::from_le_bytes(*word).to_f32()).collect()
            }
            Self::Bf16 => {
                bytes.as_chunks::<2>().0.iter().map(|word| bf16::from_le_bytes(*word).to_f32()).collect()
            }
            Self::Q8_0 => blocks::<{ 2 + BLOCK }>(bytes, |block| {
                let ([a, b, quants @ ..],) = (block,);
                let scale = f16::from_le_bytes([*a, *b]).to_f32();
                quants.iter().map(|quant| scale * f32::from(quant.cast_signed())).collect()
            }),
            Self::Q4_0 => blocks::<{ 2 + BLOCK / 2 }>(bytes, |block| {
                let ([a, b, quants @ ..],) = (block,);
                let scale = f16::from_le_bytes([*a, *b]).to_f32();
                halves(quants).map(|quant| scale * (quant - 8.0)).collect()
            }),
            Self::Q4_1 => blocks::<{ 4 + BLOCK / 2 }>(bytes, |block| {
                let ([a, b, c, d, quants @ ..],) = (block,);
                let (scale, minimum) =
                    (f16::from_le_bytes([*a, *b]).to_f32(), f16::from_le_bytes([*c, *d]).to_f32());
                halves(quants).map(|quant| scale * quant + minimum).collect()
            }),
        }
    }
}

fn blocks<const N: usize>(bytes: &[u8], decode: impl Fn(&[u8; N]) -> Vec<f32>) -> Vec<f32> {
    bytes.as_chunks::<N>().0.iter().flat_map(decode).collect()
}

/// Low halves of all bytes, then the high ones.
fn halves(quants: &[u8]) -> impl Iterator<Item = f32> {
    quants.iter().map(|byte| f32::from(byte & 15)).chain(quants.iter().map(|byte| f32::from(byte >> 4)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_decodes_a_block_written_by_hand() {
        let scale = f16::from_f32(0.25).to_le_bytes();
        let minimum = f16::from_f32(2.0).to_le_bytes();
        let q8: Vec<u8> = scale.into_iter().chain((0..32u8).map(|value| value.wrapping_sub(16))).collect();
        let found = BlockFormat::Q8_0.decode(&q8);
        assert_eq!((found[0], found[31], found.len()), (-4.0, 3.75, 32));
        let q4: Vec<u8> = scale.into_iter().chain([0xf3; 16]).collect();
        let found = BlockFormat::Q4_0.decode(&q4);
        assert_eq!((found[0], found[16]), (0.25 * -5.0, 0.25 * 7.0));
        let q41: Vec<u8> = scale.into_iter().chain(minimum).chain([0xf3; 16]).collect();
        let found = BlockFormat::Q4_1.decode(&q41);
        assert_eq!((found[15], found[31]), (2.75, 5.75));
        assert_eq!(BlockFormat::F16.decode(&scale), [0.25]);
        assert_eq!(BlockFormat::F32.decode(&1.5f32.to_le_bytes()), [1.5]);
        assert_eq!(BlockFormat::Bf16.decode(&bf16::from_f32(1.5).to_le_bytes()), [1.5]);
    }

    #[test]
    fn partial_blocks_have_no_size() {
        assert_eq!(BlockFormat::Q4_1.bytes_of(64), Some(40));
        assert_eq!(BlockFormat::Q4_1.bytes_of(63), None);
    }
}
