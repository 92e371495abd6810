//! Two parties that exchange bytes only, on the small ring that claims **no security**: the server is made from the
//! model and the bytes of the evaluation keys; it never sees the client, its secret key, or a word of the text.
//!
//! `cargo run --release --example client_and_server`

use std::sync::mpsc::{Receiver, Sender, channel};

use cachemir::{Chat, Client, Model, Preset, Result, Sampling, Server, Setup, SetupOptions};

/// What both sides make for themselves from public files.
fn setup() -> Result<Setup> {
    SetupOptions::new(Preset::Test).context(10).build(&Model::bundled()?)
}

/// Reads keys, then answers every message until the client hangs up.
fn serve(requests: &Receiver<Vec<u8>>, answers: &Sender<Vec<u8>>) -> Result<()> {
    let keys = requests.recv().unwrap_or_default();
    let mut server = Server::from_keys(&setup()?, keys.as_slice())?;
    println!("server: {:.1} MB of keys", keys.len() as f64 / 1e6);
    while let Ok(tokens) = requests.recv() {
        let answer = server.answer_bytes(&tokens)?;
        println!("server: {} bytes in, {} bytes out", tokens.len(), answer.len());
        if answers.send(answer).is_err() {
            break;
        }
    }
    Ok(())
}

/// Sends its evaluation keys, then one message after the other until its text is finished.
fn ask(server: &Sender<Vec<u8>>, answers: &Receiver<Vec<u8>>) -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::new(&setup()?)?;
    let mut keys = Vec::new();
    client.keys()?.write_to(&mut keys)?;
    server.send(keys)?;
    let mut chat = Chat::new(&client, "ROMEO:", Sampling::greedy())?.max_new_tokens(2)?;
    while let Some(tokens) = chat.ask()? {
        server.send(client.tokens_to_bytes(&tokens)?)?;
        let answer = client.answer_from_bytes(&answers.recv()?)?;
        if let Some(token) = chat.receive(&answer)? {
            println!("client: {:?}", token.text);
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ((to_server, requests), (to_client, answers)) = (channel(), channel());
    let server = std::thread::spawn(move || serve(&requests, &to_client));
    let asked = ask(&to_server, &answers);
    drop(to_server);
    server.join().map_err(|_| "the server panicked")??;
    asked
}
