//! The bundled model as GGUF files of every kind, imported and compared with the original.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::model::chat_frame::ChatFrame;
use crate::model::config::RopeScaling;
use crate::model::reference::ReferenceModel;
use crate::model::tokenizer::Tokenizer;
use crate::model::tokens_grid::{grid, tokenizer_json};

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny-shakespeare-llama")
}

/// Metadata of a file: type number and bytes.
type Metadata = BTreeMap<String, (u32, Vec<u8>)>;
/// Tensors of a file: shape (slowest first) and f32 values.
type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn integer(value: u32) -> (u32, Vec<u8>) {
    (4, value.to_le_bytes().to_vec())
}

fn float(value: f32) -> (u32, Vec<u8>) {
    (6, value.to_le_bytes().to_vec())
}

fn flag(value: bool) -> (u32, Vec<u8>) {
    (7, vec![u8::from(value)])
}

fn string(value: &str) -> (u32, Vec<u8>) {
    (8, text(value))
}

fn list(kind: u32, items: &[Vec<u8>]) -> (u32, Vec<u8>) {
    (9, [kind.to_le_bytes().to_vec(), (items.len() as u64).to_le_bytes().to_vec(), items.concat()].concat())
}

/// The bundled model as llama.cpp's converter writes it.
fn bundled() -> (Metadata, Tensors) {
    let model = ReferenceModel::read(&tiny()).unwrap();
    let config = model.config();
    let tokenizer: Value =
        serde_json::from_str(&std::fs::read_to_string(tiny().join("tokenizer.json")).unwrap()).unwrap();
    let mut tokens: Vec<(u64, &String)> = tokenizer["model"]["vocab"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(token, id)| (id.as_u64().unwrap(), token))
        .collect();
    tokens.sort();
    let merge = |pair: &Value| match pair {
        Value::String(merge) => merge.clone(),
        pair => format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()),
    };
    let merges: Vec<Vec<u8>> =
        tokenizer["model"]["merges"].as_array().unwrap().iter().map(|pair| text(&merge(pair))).collect();
    let kinds: Vec<Vec<u8>> =
        tokens.iter().map(|(id, _)| if *id < 2 { 3i32 } else { 1 }.to_le_bytes().to_vec()).collect();
    let tokens: Vec<Vec<u8>> = tokens.iter().map(|(_, token)| text(token)).collect();
    let count = |value: usize| integer(u32::try_from(value).unwrap());
    let metadata = [
        ("general.architecture", string("llama")),
        ("llama.embedding_length", count(config.hidden_size)),
        ("llama.feed_forward_length", count(config.intermediate_size)),
        ("llama.block_count", count(config.num_hidden_layers)),
        ("llama.attention.head_count", count(config.num_attention_heads)),
        ("llama.attention.head_count_kv", count(config.num_key_value_heads)),
        ("llama.context_length", count(config.max_position_embeddings)),
        ("llama.rope.freq_base", float(config.rope_theta as f32)),
        ("llama.attention.layer_norm_rms_epsilon", float(config.rms_norm_eps as f32)),
        ("tokenizer.ggml.model", string("gpt2")),
        ("tokenizer.ggml.pre", string("gpt-2")),
        ("tokenizer.ggml.tokens", list(8, &tokens)),
        ("tokenizer.ggml.merges", list(8, &merges)),
        ("tokenizer.ggml.token_type", list(5, &kinds)),
        ("tokenizer.ggml.bos_token_id", integer(0)),
        ("tokenizer.ggml.eos_token_id", integer(1)),
    ];
    let mut tensors = Tensors::new();
    let embedding: Vec<f32> =
        (0..config.vocab_size).flat_map(|token| model.embedding(token as u32).unwrap().to_vec()).collect();
    tensors.insert("token_embd.weight".to_owned(), (vec![config.vocab_size, config.hidden_size], embedding));
    tensors.insert("output_norm.weight".to_owned(), (vec![config.hidden_size], model.final_norm().to_vec()));
    for (layer, weights) in model.layers().iter().enumerate() {
        for (name, vector) in [("attn_norm", &weights.input_norm), ("ffn_norm", &weights.post_attention_norm)]
        {
            tensors.insert(format!("blk.{layer}.{name}.weight"), (vec![vector.len()], vector.to_vec()));
        }
        for (name, matrix) in [
            ("attn_q", &weights.query),
            ("attn_k", &weights.key),
            ("attn_v", &weights.value),
            ("attn_output", &weights.output),
            ("ffn_gate", &weights.gate),
            ("ffn_up", &weights.up),
            ("ffn_down", &weights.down),
        ] {
            let half = config.head_dim / 2;
            // llama.cpp: reshape to (heads, 2, half, width), exchange the middle axes.
            let row = |row: usize| match name {
                "attn_q" | "attn_k" => {
                    let (head, inner) = (row / config.head_dim, row % config.head_dim);
                    head * config.head_dim + inner % 2 * half + inner / 2
                }
                _ => row,
            };
            let values = (0..matrix.nrows()).flat_map(|index| matrix.row(row(index)).to_vec()).collect();
            tensors
                .insert(format!("blk.{layer}.{name}.weight"), (vec![matrix.nrows(), matrix.ncols()], values));
        }
    }
    (metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(), tensors)
}

