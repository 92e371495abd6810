//! Tokenizer of a GGUF as `tokenizer.json` and `tokenizer_config.json`: byte-level BPE with the pre-tokenizer that ggml
//! names.

use serde::ser::{SerializeMap, SerializeSeq, SerializeStruct};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::contract::Result;

use crate::model::gguf::{GgufArray, GgufValue};
use crate::model::import::parts::GgufParts;

/// Type of a token that is matched whole and never shown.
const CONTROL: i128 = 3;
/// Type of a token that a user added: matched whole, shown.
const USER_DEFINED: i128 = 4;

/// Splits of Llama 3 (`tokenizer.json` of meta-llama/Meta-Llama-3-8B).
const LLAMA3_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Splits of Qwen 2 (`tokenizer.json` of Qwen/Qwen2-0.5B): digits one by one.
const QWEN2_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A tokenizer as views of the file; written out as it is serialized.
pub(super) struct Vocabulary<'a> {
    tokens: GgufArray<'a>,
    merges: GgufArray<'a>,
    kinds: Option<GgufArray<'a>>,
    pre_tokenizer: PreTokenizer,
    /// Name (`bos_token`), id and text of the special tokens that the file names.
    special: Vec<(&'static str, usize, &'a str)>,
    add_bos: Option<bool>,
    add_eos: Option<bool>,
    /// Name and text of the chat templates; the one without a name is `default`.
    templates: Vec<(String, &'a str)>,
}

/// How text is cut before merging, by the name that ggml gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PreTokenizer {
    /// GPT-2's pattern.
    Gpt2,
    /// Digits one by one, then GPT-2's pattern.
    SmolLm,
    /// Llama 3's pattern; whole words of the vocabulary are not built from merges.
    Llama3,
    /// Qwen 2's pattern, over composed characters (NFC).
    Qwen2,
}

impl PreTokenizer {
    fn from_ggml(name: Option<&str>) -> Option<Self> {
        Some(match name {
            None | Some("default" | "gpt-2") => Self::Gpt2,
            Some("smollm") => Self::SmolLm,
            Some("llama-bpe" | "llama3" | "llama-v3") => Self::Llama3,
            Some("qwen2" | "deepseek-r1-qwen") => Self::Qwen2,
            Some(_) => return None,
        })
    }

    fn to_json(self) -> Value {
        let byte_level = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
        let first = match self {
            Self::Gpt2 => return byte_level(true),
            Self::SmolLm => json!({"type": "Digits", "individual_digits": true}),
            Self::Llama3 | Self::Qwen2 => {
                let pattern = if self == Self::Llama3 { LLAMA3_PATTERN } else { QWEN2_PATTERN };
                json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
            }
        };
        json!({"type": "Sequence", "pretokenizers": [first, byte_level(self == Self::SmolLm)]})
    }
}

impl<'a> Vocabulary<'a> {
    /// Tokenizer of the metadata.
    ///
    /// # Errors
    /// [`crate::contract::Error::Model`] for another kind of tokenizer or pre-tokenizer, and for lists that are
    /// missing or disagree.
    pub(super) fn read(parts: &GgufParts<'a>) -> Result<Self> {
        let file = parts.metadata();
        let remedy = "use a GGUF of a Llama with a byte-level BPE tokenizer, or its Hugging Face directory";
        match file.text("tokenizer.ggml.model") {
            Some("gpt2") => {}
            Some(other) => {
                return Err(
                    parts.error(format!("tokenizer {other} is not read, only byte-level BPE (gpt2)"), remedy)
                );
            }
            None => return Err(parts.error("tokenizer.ggml.model is missing", "fetch the file again")),
        }
        if file.flag("tokenizer.ggml.add_space_prefix") == Some(true) {
            return Err(parts.error("tokenizer.ggml.add_space_prefix is not done", remedy));
        }
        let name = file.text("tokenizer.ggml.pre");
        let pre_tokenizer = PreTokenizer::from_ggml(name).ok_or_else(|| {
            parts.error(format!("pre-tokenizer {} is not read", name.unwrap_or_default()), remedy)
        })?;
        let list = |key: &str| match file.array(key) {
            Some(array) if !array.is_empty() && array.texts().count() == array.len() => Ok(array),
            Some(array) => Err(parts.error(
                format!("{key} holds {} entries, {} of them texts", array.len(), array.texts().count()),
                "fetch the file again",
            )),
            None => Err(parts.error(format!("{key} is missing"), "fetch the file again")),
        };
        let (tokens, merges) = (list("tokenizer.ggml.tokens")?, list("tokenizer.ggml.merges")?);
        if let Some(merge) = merges.texts().find(|merge| !merge.contains(' ')) {
            return Err(parts.error(format!("merge {merge:?} has no blank in it"), "fetch the file again"));
        }
        let kinds = file.array("tokenizer.ggml.token_type");
        if let Some(kinds) = kinds.filter(|kinds| kinds.len() != tokens.len()) {
            return Err(parts.error(
                format!("{} tokens and {} token types", tokens.len(), kinds.len()),
                "fetch the file again",
            ));
        }
        let mut special = Vec::new();
        for (name, key) in [
            ("bos_token", "tokenizer.ggml.bos_token_id"),
            ("eos_token", "tokenizer.ggml.eos_token_id"),
            ("unk_token", "tokenizer.ggml.unknown_token_id"),
            ("pad_token", "tokenizer.ggml.padding_token_id"),
        ] {
            let id = file.integer(key).filter(|id| *id != u32::MAX as usize);
            match id.map(|id| (id, tokens.texts().nth(id))) {
                Some((id, Some(text))) => special.push((name, id, text)),
                Some((id, None)) => {
                    return Err(parts.error(
                        format!("{key} = {id} is outside of {} tokens", tokens.len()),
                        "fetch the file again",
                    ));
                }
                None => {}
            }
        }
        let named = file.keys().filter_map(|key| {
            let name = key.strip_prefix("tokenizer.chat_template")?;
            let name = if name.is_empty() { "default" } else { name.strip_prefix('.')? };
            Some((name.to_owned(), file.text(key)?))
        });
        Ok(Self {
            tokens,
            merges,
            kinds,
            pre_tokenizer,
            special,
            // llama.cpp adds it for Llama 3's pre-tokenizer unless the file says otherwise.
            add_bos: file
                .flag("tokenizer.ggml.add_bos_token")
                .or((pre_tokenizer == PreTokenizer::Llama3).then_some(true)),
            add_eos: file.flag("tokenizer.ggml.add_eos_token"),
            templates: named.collect(),
        })
    }

