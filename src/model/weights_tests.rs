//! Model directories as they come: sharded, mixed in type, damaged.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use tempfile::TempDir;

use super::*;
use crate::model::prepared::PreparedModel;
use crate::model::reference::ReferenceModel;
use crate::model::tokenizer::Tokenizer;

const CONFIG: &str = r#"{"model_type":"llama","hidden_size":4,"intermediate_size":6,"num_hidden_layers":1,"num_attention_heads":2,"num_key_value_heads":1,"vocab_size":5,"tie_word_embeddings":false}"#;

type Tensors = Vec<(String, Dtype, Vec<usize>, Vec<u8>)>;

/// All tensors of `CONFIG` in f32, value number n being n/64.
fn tensors() -> Tensors {
    let config = LlamaConfig::parse(CONFIG.as_bytes(), "config.json").unwrap();
    expected_tensors(&config)
        .into_iter()
        .map(|(name, shape)| {
            let count: usize = shape.iter().product();
            let bytes = (0..count).flat_map(|n| (n as f32 / 64.0).to_le_bytes()).collect();
            (name, Dtype::F32, shape, bytes)
        })
        .collect()
}

fn write(path: &Path, tensors: &[(String, Dtype, Vec<usize>, Vec<u8>)]) {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None::<HashMap<String, String>>, path).unwrap();
}

fn directory(tensors: &Tensors) -> TempDir {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("config.json"), CONFIG).unwrap();
    write(&directory.path().join("model.safetensors"), tensors);
    directory
}

fn read_error(directory: &TempDir) -> String {
    match ReferenceModel::read(directory.path()) {
        Ok(_) => panic!("the directory was read"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn half_types_and_shards_read_as_the_same_numbers() {
    let whole = directory(&tensors());
    let config = LlamaConfig::read(whole.path()).unwrap();
    let wanted = Weights::open(whole.path(), &config).unwrap();
    let sharded = TempDir::new().unwrap();
    let mut map = serde_json::Map::new();
    for (index, (name, _, shape, bytes)) in tensors().into_iter().enumerate() {
        let values = bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word));
        // n/64 with n < 25 is exact in both half types.
        let (dtype, bytes): (Dtype, Vec<u8>) = match index % 3 {
            0 => (Dtype::F16, values.flat_map(|value| half::f16::from_f32(value).to_le_bytes()).collect()),
            1 => (Dtype::BF16, values.flat_map(|value| half::bf16::from_f32(value).to_le_bytes()).collect()),
            _ => (Dtype::F32, bytes),
        };
        let file = format!("model-{index}.safetensors");
        write(&sharded.path().join(&file), &[(name.clone(), dtype, shape, bytes)]);
        map.insert(name, file.into());
    }
    let index = serde_json::json!({ "metadata": {}, "weight_map": map });
    std::fs::write(sharded.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    let found = Weights::open(sharded.path(), &config).unwrap();
    assert_eq!(found.embedding().unwrap(), wanted.embedding().unwrap());
    assert_eq!(found.layer(0).unwrap().down, wanted.layer(0).unwrap().down);
    assert_eq!(found.output_head().unwrap(), wanted.output_head().unwrap());

    std::fs::remove_file(sharded.path().join("model-3.safetensors")).unwrap();
    let error = Weights::open(sharded.path(), &config).err().unwrap().to_string();
    assert!(error.contains("model-3.safetensors") && error.contains("missing"), "{error}");
}

#[test]
fn an_index_that_points_elsewhere_is_refused() {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("config.json"), CONFIG).unwrap();
    let index = r#"{"weight_map":{"model.norm.weight":"../secret.safetensors"}}"#;
    std::fs::write(directory.path().join("model.safetensors.index.json"), index).unwrap();
    let error = read_error(&directory);
    assert!(error.contains("../secret.safetensors"), "{error}");
}

#[test]
fn a_file_cut_anywhere_is_one_error() {
    let directory = directory(&tensors());
    let path = directory.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    for length in (0..bytes.len()).step_by(97).chain([1, 7, 8, 9, bytes.len() - 1]) {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let error = read_error(&directory);
        assert!(error.contains("model.safetensors"), "cut to {length}: {error}");
    }
}

#[test]
fn an_announced_header_of_any_length_reserves_nothing() {
    let directory = directory(&tensors());
    let path = directory.path().join("model.safetensors");
    std::fs::write(&path, [u64::MAX.to_le_bytes().to_vec(), b"{}".to_vec()].concat()).unwrap();
    assert!(read_error(&directory).contains("not a safetensors file"));
}

#[test]
fn a_wrong_shape_is_named_with_both_shapes() {
    let mut tensors = tensors();
    let entry = tensors.iter_mut().find(|entry| entry.0.ends_with("up_proj.weight")).unwrap();
    entry.2 = vec![4, 6];
    let error = read_error(&directory(&tensors));
    for word in ["model.layers.0.mlp.up_proj.weight", "[4, 6]", "[6, 4]"] {
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn a_missing_tensor_is_named() {
    let mut tensors = tensors();
    tensors.retain(|entry| entry.0 != "lm_head.weight");
    let error = read_error(&directory(&tensors));
    assert!(error.contains("lm_head.weight") && error.contains("missing"), "{error}");
}

#[test]
fn values_that_are_not_finite_are_named() {
    for bad in [f32::NAN, f32::INFINITY] {
        let mut tensors = tensors();
        let entry = tensors.iter_mut().find(|entry| entry.0.ends_with("k_proj.weight")).unwrap();
        entry.3[12..16].copy_from_slice(&bad.to_le_bytes());
        let error = read_error(&directory(&tensors));
        assert!(error.contains("k_proj") && error.contains("index 3"), "{error}");
    }
}

#[test]
fn an_integer_type_is_refused() {
    let mut tensors = tensors();
    let entry = tensors.iter_mut().find(|entry| entry.0 == "model.norm.weight").unwrap();
    entry.1 = Dtype::I32;
    let error = read_error(&directory(&tensors));
    assert!(error.contains("I32"), "{error}");
}

#[test]
fn an_unknown_architecture_is_named() {
    let directory = directory(&tensors());
    let config = CONFIG.replace("llama", "mixtral");
    std::fs::write(directory.path().join("config.json"), config).unwrap();
    let error = read_error(&directory);
    assert!(error.contains("mixtral"), "{error}");
}

#[test]
fn missing_files_are_named() {
    let empty = TempDir::new().unwrap();
    assert!(read_error(&empty).contains("config.json"));
    std::fs::write(empty.path().join("config.json"), CONFIG).unwrap();
    assert!(read_error(&empty).contains("model.safetensors"));
    let directory = directory(&tensors());
    let error = PreparedModel::read(directory.path()).err().unwrap().to_string();
    assert!(error.contains("tokenizer.json") && error.contains("missing"), "{error}");
}

#[test]
fn a_tokenizer_of_another_vocabulary_is_refused() {
    let directory = directory(&tensors());
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny-shakespeare-llama/tokenizer.json");
    std::fs::copy(tiny, directory.path().join("tokenizer.json")).unwrap();
    let config = LlamaConfig::read(directory.path()).unwrap();
    let error = Tokenizer::read(directory.path(), &config).err().unwrap().to_string();
    assert!(error.contains("511") && error.contains("vocab_size = 5"), "{error}");
    std::fs::write(directory.path().join("tokenizer.json"), "{}").unwrap();
    assert!(
        Tokenizer::read(directory.path(), &config).err().unwrap().to_string().contains("not a tokenizer")
    );
}
