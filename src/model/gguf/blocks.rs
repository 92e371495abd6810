//! Block formats of ggml tensors: what each block holds and how it becomes f32, bit for bit as ggml does it.
//!
//! `Q8_0`: 32 values, f16 scale d, 32 × i8; value d·q. `Q4_0`: f16 d, 16 bytes; value d·(q − 8). `Q4_1`: f16 d,
//! f16 m, 16 bytes; value d·q + m. In the four-bit formats the low halves of the bytes are values 0 .. 16, the high
//! halves values 16 .. 32. `Q5_0` and `Q5_1` are those with a fifth bit in a word of 32 bits before the halves.
//! The formats of 256 values are in `gguf::k_quants`.

use half::{bf16, f16};

use super::k_quants;

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
    /// Five bits around zero, scale per 32 values.
    Q5_0,
    /// Five bits, scale and minimum per 32 values.
    Q5_1,
    /// Two bits, four-bit scales and minima per 16 of 256 values.
    Q2K,
    /// Three bits around zero, six-bit scales per 16 of 256 values.
    Q3K,
    /// Four bits, six-bit scales and minima per 32 of 256 values.
    Q4K,
    /// Five bits, six-bit scales and minima per 32 of 256 values.
    Q5K,
    /// Six bits around zero, eight-bit scales per 16 of 256 values.
    Q6K,
}

/// Formats that are read: ggml's type number and name, values in a block, bytes of a block.
const FORMATS: [(u32, &str, BlockFormat, usize, usize); 13] = [
    (0, "F32", BlockFormat::F32, 1, 4),
    (1, "F16", BlockFormat::F16, 1, 2),
    (2, "Q4_0", BlockFormat::Q4_0, BLOCK, 2 + BLOCK / 2),
    (3, "Q4_1", BlockFormat::Q4_1, BLOCK, 4 + BLOCK / 2),
    (6, "Q5_0", BlockFormat::Q5_0, BLOCK, 6 + BLOCK / 2),
    (7, "Q5_1", BlockFormat::Q5_1, BLOCK, 8 + BLOCK / 2),
    (8, "Q8_0", BlockFormat::Q8_0, BLOCK, 2 + BLOCK),
    (10, "Q2_K", BlockFormat::Q2K, k_quants::VALUES, k_quants::Q2_K_BYTES),
    (11, "Q3_K", BlockFormat::Q3K, k_quants::VALUES, k_quants::Q3_K_BYTES),
    (12, "Q4_K", BlockFormat::Q4K, k_quants::VALUES, k_quants::Q4_K_BYTES),
    (13, "Q5_K", BlockFormat::Q5K, k_quants::VALUES, k_quants::Q5_K_BYTES),
    (14, "Q6_K", BlockFormat::Q6K, k_quants::VALUES, k_quants::Q6_K_BYTES),
    (30, "BF16", BlockFormat::Bf16, 1, 2),
];

/// Types of ggml that are not read, by number.
const UNREAD: [(u32, &str); 23] = [
    (4, "Q4_2"),
    (5, "Q4_3"),
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (31, "Q4_0_4_4"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
];

impl BlockFormat {
    /// Names of all formats that are read.
    pub const NAMES: [&'static str; 13] = [
        "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
    ];

    /// Format of a ggml type number, if it is read here.
    pub fn from_ggml(kind: u32) -> Option<Self> {
        FORMATS.iter().find(|(number, ..)| *number == kind).map(|(_, _, format, ..)| *format)
    }

    /// ggml's name of a type number, read here or not.
    pub fn name_of(kind: u32) -> Option<&'static str> {
        let read = FORMATS.iter().map(|(number, name, ..)| (*number, *name));
        read.chain(UNREAD).find(|(number, _)| *number == kind).map(|(_, name)| name)
    }

    /// Bytes of `count` values; `None` when they are no whole number of blocks.
    pub fn bytes_of(self, count: usize) -> Option<usize> {
        let (_, _, _, values, bytes) = FORMATS.iter().find(|(_, _, format, ..)| *format == self)?;
        count.is_multiple_of(*values).then_some(())?;
        (count / values).checked_mul(*bytes)
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
            Self::Q5_0 => blocks::<{ 6 + BLOCK / 2 }>(bytes, |block| {
                let ([a, b, rest @ ..],) = (block,);
                let scale = f16::from_le_bytes([*a, *b]).to_f32();
                five_bits(rest).map(|quant| scale * (quant - 16.0)).collect()
            }),
            Self::Q5_1 => blocks::<{ 8 + BLOCK / 2 }>(bytes, |block| {
                let ([a, b, c, d, rest @ ..],) = (block,);
                let (scale, minimum) =
                    (f16::from_le_bytes([*a, *b]).to_f32(), f16::from_le_bytes([*c, *d]).to_f32());
                five_bits(rest).map(|quant| scale * quant + minimum).collect()
            }),
            Self::Q2K => blocks(bytes, k_quants::q2_k),
            Self::Q3K => blocks(bytes, k_quants::q3_k),
            Self::Q4K => blocks(bytes, k_quants::q4_k),
            Self::Q5K => blocks(bytes, k_quants::q5_k),
            Self::Q6K => blocks(bytes, k_quants::q6_k),
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

/// Four low bits as [`halves`] orders them, behind a word whose bit n is the fifth bit of value n.
fn five_bits(bytes: &[u8; 4 + BLOCK / 2]) -> impl Iterator<Item = f32> {
    let ([a, b, c, d, quants @ ..],) = (bytes,);
    let fifth = u32::from_le_bytes([*a, *b, *c, *d]);
    halves(quants).enumerate().map(move |(n, quant)| quant + if fifth >> n & 1 == 1 { 16.0 } else { 0.0 })
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

    /// `scripts/ggml-blocks.py` decoded random blocks with the `gguf` package of llama.cpp.
    #[test]
    fn every_format_decodes_as_recorded_bit_for_bit() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/ggml-blocks.json");
        let recorded: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let bytes = |hex: &serde_json::Value| -> Vec<u8> {
            let hex = hex.as_str().unwrap();
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
        };
        let cases = recorded["cases"].as_array().unwrap();
        assert_eq!(cases.len(), BlockFormat::NAMES.len());
        for case in cases {
            let kind = u32::try_from(case["type"].as_u64().unwrap()).unwrap();
            let format = BlockFormat::from_ggml(kind).unwrap();
            assert_eq!(BlockFormat::name_of(kind), case["name"].as_str());
            let (blocks, wanted) = (bytes(&case["blocks"]), bytes(&case["values"]));
            let found: Vec<u8> =
                format.decode(&blocks).iter().flat_map(|value| value.to_le_bytes()).collect();
            assert_eq!(found, wanted, "{}", case["name"]);
            assert_eq!(format.bytes_of(wanted.len() / 4), Some(blocks.len()), "{}", case["name"]);
        }
    }

    #[test]
    fn partial_blocks_have_no_size() {
        assert_eq!(BlockFormat::Q4_1.bytes_of(64), Some(40));
        assert_eq!(BlockFormat::Q4_1.bytes_of(63), None);
    }
}
