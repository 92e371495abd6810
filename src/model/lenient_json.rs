//! JSON as model files hold it, with the name of the file in every error.
//!
//! Python writes bare `Infinity`, `-Infinity` and `NaN`, writes counts as `64.0`, and writes `false`, `[]` or `{}`
//! where nothing is meant. Files of this kind are read; a value that is used and is none of a number's, a flag's or a
//! text's spellings is an error that names the key and what stands there.

use serde_json::{Map, Value};

use crate::contract::{Error, Result};

/// Marks a bare `Infinity` or `NaN` after it became a JSON string; no text of a file can begin with it unseen, because
/// a string that does is refused wherever a number is wanted as well.
const NOT_FINITE: &str = "\u{0}not a JSON number: ";

/// The outermost object of a file, read key by key.
#[derive(Clone, Debug)]
pub struct JsonObject {
    entries: Map<String, Value>,
    path: String,
    /// Where the object stands, e.g. `rope_scaling.`; empty for the outermost one.
    within: String,
}

impl JsonObject {
    /// Object in `bytes`; `path` names the file in errors.
    ///
    /// A byte order mark is dropped, bare `Infinity`, `-Infinity` and `NaN` are kept as values that no reader of
    /// numbers accepts.
    ///
    /// # Errors
    /// [`Error::Model`] with line and column when the bytes are not JSON, or with the kind of value that stands there
    /// instead of an object.
    pub fn parse(bytes: &[u8], path: &str) -> Result<Self> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let parsed = serde_json::from_slice(bytes).or_else(|error| {
            std::str::from_utf8(bytes)
                .ok()
                .and_then(quote_non_finite)
                .map_or(Err(error), |text| serde_json::from_str(&text))
        });
        let error = |why: String, remedy: &str| Error::Model {
            path: path.to_owned(),
            why,
            remedy: remedy.to_owned(),
        };
        match parsed {
            Ok(Value::Object(entries)) => Ok(Self { entries, path: path.to_owned(), within: String::new() }),
            Ok(other) => Err(error(
                format!("holds {} where a JSON object is wanted", kind(&other)),
                "use the file that belongs to the model",
            )),
            Err(_) if is_git_lfs_pointer(bytes) => {
                Err(error("this is a git-lfs pointer, not the file".to_owned(), "run `git lfs pull` there"))
            }
            Err(source) if source.is_eof() => {
                Err(error(format!("not JSON, cut off ({source})"), "fetch the file again"))
            }
            Err(source) => Err(error(format!("not JSON ({source})"), "correct it there")),
        }
    }

    /// Names of all keys, in the order of their bytes.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Value of a key; absent, `null` and `false` are `None`.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.entries.get(key).filter(|value| !matches!(value, Value::Null | Value::Bool(false)))
    }

    /// Value of a key as it stands, `null` and `false` included.
    pub fn raw(&self, key: &str) -> Option<&Value> {
        self.entries.get(key)
    }

    /// Object under a key; `null`, `false`, `[]` and `{}` count as absent.
    ///
    /// # Errors
    /// [`Error::Model`] when something else than an object stands there.
    pub fn object(&self, key: &str) -> Result<Option<Self>> {
        match self.value(key) {
            None => Ok(None),
            Some(value) if is_empty(value) => Ok(None),
            Some(Value::Object(entries)) => Ok(Some(Self {
                entries: entries.clone(),
                path: self.path.clone(),
                within: format!("{}{key}.", self.within),
            })),
            Some(other) => Err(self.unexpected(key, other, "an object")),
        }
    }

    /// Number of a key: JSON's, or a text that is one (`"1e-05"`).
    ///
    /// # Errors
    /// [`Error::Model`] when no finite number stands there.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let number = match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        match number {
            Some(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(self.unexpected(key, value, "a finite number")),
        }
    }

    /// Count of a key; `64.0` counts as 64.
    ///
    /// # Errors
    /// [`Error::Model`] when no whole number from 0 to 2^53 stands there.
    pub fn count(&self, key: &str) -> Result<Option<usize>> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => match whole(value).and_then(|number| usize::try_from(number).ok()) {
                Some(count) => Ok(Some(count)),
                None => Err(self.unexpected(key, value, "a whole number")),
            },
        }
    }

    /// Flag of a key; `None` when absent or `null`.
    ///
    /// # Errors
    /// [`Error::Model`] when neither `true` nor `false` stands there.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.entries.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(self.unexpected(key, other, "true or false")),
        }
    }

    /// Text of a key.
    ///
    /// # Errors
    /// [`Error::Model`] when something else than a text stands there.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.unexpected(key, other, "a text")),
        }
    }

    /// Token ids of a key: one number or a list; −1 means none, as tools write it.
    ///
    /// # Errors
    /// [`Error::Model`] naming the entry that is no token id.
    pub fn token_ids(&self, key: &str) -> Result<Vec<u32>> {
        let values = match self.value(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(values)) => values.as_slice(),
            Some(value) => std::slice::from_ref(value),
        };
        let mut tokens = Vec::new();
        for value in values {
            match whole(value) {
                Some(-1) => {}
                number => match number.and_then(|number| u32::try_from(number).ok()) {
                    Some(token) if !tokens.contains(&token) => tokens.push(token),
                    Some(_) => {}
                    None => return Err(self.unexpected(key, value, "a token id")),
                },
            }
        }
        Ok(tokens)
    }

    /// An error about the file.
    pub fn error(&self, why: impl Into<String>, remedy: &str) -> Error {
        Error::Model { path: self.path.clone(), why: why.into(), remedy: remedy.to_owned() }
    }

    fn unexpected(&self, key: &str, found: &Value, wanted: &str) -> Error {
        let found = match found.as_str().and_then(|text| text.strip_prefix(NOT_FINITE)) {
            Some(number) => number.to_owned(),
            None => shortened(&found.to_string()),
        };
        self.error(
            format!("{}{key} is {found} where {wanted} is wanted", self.within),
            "correct it there, or write null if it is not meant",
        )
    }
}

