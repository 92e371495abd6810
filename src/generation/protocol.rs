//! What goes between the two parties: encrypted tokens one way, an encrypted answer the other way, as bytes in the
//! versioned container of [`crate::ckks::container`].
//!
//! Each message carries the fingerprint of the set-up it was made under, so that parties that do not agree on model,
//! plan and parameters find out at the first one; the ciphertexts inside carry that of their scheme. Nothing here is
//! secret, and nothing is decrypted.

use crate::ckks::container::{Fingerprint, Kind, read_container, write_container};
use crate::ckks::fields::FieldReader;
use crate::contract::{Error, Evaluator, Result};
use crate::decoder::head::Answer;

/// Most tokens of one message: more than any packing fits.
const MAX_TOKENS: usize = 1 << 16;
/// Longest sequence: more than any model has.
const MAX_POSITION: usize = 1 << 24;
/// Most ciphertexts of an answer: logits of a vocabulary of 2^24 in the smallest ring have no more.
const MAX_CIPHERTEXTS: usize = 1 << 14;

/// The fingerprint of parties that were put together by hand, without a set-up.
pub(crate) fn without_setup() -> Fingerprint {
    Fingerprint::of(b"parties without a set-up")
}

/// Client to server: consecutive tokens of a text in one ciphertext.
#[derive(Clone, Debug)]
pub struct EncryptedTokens<C> {
    /// Embeddings of the tokens, scaled and packed side by side.
    pub ciphertext: C,
    /// How many.
    pub tokens: usize,
    /// Tokens of the text before them: what the server's caches must hold.
    pub position: usize,
    /// Whether the client wants to know what comes next. Without it the server only caches the tokens.
    pub wants_answer: bool,
}

/// Server to client: what came of [`EncryptedTokens`].
#[derive(Clone, Debug)]
pub struct EncryptedAnswer<C> {
    /// Tokens that the server's caches hold now.
    pub position: usize,
    /// The hidden state or the logits behind the last token, where they were asked for.
    pub answer: Option<Answer<C>>,
}

impl<C> EncryptedTokens<C> {
    /// The message as bytes under the set-up called `setup`.
    ///
    /// # Errors
    /// [`Error::Foreign`] when a library behind the backend fails ([`Evaluator::ciphertext_to_bytes`]).
    pub fn to_bytes<E: Evaluator<Ciphertext = C>>(
        &self,
        evaluator: &E,
        setup: Fingerprint,
    ) -> Result<Vec<u8>> {
        let mut head = Vec::with_capacity(24);
        for word in [self.tokens as u64, self.position as u64, u64::from(self.wants_answer)] {
            head.extend_from_slice(&word.to_le_bytes());
        }
        let ciphertext = evaluator.ciphertext_to_bytes(&self.ciphertext)?;
        write_container(Kind::EncryptedTokens, setup, &[&head, &ciphertext])
    }

    /// Reads what [`EncryptedTokens::to_bytes`] wrote under the set-up called `setup`. Allocates for the ciphertext
    /// only, whose size the parameters say.
    ///
    /// # Errors
    /// [`Error::Format`] for anything else, [`Error::ParameterMismatch`] for a message of another set-up or scheme.
    pub fn from_bytes<E: Evaluator<Ciphertext = C>>(
        evaluator: &E,
        setup: Fingerprint,
        bytes: &[u8],
    ) -> Result<Self> {
        const WHAT: &str = "encrypted tokens";
        let sections = read_container(bytes, Kind::EncryptedTokens, setup)?;
        let [head, ciphertext] = sections.as_slice() else {
            return Err(bad(WHAT, format!("{} sections, expected 2", sections.len())));
        };
        let mut head = FieldReader::new(WHAT, head);
        let tokens = head.count("tokens", MAX_TOKENS)?;
        let position = head.count("position", MAX_POSITION)?;
        let wants_answer = head.count("wish for an answer", 1)? == 1;
        head.finish()?;
        let ciphertext = evaluator.ciphertext_from_bytes(ciphertext)?;
        Ok(Self { ciphertext, tokens, position, wants_answer })
    }
}

/// What an answer has in it.
const NOTHING: usize = 0;
const HIDDEN: usize = 1;
const LOGITS: usize = 2;

impl<C> EncryptedAnswer<C> {
    /// The message as bytes under the set-up called `setup`.
    ///
    /// # Errors
    /// [`Error::Foreign`] when a library behind the backend fails ([`Evaluator::ciphertext_to_bytes`]).
    pub fn to_bytes<E: Evaluator<Ciphertext = C>>(
        &self,
        evaluator: &E,
        setup: Fingerprint,
    ) -> Result<Vec<u8>> {
        let (kind, ciphertexts) = match &self.answer {
            None => (NOTHING, &[][..]),
            Some(Answer::Hidden(hidden)) => (HIDDEN, std::slice::from_ref(hidden)),
            Some(Answer::Logits(logits)) => (LOGITS, logits.as_slice()),
        };
        let mut sections = vec![[(self.position as u64).to_le_bytes(), (kind as u64).to_le_bytes()].concat()];
        for ciphertext in ciphertexts {
            sections.push(evaluator.ciphertext_to_bytes(ciphertext)?);
        }
        let sections: Vec<&[u8]> = sections.iter().map(Vec::as_slice).collect();
        write_container(Kind::EncryptedAnswer, setup, &sections)
    }

