//! One text of a client: prompt in, tokens out, against a server that sees ciphertexts only.
//!
//! [`Chat::ask`] makes the next message for the server and [`Chat::receive`] takes its answer; [`Chat::next`] does
//! both with a server in the same process. The private prompt goes a wave of tokens at a time; all but its last token
//! stop as soon as the last layer has cached them.

use std::time::{Duration, Instant};

use crate::backend::native::NativeClient;
use crate::contract::{self, Error, Result};
use crate::decoder::Observer;
use crate::generation::client::{CiphertextOf, Client};
use crate::generation::protocol::{EncryptedAnswer, EncryptedTokens};
use crate::generation::sampling::Sampling;
use crate::generation::server::Server;
use crate::generation::text_stream::TextStream;
use crate::model::prepared::PreparedModel;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct GenerationRequest {
    /// Public tokens before the prompt; the server's caches hold them in the clear.
    pub prefix: Vec<u32>,
    /// Private prompt.
    pub prompt: Vec<u32>,
    /// New tokens at most.
    pub max_new_tokens: usize,
    /// How tokens are picked.
    pub sampling: Sampling,
    /// Tokens that end the text.
    pub eos: Vec<u32>,
}

impl GenerationRequest {
    /// A text that begins with `message`, in the chat template of `model` where it has one, with at most
    /// `max_new_tokens` new tokens.
    ///
    /// # Errors
    /// Errors of the tokenizer and of the chat template.
    pub fn new(
        model: &PreparedModel,
        message: &str,
        max_new_tokens: usize,
        sampling: Sampling,
    ) -> Result<Self> {
        Ok(Self {
            prefix: model.frame.prefix.clone(),
            prompt: model.frame.message(&model.tokenizer, message)?,
            max_new_tokens,
            sampling,
            eos: model.model.config().eos_token_ids.clone(),
        })
    }

    /// Tokens of the text when all new ones are there.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.prefix.len() + self.prompt.len() + self.max_new_tokens
    }

    /// That there is a prompt and something to generate within `context` tokens.
    ///
    /// # Errors
    /// [`Error::Shape`] naming what does not fit.
    pub fn check(&self, context: usize) -> Result<()> {
        self.sampling.check()?;
        if self.prompt.is_empty() || self.max_new_tokens == 0 || self.longest() > context {
            return Err(Error::Shape {
                operation: "generation",
                what: format!(
                    "a public prefix of {}, a prompt of {} and {} new tokens in a context of {context}",
                    self.prefix.len(),
                    self.prompt.len(),
                    self.max_new_tokens
                ),
                remedy: "shorten the prompt or ask for fewer tokens".to_owned(),
            });
        }
        Ok(())
    }
}

/// One new token.
#[derive(Clone, Debug)]
pub struct Token {
    /// Id of the token.
    pub id: u32,
    /// What it adds to the text: empty where it ends inside a character, more than itself where it completes one.
    pub text: String,
    /// Logits it was picked from, one per entry of the vocabulary. They carry CKKS noise: do not hand them on.
    pub logits: Vec<f32>,
    /// Wall time from the previous token (for the first: from the first message of the prompt).
    pub elapsed: Duration,
}

/// One text under way, on the client's side.
///
/// ```
/// # let model = cachemir::Model::bundled()?;
/// # let options = cachemir::SetupOptions::new(cachemir::Preset::Test).backend(cachemir::Backend::Clear).context(8);
/// # let setup = options.build(&model)?;
/// # let client = cachemir::Client::with_secret(&setup, setup.scheme().simulator());
/// # let mut server = cachemir::Server::new(&setup, client.keys()?)?;
/// let mut chat = cachemir::Chat::new(&client, "ROMEO:", cachemir::Sampling::greedy())?;
/// let token = chat.next(&mut server)?.expect("the context has room for one");
/// assert_eq!(chat.generated(), [token.id]);
/// # Ok::<(), cachemir::Error>(())
/// ```
pub struct Chat<'c, K: contract::Client = NativeClient> {
    client: &'c Client<K>,
    request: GenerationRequest,
    generated: Vec<u32>,
    /// Tokens that the server's caches hold.
    held: usize,
    finished: bool,
    text: TextStream,
    /// When the message for the token under way was first asked for.
    asked: Option<Instant>,
}

