//! A private answer, token by token: both parties in one process, on the small ring that claims **no security**.
//!
//! `cargo run --release --example generate`

use std::io::Write;

use cachemir::{Chat, Client, Model, Preset, Sampling, Server, Setup, SetupOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Public: what both parties know. `Model::open("DIR")` opens a Hugging Face directory.
    let model = Model::bundled()?;
    let setup: Setup = SetupOptions::new(Preset::Test).context(10).build(&model)?;
    println!("preset {}: INSECURE, {} bootstraps a token", Preset::Test, setup.bootstraps_per_token());

    // The client's half: the secret key, which never leaves it.
    let client = Client::new(&setup)?;
    let mut chat = Chat::new(&client, "ROMEO:", Sampling::greedy())?.max_new_tokens(2)?;

    // The server's half: evaluation keys, weights, encrypted caches.
    let mut server = Server::new(&setup, client.keys()?)?;

    print!("ROMEO:");
    while let Some(token) = chat.next(&mut server)? {
        print!("{}", token.text);
        std::io::stdout().flush()?;
    }
    println!();
    Ok(())
}
