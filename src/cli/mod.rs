//! One file per verb. The only place that prints, parses flags, or uses `anyhow`.

mod doctor;
mod import;
mod machine;
mod report;

use clap::{Parser, Subcommand};

/// Private text generation under fully homomorphic encryption.
#[derive(Parser)]
#[command(name = "cachemir", version, about)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show what this machine offers: cores, SIMD, memory, OpenFHE.
    Doctor(doctor::Doctor),
    /// Turn a GGUF file into a model directory.
    Import(import::Import),
}

/// Parses the command line and runs the verb; errors go to stderr in one line.
pub fn run() -> std::process::ExitCode {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
    let result = match Arguments::parse().verb {
        Verb::Doctor(verb) => verb.run(),
        Verb::Import(verb) => verb.run(),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