impl<'c, K: contract::Client> Chat<'c, K> {
    /// A text that begins with `message`, put into the model's chat template where it has one. It goes on to the end
    /// that the model gives it, or to the end of the client's context.
    ///
    /// # Errors
    /// [`Error::Shape`] for an empty message or one that leaves no room for an answer; those of the tokenizer and the
    /// template.
    pub fn new(client: &'c Client<K>, message: &str, sampling: Sampling) -> Result<Self> {
        let mut request = GenerationRequest::new(client.model(), message, 0, sampling)?;
        let longest = client.context().min(client.longest_text());
        request.max_new_tokens = longest.saturating_sub(request.longest());
        Self::of_request(client, request)
    }

    /// The text of `request`, whose prefix is the public prefix of the model.
    ///
    /// # Errors
    /// [`Error::Shape`] naming what does not fit ([`GenerationRequest::check`]).
    pub fn of_request(client: &'c Client<K>, request: GenerationRequest) -> Result<Self> {
        check(client, &request)?;
        let held = request.prefix.len();
        let (generated, text) = (Vec::new(), TextStream::default());
        Ok(Self { client, request, generated, held, finished: false, text, asked: None })
    }

    /// The text of `request` after `generated` new tokens, with a server that holds `held` tokens.
    ///
    /// # Errors
    /// [`Error::Plan`] when the server does not hold the public prefix, or holds more than the text before its last
    /// token; those of [`GenerationRequest::check`].
    pub fn resumed(
        client: &'c Client<K>,
        request: GenerationRequest,
        generated: Vec<u32>,
        held: usize,
    ) -> Result<Self> {
        let known = request.prefix.len() + request.prompt.len() + generated.len();
        if held >= known || held < request.prefix.len() {
            return Err(Error::Plan {
                why: format!("the caches hold {held} tokens, the text has {known}"),
                remedy: "resume with the checkpoint of this text".to_owned(),
            });
        }
        let mut this = Self::of_request(client, request)?;
        let model = client.model();
        this.finished = generated.len() >= this.request.max_new_tokens
            || generated.last().is_some_and(|token| this.request.eos.contains(token));
        this.text.advance(&model.tokenizer, &generated, this.finished)?;
        (this.generated, this.held) = (generated, held);
        Ok(this)
    }

    /// This text, ended after `tokens` new tokens at the latest.
    ///
    /// # Errors
    /// [`Error::Shape`] for no token, or more than the client's context has room for.
    pub fn max_new_tokens(mut self, tokens: usize) -> Result<Self> {
        self.request.max_new_tokens = tokens;
        check(self.client, &self.request)?;
        Ok(self)
    }

    /// What was asked for.
    pub fn request(&self) -> &GenerationRequest {
        &self.request
    }

    /// New tokens so far.
    pub fn generated(&self) -> &[u32] {
        &self.generated
    }

    /// Text of the new tokens as it was given out so far: less than all of it where the last character is not whole.
    pub fn text(&self) -> &str {
        self.text.given()
    }