fn write(path: &Path, metadata: &Metadata, tensors: &Tensors) {
    let mut file = b"GGUF".to_vec();
    file.extend(3u32.to_le_bytes());
    file.extend((tensors.len() as u64).to_le_bytes());
    file.extend((metadata.len() as u64).to_le_bytes());
    for (key, (kind, bytes)) in metadata {
        file.extend([text(key), kind.to_le_bytes().to_vec(), bytes.clone()].concat());
    }
    let mut data = Vec::new();
    for (name, (shape, values)) in tensors {
        file.extend([text(name), (shape.len() as u32).to_le_bytes().to_vec()].concat());
        shape.iter().rev().for_each(|size| file.extend((*size as u64).to_le_bytes()));
        file.extend([0u32.to_le_bytes().to_vec(), (data.len() as u64).to_le_bytes().to_vec()].concat());
        values.iter().for_each(|value| data.extend(value.to_le_bytes()));
        data.resize(data.len().next_multiple_of(32), 0);
    }
    file.resize(file.len().next_multiple_of(32), 0);
    file.extend(data);
    std::fs::write(path, file).unwrap();
}

/// Imports the bundled model after `change`; the directory, or the error.
fn imported(change: impl Fn(&mut Metadata, &mut Tensors)) -> std::result::Result<TempDir, String> {
    let (mut metadata, mut tensors) = bundled();
    change(&mut metadata, &mut tensors);
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("m.gguf");
    write(&file, &metadata, &tensors);
    let directory = folder.path().join("out");
    match import_gguf(&file, &directory) {
        Ok(_) => Ok(folder),
        Err(error) => {
            assert!(!directory.exists(), "a directory stays behind: {error}");
            Err(error.to_string())
        }
    }
}

fn refused(change: impl Fn(&mut Metadata, &mut Tensors)) -> String {
    imported(change).map(drop).unwrap_err()
}

fn read(folder: &TempDir) -> (ReferenceModel, Tokenizer, ChatFrame) {
    let directory = folder.path().join("out");
    let model = ReferenceModel::read(&directory).unwrap();
    let tokenizer = Tokenizer::read(&directory, model.config()).unwrap();
    let frame = ChatFrame::read(&directory, model.config(), &tokenizer).unwrap();
    (model, tokenizer, frame)
}

#[test]
fn an_imported_model_is_the_original_to_the_bit() {
    let original = ReferenceModel::read(&tiny()).unwrap();
    let wanted = Tokenizer::read(&tiny(), original.config()).unwrap();
    let (model, tokenizer, frame) = read(&imported(|_, _| {}).unwrap());
    assert_eq!(model.fingerprint(), original.fingerprint());
    for text in ["ROMEO:\nO, speak again!", " it’s 2+2 <|eos|>x"] {
        assert_eq!(tokenizer.encode(text).unwrap(), wanted.encode(text).unwrap());
    }
    assert_eq!(frame.prefix, [0]);
}

#[test]
fn what_the_file_says_about_tokens_is_kept() {
    let with = |key: &str, value: (u32, Vec<u8>)| {
        read(&imported(|metadata, _| drop(metadata.insert(key.to_owned(), value.clone()))).unwrap())
    };
    let (model, ..) = with("tokenizer.ggml.eot_token_id", integer(7));
    assert_eq!(model.config().eos_token_ids, [1, 7]);
    assert!(with("tokenizer.ggml.add_bos_token", flag(false)).2.prefix.is_empty());
    assert_eq!(with("tokenizer.ggml.add_bos_token", flag(true)).2.prefix, [0]);
    let (_, tokenizer, frame) = with("tokenizer.ggml.add_eos_token", flag(true));
    assert_eq!(frame.message(&tokenizer, "O").unwrap().last(), Some(&1));
    let template = "{{ bos_token }}U: {{ messages[0]['content'] }}";
    let (_, tokenizer, frame) = with("tokenizer.chat_template", string(template));
    assert!(frame.is_chat && frame.prefix.first() == Some(&0), "{:?}", frame.prefix);
    assert!(tokenizer.decode(&frame.prefix).unwrap().starts_with("U:"));
    let named = imported(|metadata, _| {
        metadata.insert("tokenizer.chat_template.tool_use".to_owned(), string("no"));
        metadata.insert("tokenizer.chat_template".to_owned(), string(template));
    });
    assert_eq!(read(&named.unwrap()).2.prefix, frame.prefix);
}

