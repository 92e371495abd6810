//! Two tokens of the tiny model on real ciphertexts, in the small ring that claims no security: bootstraps, encrypted
//! KV cache and all, against the exact f32 model. The server is made from the bytes of the keys, and what goes
//! between the parties is bytes; the second token comes again from a checkpoint after the first, with everything else
//! dropped and new keys.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests state what must hold; a failure to get there is a failure"
)]

use std::path::Path;

use cachemir::generation::checkpoint::{
    CHECKPOINT_FILE, CheckpointHeader, read_checkpoint, write_checkpoint,
};
use cachemir::model::block_functions::ExactFunctions;
use cachemir::setup::StoredSecret;
use cachemir::{Chat, Client, Model, Preset, Sampling, Server, Setup, SetupOptions, Token};

const TOKENS: usize = 2;
/// Largest difference of a logit that the encrypted run may show.
const LOGIT_ERROR: f32 = 0.05;

/// The next token, by bytes only.
fn next(chat: &mut Chat<'_>, server: &mut Server) -> Option<Token> {
    while let Some(tokens) = chat.ask().unwrap() {
        let question = chat.client().tokens_to_bytes(&tokens).unwrap();
        let answer = server.answer_bytes(&question).unwrap();
        // A question that comes twice is refused: the caches hold its tokens already.
        assert!(server.answer_bytes(&question).unwrap_err().to_string().contains("position"));
        if let Some(token) = chat.receive(&chat.client().answer_from_bytes(&answer).unwrap()).unwrap() {
            return Some(token);
        }
    }
    None
}

/// The server's half, out of the bytes of the client's keys.
fn server(setup: &Setup, client: &Client) -> Server {
    let mut keys = Vec::new();
    client.keys().unwrap().write_to(&mut keys).unwrap();
    Server::from_keys(setup, keys.as_slice()).unwrap()
}

fn secret(setup: &Setup, folder: &Path) -> StoredSecret {
    StoredSecret::open_or_create(setup, folder).unwrap()
}

#[test]
fn free_running_tokens_under_encryption_are_those_of_the_exact_model_also_after_an_interruption() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny-shakespeare-llama");
    let model = Model::open(directory).unwrap();
    let setup = SetupOptions::new(Preset::Test).context(2 + TOKENS).wave(1).build(&model).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let stored = secret(&setup, folder.path());
    let client = Client::with_stored_secret(&setup, &stored).unwrap();
    let mut chat = Chat::new(&client, "O", Sampling::greedy()).unwrap().max_new_tokens(TOKENS).unwrap();
    let request = chat.request().clone();
    let mut header = setup.checkpoint_header(&request, stored.fingerprint()).unwrap();
    let mut server_of_first = server(&setup, &client);

    let exact = &model.prepared().model;
    let (mut pending, mut cache) = (request.prompt.clone(), model.prepared().prefix_cache.clone());
    while let Some(step) = next(&mut chat, &mut server_of_first) {
        let hidden = exact.forward(&pending, &mut cache, &mut ExactFunctions).unwrap();
        let logits = exact.logits(&hidden);
        let exact = logits.row(logits.nrows() - 1).to_vec();
        let worst = exact.iter().zip(&step.logits).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
        println!("token {}: logits wrong by at most {worst}, {:.1?}", step.id, step.elapsed);
        assert!(worst <= LOGIT_ERROR, "logits wrong by {worst}");
        let mut sorted = exact.clone();
        sorted.sort_by(f32::total_cmp);
        let gap = sorted.iter().rev().take(2).fold(0.0, |gap, logit| logit - gap).abs();
        if gap > 2.0 * worst {
            assert_eq!(step.id, Sampling::greedy().pick(&exact, 0).unwrap(), "gap {gap}");
        }
        pending = vec![step.id];
        if header.generated.is_empty() {
            header.generated = chat.generated().to_vec();
            let server = &server_of_first;
            write_checkpoint(folder.path(), server.evaluator(), &header, server.state()).unwrap();
        }
    }
    assert_eq!(chat.generated().len(), TOKENS);
    assert_eq!(chat.text(), model.text(chat.generated()).unwrap());
    let uninterrupted = chat.generated().to_vec();
    drop((server_of_first, client, stored));

    refusals_before_any_key_is_made(&setup, folder.path(), &header);

    // What is left of the first run is the checkpoint and the secret key.
    let (saved, caches) = read_checkpoint(folder.path()).unwrap().unwrap();
    saved.require(&header).unwrap();
    assert_eq!(saved.generated, uninterrupted[..1]);
    let client = Client::with_stored_secret(&setup, &secret(&setup, folder.path())).unwrap();
    let keys = client.keys().unwrap();
    let state = setup.decoder().state_from_bytes(&keys, &caches).unwrap();
    let mut server = Server::resumed(&setup, keys, state);
    let mut resumed = Chat::resumed(&client, request, saved.generated, server.position()).unwrap();
    while let Some(step) = next(&mut resumed, &mut server) {
        println!("token {} after the interruption, {:.1?}", step.id, step.elapsed);
    }
    assert_eq!(resumed.generated(), uninterrupted);
}

/// A checkpoint that was cut off, a key that was, no key at all, and the key of another.
fn refusals_before_any_key_is_made(setup: &Setup, folder: &Path, header: &CheckpointHeader) {
    let path = folder.join(CHECKPOINT_FILE);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(read_checkpoint(folder).unwrap_err().to_string().contains("checksum"));
    std::fs::write(&path, &whole).unwrap();

    let (saved, _) = read_checkpoint(folder).unwrap().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let foreign = secret(setup, elsewhere.path());
    let error = saved.require(&CheckpointHeader { key: foreign.fingerprint(), ..header.clone() });
    assert!(error.unwrap_err().to_string().contains("secret key"));

    let key = foreign.path();
    let bytes = std::fs::read(key).unwrap();
    std::fs::write(key, &bytes[..bytes.len() - 1]).unwrap();
    assert!(Client::with_stored_secret(setup, &secret(setup, elsewhere.path())).is_err());
    std::fs::remove_file(key).unwrap();
    std::fs::write(elsewhere.path().join(CHECKPOINT_FILE), &whole).unwrap();
    let error = StoredSecret::open_or_create(setup, elsewhere.path()).err().unwrap().to_string();
    assert!(error.contains("put the key back"), "{error}");
}
