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

/// The tensors of the test model, each under the name that `rename` gives it.
fn renamed(rename: impl Fn(&str) -> String) -> Tensors {
    tensors().into_iter().map(|(name, dtype, shape, bytes)| (rename(&name), dtype, shape, bytes)).collect()
}

fn tied(directory: &TempDir) {
    let config = CONFIG.replace("\"tie_word_embeddings\":false", "\"tie_word_embeddings\":true");
    std::fs::write(directory.path().join("config.json"), config).unwrap();
}

fn fingerprint(directory: &TempDir) -> String {
    let model = ReferenceModel::read(directory.path()).unwrap();
    let weights = Weights::open(directory.path(), model.config()).unwrap();
    assert_eq!(model.fingerprint(), weights.fingerprint().unwrap());
    model.fingerprint()
}

#[test]
fn prefixes_of_wrappers_are_the_same_model() {
    let wanted = fingerprint(&directory(&tensors()));
    let cut = |name: &str| name.strip_prefix("model.").unwrap_or(name).to_owned();
    for (what, tensors) in [
        ("bare decoder", renamed(cut)),
        ("compiled", renamed(|name| format!("_orig_mod.{name}"))),
        ("distributed", renamed(|name| format!("module.{name}"))),
        ("multimodal", renamed(|name| format!("language_model.{name}"))),
        ("multimodal, newer", renamed(|name| format!("model.language_model.{}", cut(name)))),
        (
            "multimodal, head outside",
            renamed(|name| match name.strip_prefix("model.") {
                Some(rest) => format!("model.language_model.{rest}"),
                None => name.to_owned(),
            }),
        ),
    ] {
        assert_eq!(fingerprint(&directory(&tensors)), wanted, "{what}");
    }
    let mut two = tensors();
    two.extend(renamed(|name| format!("teacher.{name}")));
    let error = read_error(&directory(&two));
    assert!(error.contains("\"model.\"") && error.contains("\"teacher.model.\""), "{error}");
}

#[test]
fn a_tied_model_may_keep_its_embedding_as_the_head_alone_or_twice_but_no_other_head() {
    let embedding = |name: &str| name.contains("embed_tokens");
    let head = |name: &str| name == "lm_head.weight";
    // In `tensors` both hold the same numbers.
    let mut wanted = tensors();
    wanted.retain(|entry| !head(&entry.0));
    let wanted = directory(&wanted);
    tied(&wanted);
    let wanted = fingerprint(&wanted);
    let both = directory(&tensors());
    tied(&both);
    assert_eq!(fingerprint(&both), wanted);
    let mut alone = tensors();
    alone.retain(|entry| !embedding(&entry.0));
    let alone = directory(&alone);
    tied(&alone);
    assert_eq!(fingerprint(&alone), wanted);
    let mut other = tensors();
    let entry = other.iter_mut().find(|entry| head(&entry.0)).unwrap();
    entry.3[..4].copy_from_slice(&0.5f32.to_le_bytes());
    let other = directory(&other);
    assert_ne!(fingerprint(&other), wanted, "untied, the head is used");
    tied(&other);
    let error = read_error(&other);
    assert!(error.contains("lm_head.weight is not the embedding") && error.contains("= false"), "{error}");
}