#[test]
fn pre_tokenizers_of_llama_3_and_qwen_2_cut_as_hugging_face_does() {
    let grid = grid();
    for (pre, name) in [("llama-bpe", "llama3"), ("qwen2", "qwen2")] {
        let folder =
            imported(|metadata, _| drop(metadata.insert("tokenizer.ggml.pre".to_owned(), string(pre))));
        let (_, tokenizer, frame) = read(&folder.unwrap());
        let wanted = TempDir::new().unwrap();
        std::fs::write(wanted.path().join("tokenizer.json"), tokenizer_json(&grid, name).to_string())
            .unwrap();
        let config =
            LlamaConfig { vocab_size: 4000, ..ReferenceModel::read(&tiny()).unwrap().config().clone() };
        let wanted = Tokenizer::read(wanted.path(), &config).unwrap();
        for text in grid["texts"].as_array().unwrap() {
            let text = text.as_str().unwrap().replace("<|im_end|>", "").replace("</s>", "");
            assert_eq!(tokenizer.encode(&text).unwrap(), wanted.encode(&text).unwrap(), "{pre}: {text:?}");
        }
        assert_eq!(
            frame.prefix,
            [0],
            "the file says nothing: llama.cpp's and the configuration's start of text"
        );
    }
    let error =
        refused(|metadata, _| drop(metadata.insert("tokenizer.ggml.pre".to_owned(), string("tekken"))));
    assert!(error.contains("pre-tokenizer tekken"), "{error}");
    let error =
        refused(|metadata, _| drop(metadata.insert("tokenizer.ggml.model".to_owned(), string("llama"))));
    assert!(error.contains("tokenizer llama"), "{error}");
}

#[test]
fn rope_settings_of_every_age_are_used() {
    let scaling = |change: &dyn Fn(&mut Metadata, &mut Tensors)| {
        imported(change).map(|folder| read(&folder).0.config().rope_scaling)
    };
    let factor = "llama.rope.scaling.factor".to_owned();
    let linear = RopeScaling::Linear { factor: 2.0 };
    let old = |metadata: &mut Metadata, _: &mut Tensors| {
        metadata.insert("llama.rope.scale_linear".to_owned(), float(2.0));
    };
    assert_eq!(scaling(&old).unwrap(), linear);
    let new = |metadata: &mut Metadata, _: &mut Tensors| {
        metadata.insert(factor.clone(), float(2.0));
        metadata.insert("llama.rope.scaling.type".to_owned(), string("linear"));
    };
    assert_eq!(scaling(&new).unwrap(), linear);
    let both = |metadata: &mut Metadata, tensors: &mut Tensors| {
        old(metadata, tensors);
        metadata.insert(factor.clone(), float(4.0));
    };
    assert!(scaling(&both).unwrap_err().contains("differ"));
    let yarn = |metadata: &mut Metadata, _: &mut Tensors| {
        metadata.insert("llama.rope.scaling.type".to_owned(), string("yarn"));
        metadata.insert(factor.clone(), float(4.0));
    };
    assert!(scaling(&yarn).unwrap_err().contains("yarn by 4"));
    // As llama.cpp's converter computes them for the eight frequencies of this model.
    let llama3 = RopeScaling::Llama3 {
        factor: 32.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };
    let divisors = |base: f64| -> Vec<f32> {
        (0..8)
            .map(|pair| {
                let frequency = base.powf(-f64::from(pair) / 8.0);
                let wavelength = 2.0 * std::f64::consts::PI / frequency;
                if wavelength < 8192.0 / 4.0 {
                    1.0
                } else if wavelength > 8192.0 {
                    32.0
                } else {
                    let smooth = (8192.0 / wavelength - 1.0) / 3.0;
                    (1.0 / ((1.0 - smooth) / 32.0 + smooth)) as f32
                }
            })
            .collect()
    };
    let tensor = |base: f64| {
        move |metadata: &mut Metadata, tensors: &mut Tensors| {
            metadata.insert("llama.rope.freq_base".to_owned(), float(500_000.0));
            tensors.insert("rope_freqs.weight".to_owned(), (vec![8], divisors(base)));
        }
    };
    assert_eq!(scaling(&tensor(500_000.0)).unwrap(), llama3);
    assert!(scaling(&tensor(10_000.0)).unwrap_err().contains("rope_freqs.weight"));
}