    /// `tokenizer_config.json`: special tokens, what stands at the ends of a text, chat templates.
    pub(super) fn settings(&self) -> Value {
        let mut settings = Map::new();
        for (name, _, text) in &self.special {
            settings.insert((*name).to_owned(), (*text).into());
        }
        for (key, flag) in [("add_bos_token", self.add_bos), ("add_eos_token", self.add_eos)] {
            if let Some(flag) = flag {
                settings.insert(key.to_owned(), flag.into());
            }
        }
        let template = match self.templates.as_slice() {
            [] => None,
            [(name, text)] if name == "default" => Some(json!(text)),
            several => {
                Some(several.iter().map(|(name, text)| json!({"name": name, "template": text})).collect())
            }
        };
        settings.extend(template.map(|template| ("chat_template".to_owned(), template)));
        settings.into()
    }

    /// What puts the tokens at the ends of a text, where the file asks for them.
    fn post_processor(&self) -> Option<Value> {
        let find = |wanted: &str, is_asked: Option<bool>| {
            let token = self.special.iter().find(|(name, ..)| *name == wanted);
            token.filter(|_| is_asked == Some(true))
        };
        let (bos, eos) = (find("bos_token", self.add_bos), find("eos_token", self.add_eos));
        let token = |(_, _, text): &(_, usize, &str)| json!({"SpecialToken": {"id": text, "type_id": 0}});
        let sequence = |name: &str| json!({"Sequence": {"id": name, "type_id": 0}});
        let around = |inner: Vec<Value>| -> Vec<Value> {
            bos.map(token).into_iter().chain(inner).chain(eos.map(token)).collect()
        };
        let tokens: Map<String, Value> = [bos, eos]
            .into_iter()
            .flatten()
            .map(|(_, id, text)| ((*text).to_owned(), json!({"id": text, "ids": [id], "tokens": [text]})))
            .collect();
        (!tokens.is_empty()).then(|| {
            json!({
                "type": "TemplateProcessing", "special_tokens": tokens, "single": around(vec![sequence("A")]),
                "pair": around(vec![sequence("A"), sequence("B")]),
            })
        })
    }
}

impl Serialize for Vocabulary<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let normalizer = (self.pre_tokenizer == PreTokenizer::Qwen2).then(|| json!({"type": "NFC"}));
        let mut file = serializer.serialize_struct("Tokenizer", 9)?;
        file.serialize_field("version", "1.0")?;
        file.serialize_field("truncation", &Value::Null)?;
        file.serialize_field("padding", &Value::Null)?;
        file.serialize_field("added_tokens", &AddedTokens(self))?;
        file.serialize_field("normalizer", &normalizer)?;
        file.serialize_field("pre_tokenizer", &self.pre_tokenizer.to_json())?;
        file.serialize_field("post_processor", &self.post_processor())?;
        file.serialize_field(
            "decoder",
            &json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
        )?;
        file.serialize_field("model", &Bpe(self))?;
        file.end()
    }
}

/// Tokens that are matched whole before any splitting.
struct AddedTokens<'a>(&'a Vocabulary<'a>);

impl Serialize for AddedTokens<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let kinds = self.0.kinds.into_iter().flat_map(|kinds| kinds.iter());
        let mut list = serializer.serialize_seq(None)?;
        for (id, (content, kind)) in self.0.tokens.texts().zip(kinds).enumerate() {
            if let GgufValue::Integer(kind @ (CONTROL | USER_DEFINED)) = kind {
                list.serialize_element(&json!({
                    "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": kind == CONTROL,
                }))?;
            }
        }
        list.end()
    }
}

/// The model: vocabulary and merges, one after the other.
struct Bpe<'a>(&'a Vocabulary<'a>);

impl Serialize for Bpe<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut model = serializer.serialize_map(None)?;
        model.serialize_entry("type", "BPE")?;
        for key in ["dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"] {
            model.serialize_entry(key, &Value::Null)?;
        }
        model.serialize_entry("fuse_unk", &false)?;
        model.serialize_entry("byte_fallback", &false)?;
        model.serialize_entry("ignore_merges", &(self.0.pre_tokenizer == PreTokenizer::Llama3))?;
        model.serialize_entry("vocab", &Ids(self.0.tokens))?;
        model.serialize_entry("merges", &Pairs(self.0.merges))?;
        model.end()
    }
}

/// Token to id.
struct Ids<'a>(GgufArray<'a>);

impl Serialize for Ids<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.texts().enumerate().map(|(id, token)| (token, id)))
    }
}

/// Merges as pairs.
struct Pairs<'a>(GgufArray<'a>);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.texts().filter_map(|merge| merge.split_once(' ')))
    }
}