#[test]
fn tensors_that_nobody_reads_are_refused_by_name_and_harmless_ones_are_not() {
    let zero = (Dtype::F32, vec![4], vec![0; 16]);
    let one =
        (Dtype::F32, vec![4], [1.0f32; 4].iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
    for (name, (dtype, shape, bytes), word) in [
        ("model.layers.0.self_attn.q_proj.bias", &one, "q_proj.bias would not be used"),
        ("model.layers.0.self_attn.q_norm.weight", &one, "q_norm"),
        ("model.layers.1.mlp.up_proj.weight", &one, "num_hidden_layers"),
        ("model.layers.0.self_attn.q_proj.lora_A.weight", &one, "lora_A"),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", &one, ""),
        ("model.layers.0.self_attn.q_proj.bias", &zero, ""),
    ] {
        let mut tensors = tensors();
        tensors.push((name.to_owned(), *dtype, shape.clone(), bytes.clone()));
        let directory = directory(&tensors);
        match ReferenceModel::read(directory.path()) {
            Ok(_) => assert!(word.is_empty(), "{name} was passed over"),
            Err(error) => assert!(!word.is_empty() && error.to_string().contains(word), "{error}"),
        }
    }
}

#[test]
fn shard_sets_are_read_whole_or_not_at_all() {
    let (first, second) = {
        let mut tensors = tensors();
        let second = tensors.split_off(5);
        (tensors, second)
    };
    let set = |index: bool| {
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("config.json"), CONFIG).unwrap();
        write(&directory.path().join("model-00001-of-00002.safetensors"), &first);
        write(&directory.path().join("model-00002-of-00002.safetensors"), &second);
        if index {
            // Every tensor in the first file, wrong for half of them.
            let map: serde_json::Map<_, _> = tensors()
                .into_iter()
                .map(|entry| (entry.0, "model-00001-of-00002.safetensors".into()))
                .collect();
            let map = serde_json::json!({ "weight_map": map }).to_string();
            std::fs::write(directory.path().join("model.safetensors.index.json"), map).unwrap();
        }
        directory
    };
    let without_index = set(false);
    assert_eq!(fingerprint(&without_index), fingerprint(&directory(&tensors())));
    let wrong = set(true);
    let index = wrong.path().join("model.safetensors.index.json");
    let both = std::fs::read_to_string(&index).unwrap().replacen("00001-of", "00002-of", 1);
    std::fs::write(&index, both).unwrap();
    let error = read_error(&wrong);
    assert!(error.contains("the index says it is in model-0000"), "{error}");
    write(&wrong.path().join("model.safetensors"), &tensors());
    assert!(read_error(&wrong).contains("both model.safetensors and shards"));

    std::fs::remove_file(without_index.path().join("model-00001-of-00002.safetensors")).unwrap();
    assert!(read_error(&without_index).contains("shard 1 of 2 is missing"));
    write(&without_index.path().join("model-00001-of-00002.safetensors"), &tensors());
    assert!(read_error(&without_index).contains("in two shards"));
}

#[test]
fn what_lies_there_instead_of_weights_is_named() {
    for (file, word) in [
        ("pytorch_model.bin", "convert it to safetensors"),
        ("consolidated.00.pth", "convert it to safetensors"),
        ("__0_0.distcp", "distributed checkpoint"),
        ("model.Q4_K_M.gguf", "import the GGUF"),
        ("weights.safetensors", "name the file model.safetensors"),
        ("notes.txt", "it holds config.json, notes.txt"),
    ] {
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("config.json"), CONFIG).unwrap();
        std::fs::write(directory.path().join(file), "x").unwrap();
        let error = read_error(&directory);
        assert!(error.contains(word), "{file}: {error}");
    }
    let directory = directory(&tensors());
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 538090408\n";
    std::fs::write(directory.path().join("model.safetensors"), pointer).unwrap();
    assert!(read_error(&directory).contains("git lfs pull"));
}

#[test]
fn weights_that_compute_nothing_or_too_much_are_named_with_their_layer() {
    for (part, value, word) in [
        ("model.layers.0.input_layernorm.weight", 0.0f32, "attention of its layer would compute nothing"),
        ("model.layers.0.post_attention_layernorm.weight", 0.0, "MLP of its layer would compute nothing"),
        ("model.embed_tokens.weight", 0.0, "every token would look the same"),
        ("model.layers.0.mlp.gate_proj.weight", 1e30, "1e30"),
    ] {
        let mut tensors = tensors();
        let entry = tensors.iter_mut().find(|entry| entry.0 == part).unwrap();
        entry.3 = entry.3.as_chunks::<4>().0.iter().flat_map(|_| value.to_le_bytes()).collect();
        let error = read_error(&directory(&tensors));
        assert!(error.contains(part) && error.contains(word), "{error}");
    }
    // What is right in the clear stays allowed: a matrix of zeros.
    let mut tensors = tensors();
    let entry = tensors.iter_mut().find(|entry| entry.0.contains("v_proj")).unwrap();
    entry.3.fill(0);
    assert!(ReferenceModel::read(directory(&tensors).path()).is_ok());
}

#[test]
fn the_fingerprint_tells_one_changed_weight() {
    let wanted = fingerprint(&directory(&tensors()));
    let mut tensors = tensors();
    let entry = tensors.iter_mut().find(|entry| entry.0.contains("down_proj")).unwrap();
    entry.3[40] ^= 1;
    assert_ne!(fingerprint(&directory(&tensors)), wanted);
}
