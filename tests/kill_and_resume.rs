//! A generation that is killed, at any moment and again and again, goes on from its checkpoint to the tokens of one
//! that was not.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn generate(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cachemir"));
    command
        .args(["generate", "--backend", "clear", "--preset", "test", "--prompt", "ROMEO:"])
        .args(["--max-new-tokens", "5", "--checkpoint"])
        .arg(folder.join("session"))
        .arg("--json")
        .arg(folder.join("report.json"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

fn tokens(folder: &Path) -> Vec<u64> {
    let report = std::fs::read(folder.join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    report["token_ids"].as_array().unwrap().iter().map(|token| token.as_u64().unwrap()).collect()
}

#[test]
fn a_run_that_is_killed_at_any_moment_gives_the_tokens_of_one_that_is_not() {
    let (whole, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let start = Instant::now();
    let output = generate(whole.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let wanted = tokens(whole.path());
    assert_eq!(wanted.len(), 5);
    // Killed after a small part of that time, then after ever more, until a run gets through.
    let mut patience = start.elapsed() / 16;
    let mut kills = 0;
    loop {
        let mut child = generate(broken.path()).spawn().unwrap();
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if start.elapsed() > patience {
                // SIGKILL: no handler of ours runs.
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        if let Some(status) = status {
            let error = child.stderr.take().map(std::io::read_to_string).unwrap().unwrap();
            assert!(status.success(), "after {kills} kills: {error}");
            break;
        }
        kills += 1;
        patience = patience.mul_f64(1.3);
    }
    println!("{kills} kills");
    assert!(kills >= 2, "a run that was hardly ever killed shows nothing");
    assert_eq!(tokens(broken.path()), wanted);
}
