//! Text of an answer while its tokens arrive.

use crate::contract::Result;

use crate::model::tokenizer::Tokenizer;

/// Tokens of an answer become text piece by piece; a piece that was given is never given again.
///
/// Text that ends in an incomplete character (a character of several byte tokens) is held back until it is complete.
/// What is given is what stands behind the prompt when prompt and answer are decoded together, so that a blank that the
/// tokenizer keeps in the first token of the answer is there.
///
/// ```text
/// let mut stream = TextStream::new(&tokenizer, &prompt);
/// for token in answer {
///     print!("{}", stream.push(token)?);
/// }
/// println!("{}", stream.finish()?);
/// ```
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    /// Tokens still needed as context, and those not given yet.
    window: Vec<u32>,
    /// Tokens of the window whose text was given (or belongs to the prompt).
    given: usize,
}

/// What a decoder writes for bytes that are no character, or not one yet.
const REPLACEMENT: char = '\u{FFFD}';

impl<'a> TextStream<'a> {
    /// A stream behind the tokens `before`: prompt, and answer so far if it was shown already.
    pub fn new(tokenizer: &'a Tokenizer, before: &[u32]) -> Self {
        Self { tokenizer, window: before.to_vec(), given: before.len() }
    }

    /// Takes the next token; returns the text that became complete, often empty.
    ///
    /// # Errors
    /// [`crate::contract::Error::Format`] when the tokenizer cannot decode.
    pub fn push(&mut self, token: u32) -> Result<String> {
        self.window.push(token);
        let (text, shown) = self.text()?;
        if text.ends_with(REPLACEMENT) || text.len() <= shown {
            return Ok(String::new());
        }
        let piece = text.get(shown..).unwrap_or_default().to_owned();
        // What was given last is context enough: a decoder looks one token back at most, or to the start of its bytes.
        self.window.drain(..self.given);
        self.given = self.window.len();
        Ok(piece)
    }

    /// The text held back, at the end of the answer: complete or not.
    ///
    /// # Errors
    /// [`crate::contract::Error::Format`] when the tokenizer cannot decode.
    pub fn finish(&mut self) -> Result<String> {
        let (text, shown) = self.text()?;
        self.given = self.window.len();
        Ok(text.get(shown..).unwrap_or_default().to_owned())
    }

    /// Text of the window, and how many of its bytes were given.
    fn text(&self) -> Result<(String, usize)> {
        let before = self.tokenizer.decode(self.window.get(..self.given).unwrap_or_default())?;
        let text = self.tokenizer.decode(&self.window)?;
        // Equal to all of `before`, but where bytes never became a character and spoil those beside them.
        let common = before.chars().zip(text.chars()).take_while(|(left, right)| left == right);
        let shown = common.map(|(character, _)| character.len_utf8()).sum();
        Ok((text, shown))
    }
}
