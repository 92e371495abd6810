//! One file per verb. The only place that prints, parses flags, or uses `anyhow`.

mod baselines;
mod bench;
mod bench_attention;
mod bench_bootstrap;
mod bench_linear;
mod bench_modules;
mod bench_ops;
mod calibrate;
mod chart;
mod compare;
mod costs;
mod decoder_setup;
mod doctor;
mod eval;
mod eval_report;
mod functions_table;
mod generate;
mod generate_page;
mod generate_report;
mod head;
mod import;
mod machine;
mod model_directory;
mod params;
mod plan;
mod plan_decoder;
mod progress;
mod report;
mod scheme;

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
    /// Compare one token by Cachemir, ours, plain diagonals, MOAI and THOR on measured costs.
    Baselines(baselines::Baselines),
    /// Place the bootstraps of a model and predict its seconds.
    Plan(plan::PlanVerb),
    /// Time operations on this machine.
    Bench(bench::Bench),
    /// Measure native and OpenFHE in turn, on the same ring, limbs and digits.
    Compare(compare::Compare),
    /// Show what this machine offers: cores, SIMD, memory, OpenFHE.
    Doctor(doctor::Doctor),
    /// Measure a model on texts and choose its approximations.
    Calibrate(calibrate::Calibrate),
    /// Compare the approximated model with the exact one.
    Eval(eval::Eval),
    /// Print the parameter sets with their security margins.
    Params(params::Params),
    /// Generate text while prompt, activations and KV cache stay encrypted.
    Generate(generate::Generate),
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
        Verb::Baselines(verb) => verb.run(),
        Verb::Plan(verb) => verb.run(),
        Verb::Bench(verb) => verb.run(),
        Verb::Params(verb) => verb.run(),
        Verb::Compare(verb) => verb.run(),
        Verb::Doctor(verb) => verb.run(),
        Verb::Calibrate(verb) => verb.run(),
        Verb::Eval(verb) => verb.run(),
        Verb::Generate(verb) => verb.run(),
        Verb::Import(verb) => verb.run(),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", one_line(&error));
            std::process::ExitCode::FAILURE
        }
    }
}

/// An error and its causes, each said once: our own errors name theirs already.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !line.contains(&cause) {
            line += if line.is_empty() { "" } else { ": " };
            line += &cause;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    #[test]
    fn causes_are_said_once() {
        let source = || std::io::Error::other("the disk is full");
        let own = crate::Error::Io { path: "plan.json".to_owned(), source: source() };
        let line = super::one_line(&anyhow::Error::new(own).context("cannot write the plan"));
        assert_eq!(line.matches("the disk is full").count(), 1, "{line}");
        assert!(line.starts_with("cannot write the plan: plan.json"), "{line}");
        let foreign = anyhow::Error::new(source()).context("cannot read");
        assert_eq!(super::one_line(&foreign), "cannot read: the disk is full");
    }
}