/// Nothing but an empty container.
pub fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        _ => false,
    }
}

/// The file that git-lfs leaves in place of a large one it did not fetch.
pub fn is_git_lfs_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(b"version https://git-lfs.github.com/spec/")
}

fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| {
            number
                .as_f64()
                .filter(|value| value.fract() == 0.0 && value.abs() <= 2f64.powi(53))
                .map(|v| v as i64)
        }),
        _ => None,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a flag",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// At most 80 characters, for messages.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Bare `Infinity`, `-Infinity` and `NaN` outside of strings become marked strings; `None` when there are none.
fn quote_non_finite(text: &str) -> Option<String> {
    let mut quoted = String::with_capacity(text.len());
    let (mut rest, mut in_string, mut found) = (text, false, false);
    while let Some(character) = rest.chars().next() {
        let bare =
            ["-Infinity", "Infinity", "NaN"].iter().find(|word| !in_string && rest.starts_with(**word));
        if let Some(word) = bare {
            quoted.extend(["\"\\u0000not a JSON number: ", word, "\""]);
            rest = rest.get(word.len()..)?;
            found = true;
            continue;
        }
        let width = match character {
            '\\' if in_string => 1 + rest.chars().nth(1).map_or(0, char::len_utf8),
            _ => character.len_utf8(),
        };
        in_string ^= character == '"';
        quoted.push_str(rest.get(..width)?);
        rest = rest.get(width..)?;
    }
    found.then_some(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> JsonObject {
        JsonObject::parse(text.as_bytes(), "config.json").unwrap()
    }

    #[test]
    fn bare_infinities_are_kept_and_refused_only_where_a_number_is_used() {
        let json = object(r#"{"a":[0.0, Infinity, -Infinity],"b":NaN,"c":"NaN \" Infinity","d":4}"#);
        assert_eq!(json.count("d").unwrap(), Some(4));
        assert_eq!(json.text("c").unwrap(), Some("NaN \" Infinity"));
        let message = json.number("b").unwrap_err().to_string();
        assert!(message.contains("b is NaN where a finite number is wanted"), "{message}");
    }

    #[test]
    fn numbers_are_read_in_every_spelling_that_means_them() {
        let json =
            object(r#"{"a":64.0,"b":"1e-05","c":false,"d":null,"e":[],"f":3.5,"g":-1,"h":[1.0,7,7,-1]}"#);
        assert_eq!(json.count("a").unwrap(), Some(64));
        assert_eq!(json.number("b").unwrap(), Some(1e-5));
        assert_eq!((json.count("c").unwrap(), json.count("d").unwrap()), (None, None));
        assert!(json.object("e").unwrap().is_none() && json.object("c").unwrap().is_none());
        assert!(json.count("f").unwrap_err().to_string().contains("f is 3.5"));
        assert!(json.token_ids("g").unwrap().is_empty());
        assert_eq!(json.token_ids("h").unwrap(), [1, 7]);
    }

    #[test]
    fn what_is_no_object_says_what_it_is() {
        for (text, word) in [
            ("[1]", "a list"),
            ("version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
            ("{\"a\":", "cut off"),
            ("{\"a\" 1}", "line 1 column 6"),
        ] {
            let message = JsonObject::parse(text.as_bytes(), "x.json").unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }
}
