//! `cachemir bench`: timings, one subject a subcommand.

use clap::{Args, Subcommand};

use super::bench_attention::Attention;
use super::bench_bootstrap::BenchBootstrap;
use super::bench_linear::Linear;
use super::bench_modules::Modules;
use super::bench_ops::BenchOps;

/// Flags of `bench`.
#[derive(Args)]
pub struct Bench {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Subcommand)]
enum Subject {
    /// Single operations of the native backend, by level: NTT, products, rescale, rotations, encoding.
    Ops(BenchOps),
    /// Time, precision, overflow, memory and security of a bootstrap.
    Bootstrap(BenchBootstrap),
    /// Matrix products of a decoder block: this packing, plain diagonals, MOAI and THOR.
    Linear(Linear),
    /// One token's attention over an encrypted cache.
    Attention(Attention),
    /// Every module of a decoder layer by level: the costs that `plan` and `baselines` read.
    Modules(Modules),
}

impl Bench {
    /// Runs the measurement asked for.
    pub fn run(self) -> anyhow::Result<()> {
        match self.subject {
            Subject::Ops(ops) => ops.run(),
            Subject::Bootstrap(bootstrap) => bootstrap.run(),
            Subject::Linear(linear) => linear.run(),
            Subject::Attention(attention) => attention.run(),
            Subject::Modules(modules) => modules.run(),
        }
    }
}