    /// Reads what [`EncryptedAnswer::to_bytes`] wrote under the set-up called `setup`. Allocates for the ciphertexts
    /// only, whose size the parameters say.
    ///
    /// # Errors
    /// [`Error::Format`] for anything else, [`Error::ParameterMismatch`] for a message of another set-up or scheme.
    pub fn from_bytes<E: Evaluator<Ciphertext = C>>(
        evaluator: &E,
        setup: Fingerprint,
        bytes: &[u8],
    ) -> Result<Self> {
        const WHAT: &str = "encrypted answer";
        let sections = read_container(bytes, Kind::EncryptedAnswer, setup)?;
        let Some((head, ciphertexts)) = sections.split_first() else {
            return Err(bad(WHAT, "no section".to_owned()));
        };
        let mut head = FieldReader::new(WHAT, head);
        let position = head.count("position", MAX_POSITION)?;
        let kind = head.count("kind of answer", LOGITS)?;
        head.finish()?;
        if ciphertexts.len() > MAX_CIPHERTEXTS {
            return Err(bad(WHAT, format!("{} ciphertexts, at most {MAX_CIPHERTEXTS}", ciphertexts.len())));
        }
        let answer = match (kind, ciphertexts) {
            (NOTHING, []) => None,
            (HIDDEN, [hidden]) => Some(Answer::Hidden(evaluator.ciphertext_from_bytes(hidden)?)),
            (LOGITS, logits) => {
                let read = |bytes: &&[u8]| evaluator.ciphertext_from_bytes(bytes);
                Some(Answer::Logits(logits.iter().map(read).collect::<Result<_>>()?))
            }
            _ => return Err(bad(WHAT, format!("{} ciphertexts for kind {kind}", ciphertexts.len()))),
        };
        Ok(Self { position, answer })
    }
}

fn bad(what: &str, why: String) -> Error {
    Error::Format { what: what.to_owned(), why, remedy: "send it again".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::clear::{ClearClient, ClearParameters};
    use crate::contract::{Client, Complex64, KeyRequest, Level};

    fn parties() -> (ClearClient, <ClearClient as Client>::Evaluator) {
        let client = ClearClient::new(ClearParameters::new(8, 3, 40).unwrap());
        let evaluator = client.evaluator(&KeyRequest::new()).unwrap();
        (client, evaluator)
    }

    #[test]
    fn messages_survive_the_wire_and_those_of_another_set_up_are_refused() {
        let (client, evaluator) = parties();
        let ciphertext = client.encrypt(&[Complex64::new(0.5, -0.25)], Level(2)).unwrap();
        let sent = EncryptedTokens { ciphertext, tokens: 3, position: 7, wants_answer: true };
        let (ours, theirs) = (Fingerprint::of(b"ours"), Fingerprint::of(b"theirs"));
        let bytes = sent.to_bytes(&evaluator, ours).unwrap();
        let got = EncryptedTokens::from_bytes(&evaluator, ours, &bytes).unwrap();
        assert_eq!((got.tokens, got.position, got.wants_answer), (3, 7, true));
        assert_eq!(client.decrypt(&got.ciphertext).unwrap(), client.decrypt(&sent.ciphertext).unwrap());
        let error = EncryptedTokens::from_bytes(&evaluator, theirs, &bytes).err().unwrap();
        assert!(matches!(error, Error::ParameterMismatch { .. }), "{error}");
        // An answer is no question.
        assert!(EncryptedAnswer::from_bytes(&evaluator, ours, &bytes).is_err());

        for answer in [
            None,
            Some(Answer::Hidden(sent.ciphertext.clone())),
            Some(Answer::Logits(vec![sent.ciphertext.clone(), sent.ciphertext])),
        ] {
            let sent = EncryptedAnswer { position: 10, answer };
            let bytes = sent.to_bytes(&evaluator, ours).unwrap();
            let got = EncryptedAnswer::from_bytes(&evaluator, ours, &bytes).unwrap();
            let ciphertexts = |answer: &Option<Answer<_>>| match answer {
                None => 0,
                Some(Answer::Hidden(_)) => 1,
                Some(Answer::Logits(logits)) => 10 + logits.len(),
            };
            assert_eq!((got.position, ciphertexts(&got.answer)), (10, ciphertexts(&sent.answer)));
            for length in (0..bytes.len()).step_by(7) {
                assert!(EncryptedAnswer::from_bytes(&evaluator, ours, &bytes[..length]).is_err());
            }
        }
    }

    #[test]
    fn forged_numbers_are_refused() {
        let (client, evaluator) = parties();
        let setup = without_setup();
        let ciphertext =
            evaluator.ciphertext_to_bytes(&client.encrypt(&[Complex64::ONE], Level(0)).unwrap()).unwrap();
        let head = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        for words in [&[u64::MAX, 0, 0][..], &[1, u64::MAX, 0], &[1, 0, 2], &[1, 0]] {
            let forged = write_container(Kind::EncryptedTokens, setup, &[&head(words), &ciphertext]).unwrap();
            assert!(EncryptedTokens::from_bytes(&evaluator, setup, &forged).is_err(), "{words:?}");
        }
        for (words, count) in [([0, 0], 1), ([0, 1], 0), ([0, 1], 2), ([0, 3], 1), ([u64::MAX, 0], 0)] {
            let head = head(&words);
            let mut sections = vec![head.as_slice()];
            sections.extend(vec![ciphertext.as_slice(); count]);
            let forged = write_container(Kind::EncryptedAnswer, setup, &sections).unwrap();
            assert!(EncryptedAnswer::from_bytes(&evaluator, setup, &forged).is_err(), "{words:?}");
        }
    }
}