    /// Whether no token is left to generate.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// The client whose text it is.
    pub fn client(&self) -> &'c Client<K> {
        self.client
    }

    /// Tokens that the server does not hold yet: those of the prompt at first, then the last new one.
    pub fn pending(&self) -> Vec<u32> {
        let GenerationRequest { prefix, prompt, .. } = &self.request;
        let known = prefix.iter().chain(prompt).chain(&self.generated);
        known.skip(self.held).copied().collect()
    }

    /// The next message for the server; `None` when the text is finished. Asking again before an answer gives the
    /// same tokens, encrypted afresh.
    ///
    /// # Errors
    /// [`Error::Shape`] for tokens that cannot be encrypted; errors of [`Client::encrypt_tokens`].
    pub fn ask(&mut self) -> Result<Option<EncryptedTokens<CiphertextOf<K>>>> {
        if self.finished {
            return Ok(None);
        }
        self.asked.get_or_insert_with(Instant::now);
        let pending = self.pending();
        let wave = pending.get(..self.client.wave().min(pending.len())).unwrap_or_default();
        Ok(Some(EncryptedTokens {
            ciphertext: self.client.encrypt_tokens(wave)?,
            tokens: wave.len(),
            position: self.held,
            wants_answer: wave.len() == pending.len(),
        }))
    }

    /// Takes the server's answer to the last message; the next token, when it was the last one of the prompt or a new
    /// one. On an error the text stays as it was, and the message can be sent again.
    ///
    /// # Errors
    /// [`Error::Shape`] for an answer to something else; those of [`Client::logits`] and [`Sampling::pick`].
    pub fn receive(&mut self, answer: &EncryptedAnswer<CiphertextOf<K>>) -> Result<Option<Token>> {
        let known = self.held + self.pending().len();
        if answer.position <= self.held
            || answer.position > known
            || (answer.position == known) != answer.answer.is_some()
        {
            let given = if answer.answer.is_some() { "an output" } else { "no output" };
            return Err(Error::Shape {
                operation: "chat",
                what: format!(
                    "{given} at position {}, {} of {known} tokens were there before",
                    answer.position, self.held
                ),
                remedy: "give it the server's answer to the message of its last `ask`".to_owned(),
            });
        }
        let Some(output) = &answer.answer else {
            self.held = answer.position;
            return Ok(None);
        };
        let logits = self.client.logits(output)?;
        let id = self.request.sampling.pick(&logits, known)?;
        self.held = answer.position;
        self.generated.push(id);
        self.finished = self.generated.len() >= self.request.max_new_tokens || self.request.eos.contains(&id);
        let text = self.text.advance(&self.client.model().tokenizer, &self.generated, self.finished)?;
        let elapsed = self.asked.take().map_or(Duration::ZERO, |asked| asked.elapsed());
        Ok(Some(Token { id, text, logits, elapsed }))
    }

    /// Feeds `server` every token it does not hold yet and picks the next one; `None` when the text is finished.
    ///
    /// # Errors
    /// Errors of [`Chat::ask`], [`Server::answer`] and [`Chat::receive`]; the text stays usable.
    pub fn next(&mut self, server: &mut Server<K::Evaluator>) -> Result<Option<Token>> {
        self.next_observed(server, &mut |_, _| {})
    }

    /// [`Chat::next`], which tells `observer` before and after each of the server's bootstraps where it stands.
    ///
    /// # Errors
    /// Errors of [`Chat::ask`], [`Server::answer`] and [`Chat::receive`]; the text stays usable.
    pub fn next_observed(
        &mut self,
        server: &mut Server<K::Evaluator>,
        observer: &mut Observer<'_, CiphertextOf<K>>,
    ) -> Result<Option<Token>> {
        while let Some(tokens) = self.ask()? {
            let answer = server.answer_observed(&tokens, observer)?;
            if let Some(token) = self.receive(&answer)? {
                return Ok(Some(token));
            }
        }
        Ok(None)
    }
}

/// That `request` fits the client's context, and the texts that the model was calibrated for.
fn check<K: contract::Client>(client: &Client<K>, request: &GenerationRequest) -> Result<()> {
    request.check(client.context())?;
    let (wanted, longest) = (request.longest(), client.longest_text());
    if wanted > longest {
        return Err(Error::Plan {
            why: format!("a text of {wanted} positions, the functions were calibrated for {longest}"),
            remedy: "calibrate on longer texts, or ask for fewer tokens".to_owned(),
        });
    }
    Ok(())
}