#[test]
fn what_would_not_be_used_is_refused_by_name() {
    let key = |key: &'static str, value: (u32, Vec<u8>)| {
        refused(move |metadata, _| drop(metadata.insert(key.to_owned(), value.clone())))
    };
    let heads = |values: [u32; 2]| list(4, &values.map(|value| value.to_le_bytes().to_vec()));
    for (error, word) in [
        (
            key("llama.block_count", integer(1)),
            "tensor blk.1.attn_k.weight is of layer 1, llama.block_count is 1",
        ),
        (key("llama.block_count", integer(3)), "blk.2.attn_norm.weight is missing"),
        (
            key("llama.attention.head_count_kv", heads([2, 4])),
            "head_count_kv is a list with a value for each layer",
        ),
        (key("llama.expert_count", integer(8)), "llama.expert_count"),
        (key("llama.attention.sliding_window", integer(64)), "sliding_window = 64"),
        (key("llama.attention.value_length", integer(8)), "value_length = 8"),
        (key("llama.rope.dimension_count", integer(8)), "dimension_count = 8"),
        (key("llama.something_new", integer(8)), "llama.something_new"),
        (key("general.architecture", string("qwen2")), "architecture qwen2"),
        (key("tokenizer.ggml.eos_token_id", integer(512)), "eos_token_id = 512"),
        (key("tokenizer.ggml.token_type", heads([1, 1])), "512 tokens and 2 token types"),
        (
            refused(|_, tensors| {
                drop(tensors.insert("blk.0.attn_q.bias".to_owned(), (vec![64], vec![1.0; 64])))
            }),
            "blk.0.attn_q.bias would not be used",
        ),
        (refused(|_, tensors| drop(tensors.remove("output_norm.weight"))), "output_norm.weight is missing"),
        (
            refused(|metadata, _| drop(metadata.remove("general.architecture"))),
            "general.architecture is missing",
        ),
    ] {
        assert!(error.contains(word), "{word}: {error}");
    }
    // Lists of equal values are one value.
    let folder = imported(|metadata, _| {
        metadata.insert("llama.attention.head_count".to_owned(), heads([4, 4]));
        metadata.insert("llama.attention.head_count_kv".to_owned(), heads([2, 2]));
        metadata.insert("llama.expert_count".to_owned(), integer(0));
    });
    assert_eq!(read(&folder.unwrap()).0.fingerprint(), ReferenceModel::read(&tiny()).unwrap().fingerprint());
}

#[test]
fn parts_are_joined_when_all_are_there() {
    let (metadata, mut tensors) = bundled();
    let folder = TempDir::new().unwrap();
    let path = |part: usize| folder.path().join(format!("m-{part:05}-of-00003.gguf"));
    let count = tensors.len();
    let last = tensors.split_off("blk.1.attn_q.weight");
    let middle = tensors.split_off("blk.0.ffn_norm.weight");
    for (part, tensors) in [&tensors, &middle, &last].into_iter().enumerate() {
        let mut metadata = if part == 0 { metadata.clone() } else { Metadata::new() };
        metadata.insert("split.no".to_owned(), (2, vec![part as u8, 0]));
        metadata.insert("split.count".to_owned(), (2, vec![3, 0]));
        metadata.insert("split.tensors.count".to_owned(), (5, (count as i32).to_le_bytes().to_vec()));
        write(&path(part + 1), &metadata, tensors);
    }
    let wanted = ReferenceModel::read(&tiny()).unwrap().fingerprint();
    for given in 1..=3 {
        let out = folder.path().join("out");
        import_gguf(&path(given), &out).unwrap();
        assert_eq!(ReferenceModel::read(&out).unwrap().fingerprint(), wanted, "part {given}");
        std::fs::remove_dir_all(out).unwrap();
    }
    std::fs::copy(path(2), folder.path().join("renamed.gguf")).unwrap();
    std::fs::copy(path(2), path(3)).unwrap();
    let error = |file: &Path| import_gguf(file, &folder.path().join("out")).unwrap_err().to_string();
    assert!(error(&path(1)).contains("part 3 of 3 is wanted here"), "{}", error(&path(1)));
    assert!(error(&folder.path().join("renamed.gguf")).contains("this is part 2 of 3"));
    std::fs::remove_file(path(3)).unwrap();
    let message = error(&path(1));
    assert!(
        message.contains("part 1 of 3, part 3 (") && message.contains("m-00003-of-00003.gguf"),
        "{message}"
    );
    assert!(error(folder.path()).contains("this is a directory"));
    assert!(!folder.path().join("out").exists());
}
