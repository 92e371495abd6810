//! The `cachemir` command line.

fn main() -> std::process::ExitCode {
    cachemir::cli::run()
}
