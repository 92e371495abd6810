//! Texts to calibrate and to compare on.
//!
//! The built-in set has verse for models without a chat template (Shakespeare, public domain) and questions written for
//! this project for models with one. Its three parts never mix: calibration, held-out (which may widen intervals), and
//! evaluation (which calibration never sees). A file of one's own holds texts separated by lines of three dashes.

use std::path::Path;

use crate::contract::{Error, Result};

use crate::model::files::read_bounded;

const MAX_TEXT_BYTES: u64 = 64 << 20;

/// Which part of the built-in set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextPart {
    /// Intervals come from these.
    Calibration,
    /// Intervals are checked on these and widened where they must be.
    HeldOut,
    /// Fidelity is measured on these.
    Evaluation,
}

/// The built-in texts of a part, for a model with or without a chat template.
pub fn built_in(part: TextPart, is_chat: bool) -> Vec<String> {
    split(match (part, is_chat) {
        (TextPart::Calibration, false) => include_str!("texts/verse_calibration.txt"),
        (TextPart::HeldOut, false) => include_str!("texts/verse_held_out.txt"),
        (TextPart::Evaluation, false) => include_str!("texts/verse_evaluation.txt"),
        (TextPart::Calibration, true) => include_str!("texts/chat_calibration.txt"),
        (TextPart::HeldOut, true) => include_str!("texts/chat_held_out.txt"),
        (TextPart::Evaluation, true) => include_str!("texts/chat_evaluation.txt"),
    })
}

/// Texts of a file, separated by lines of three dashes (blanks around them do not count).
///
/// A byte order mark is dropped, and lines that end in CR LF end in LF; blank lines around a text do not belong to it.
///
/// # Errors
/// [`Error::Io`] when it cannot be read, [`Error::Format`] when it is not UTF-8 or holds no text.
pub fn read_texts(path: &Path) -> Result<Vec<String>> {
    let bad = |why: &str| Error::Format {
        what: path.display().to_string(),
        why: why.to_owned(),
        remedy: "write UTF-8 texts separated by lines of three dashes".to_owned(),
    };
    let bytes = read_bounded(path, MAX_TEXT_BYTES)?;
    let texts = split(std::str::from_utf8(&bytes).map_err(|_| bad("not UTF-8"))?);
    if texts.is_empty() { Err(bad("no text in it")) } else { Ok(texts) }
}

fn split(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let (mut texts, mut lines) = (Vec::new(), Vec::new());
    for line in text.lines().chain(["---"]) {
        if line.trim() != "---" {
            lines.push(line);
            continue;
        }
        let text = lines.join("\n");
        lines.clear();
        // A text of blanks alone is none.
        if !text.trim().is_empty() {
            texts.push(text.trim_matches('\n').to_owned());
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_parts_share_no_text() {
        for is_chat in [false, true] {
            let mut all = Vec::new();
            for part in [TextPart::Calibration, TextPart::HeldOut, TextPart::Evaluation] {
                let texts = built_in(part, is_chat);
                assert!(texts.len() >= 5, "{part:?}: {} texts", texts.len());
                all.extend(texts);
            }
            let count = all.len();
            all.sort();
            all.dedup();
            assert_eq!(all.len(), count);
        }
    }

    #[test]
    fn dashes_separate_texts_and_empty_ones_vanish() {
        assert_eq!(split("a\nb\n---\n\n---\nc\n"), ["a\nb", "c"]);
        assert_eq!(split("---\na\n---"), ["a"]);
        assert!(split("---\n").is_empty() && split(" --- \n \n---").is_empty());
    }

    #[test]
    fn texts_of_other_systems_are_the_same_texts() {
        assert_eq!(split("A.\r\n---\r\nB.\r\nC.\r\n--- \r\nD.\r\n"), ["A.", "B.\nC.", "D."]);
        assert_eq!(split("\u{feff}A.\n---\nB."), ["A.", "B."]);
        assert_eq!(split("a --- b\n----\nc"), ["a --- b\n----\nc"]);
    }

    #[test]
    fn a_file_without_texts_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("texts.txt");
        for content in ["", "---\n", "\u{feff}", " \r\n---\r\n"] {
            std::fs::write(&path, content).unwrap();
            assert!(read_texts(&path).unwrap_err().to_string().contains("no text in it"), "{content:?}");
        }
        std::fs::write(&path, b"\xff").unwrap();
        assert!(read_texts(&path).unwrap_err().to_string().contains("not UTF-8"));
    }
}
