//! One file per verb. The only place that prints, parses flags, or uses `anyhow`.

mod baselines;
mod bench;
mod bench_attention;
mod bench_bootstrap;
mod bench_linear;
mod bench_modules;
mod bench_ops;
mod calibrate;
mod compare;
mod costs;
mod doctor;
mod eval;
mod eval_report;
mod flags;
mod functions_table;
mod generate;
mod generate_flags;
mod generate_page;
mod generate_progress;
mod generate_report;
mod generate_run;
mod import;
mod params;
mod plan;
mod plan_decoder;
mod plan_flags;
mod plan_shape;
mod plan_steps;
mod progress;

use std::io::Write;

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
    Plan(plan_flags::PlanVerb),
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
    Generate(generate_flags::Generate),
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
            let line = one_line(&error);
            // A stderr that is closed has nobody to tell.
            let _ = writeln!(std::io::stderr(), "error: {line}");
            if let Some(command) = command_for(&line) {
                let _ = writeln!(std::io::stderr(), "try: {command}");
            }
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

/// What the library's remedies are called here.
const COMMANDS: [(&str, &str); 7] = [
    ("calibrate", "cachemir calibrate --model DIR"),
    ("make the plan", "cachemir plan --model DIR --json FILE"),
    ("make a plan", "cachemir plan --model DIR --json FILE"),
    ("measure the costs", "cachemir bench modules --json FILE"),
    ("measure the operations", "cachemir bench ops --json FILE"),
    ("measure the bootstraps", "cachemir bench bootstrap --json FILE"),
    ("import them from a GGUF file", "cachemir import --gguf FILE DIR"),
];

/// The command that the remedy at the end of `line` asks for, where it names none itself.
fn command_for(line: &str) -> Option<&'static str> {
    let found = COMMANDS.iter().find(|(remedy, _)| line.contains(remedy));
    found
        .map(|(_, command)| *command)
        .filter(|_| !line.contains("`cachemir ") && !line.contains(": cachemir "))
}

#[cfg(test)]
mod tests {
    #[test]
    fn remedies_of_the_library_get_their_command() {
        let error = crate::placement::CostFile::parse("{").unwrap_err();
        assert_eq!(super::command_for(&error.to_string()), Some("cachemir bench modules --json FILE"));
        let error = crate::placement::Plan::from_json("{").unwrap_err();
        assert_eq!(super::command_for(&error.to_string()), Some("cachemir plan --model DIR --json FILE"));
        assert_eq!(super::command_for("the disk is full"), None);
    }

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
