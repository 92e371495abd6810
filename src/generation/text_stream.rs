//! Text that grows token by token.
//!
//! A token may end inside a character: byte-level tokenizers cut UTF-8 anywhere, and what is decoded so far then ends
//! in U+FFFD until the next token completes it. Such an end is held back, so that what was given out never changes.

use crate::contract::Result;
use crate::model::tokenizer::Tokenizer;

/// What a tokenizer writes for bytes that are not UTF-8 (yet).
const REPLACEMENT: char = '\u{FFFD}';

/// Remembers what was given out.
#[derive(Clone, Debug, Default)]
pub struct TextStream {
    given: String,
}

impl TextStream {
    /// All that was given out.
    #[must_use]
    pub fn given(&self) -> &str {
        &self.given
    }

    /// What `tokens`, all new tokens so far, add to the text given out; with `finished` also an end that no token
    /// completed.
    ///
    /// # Errors
    /// [`crate::Error::Format`] when the tokenizer cannot decode the tokens ([`Tokenizer::decode`]).
    pub fn advance(&mut self, tokenizer: &Tokenizer, tokens: &[u32], finished: bool) -> Result<String> {
        Ok(self.advance_to(&tokenizer.decode(tokens)?, finished))
    }

    fn advance_to(&mut self, decoded: &str, finished: bool) -> String {
        let complete = if finished { decoded } else { decoded.trim_end_matches(REPLACEMENT) };
        // A tokenizer that changes its mind about earlier text cannot take it back: give what follows the common part.
        let common: usize = self
            .given
            .chars()
            .zip(complete.chars())
            .take_while(|(given, now)| given == now)
            .map(|(given, _)| given.len_utf8())
            .sum();
        let new = complete.get(common..).unwrap_or_default().to_owned();
        if common == self.given.len() || !new.is_empty() {
            complete.clone_into(&mut self.given);
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(states: &[&str]) -> Vec<String> {
        let mut text = TextStream::default();
        let last = states.len() - 1;
        states.iter().enumerate().map(|(index, state)| text.advance_to(state, index == last)).collect()
    }

    #[test]
    fn a_character_that_is_split_over_tokens_comes_once_it_is_whole() {
        assert_eq!(
            stream(&["ab", "ab\u{FFFD}", "ab\u{FFFD}\u{FFFD}", "ab€", "ab€!"]),
            ["ab", "", "", "€", "!"]
        );
    }

    #[test]
    fn what_is_never_completed_comes_at_the_end() {
        assert_eq!(stream(&["ab", "ab\u{FFFD}"]), ["ab", "\u{FFFD}"]);
        assert_eq!(stream(&["a\u{FFFD}", "a\u{FFFD}b", "a\u{FFFD}b"]), ["a", "\u{FFFD}b", ""]);
    }

    #[test]
    fn text_given_out_is_not_given_again() {
        assert_eq!(stream(&["hello", "hello ,", "hello, world"]), ["hello", " ,", ", world"]);
        assert_eq!(stream(&["hello ", "hello"]), ["hello ", ""]);
    }
}
