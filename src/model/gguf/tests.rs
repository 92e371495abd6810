//! Headers as they come: whole, cut off, damaged, of other formats.

use super::*;
use proptest::prelude::*;

/// A file with one text, one array and one Q4_1 tensor.
fn sample() -> Vec<u8> {
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
    let list: Vec<_> = file.array("list").unwrap().iter().collect();
    assert_eq!(list, [GgufValue::Integer(7), GgufValue::Integer(9)]);
    assert_eq!(file.tensor("w").unwrap().shape, [1, 32]);
    let values = file.decode("w").unwrap();
    assert_eq!(values[..16], [-0.5; 16]);
    assert_eq!(values[16..], [0.0; 16]);
    assert_eq!(file.decode_row("w", 0).unwrap(), values);
    assert!(file.decode_row("w", 1).is_err());
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

/// Every mistake that a file's first bytes tell is named.
#[test]
fn what_is_no_gguf_says_what_it_is() {
    let header = |version: u32| [b"GGUF".to_vec(), version.to_le_bytes().to_vec(), vec![0; 16]].concat();
    for (bytes, word) in [
        (Vec::new(), "empty"),
        (header(3u32.swap_bytes()), "big-endian"),
        (header(1), "version 1"),
        (header(4), "version 4"),
        (b"FUGG\x00\x00\x00\x03".to_vec(), "reverse order"),
        (b"tjgg\x03\x00\x00\x00".to_vec(), "before GGUF"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0".to_vec(), "git lfs pull"),
        (b"PK\x03\x04\x00\x00".to_vec(), "PyTorch"),
        (b"hello world".to_vec(), "does not begin with GGUF"),
        ([header(3)[..8].to_vec(), vec![0xff; 16]].concat(), "are announced"),
    ] {
        let error = Gguf::parse(&bytes, "x.gguf").err().unwrap().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn types_that_are_not_read_are_named_with_those_that_are() {
    let place =
        sample().windows(12).rposition(|window| window == [3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    for (kind, words) in [(20u8, ["IQ4_NL", "Q4_K"]), (39, ["MXFP4", "BF16"]), (99, ["type 99", "Q6_K"])] {
        let mut bytes = sample();
        bytes[place] = kind;
        let error = Gguf::parse(&bytes, "x.gguf").err().unwrap().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
}
