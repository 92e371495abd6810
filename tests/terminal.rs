//! What `generate` leaves on a terminal, and what it writes into pipes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
#![cfg(unix)]

use std::fs::File;
use std::io::Read;
use std::process::{Command, Output, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

const ROWS: u16 = 40;
const COLUMNS: u16 = 100;

fn generate(prompt: &str, tokens: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cachemir"));
    command
        .args(["generate", "--backend", "clear", "--preset", "test", "--prompt", prompt])
        .args(["--max-new-tokens", tokens])
        .env("TERM", "xterm-256color");
    command
}

/// Runs `command` with stdin, stdout and stderr on a pseudo-terminal: everything written, and the screen at the end.
fn on_a_terminal(mut command: Command) -> (Vec<u8>, String) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let size = Winsize { ws_row: ROWS, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&terminal, size).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let side = || File::options().read(true).write(true).open(&name).unwrap();
    let mut child = command.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
    // The command holds the other side too, and the terminal ends when nobody does.
    drop(command);
    let (mut terminal, mut written, mut chunk) = (File::from(terminal), Vec::new(), [0; 4096]);
    // Linux says EIO when the last process has closed its side.
    while let Ok(count) = terminal.read(&mut chunk)
        && count > 0
    {
        written.extend_from_slice(&chunk[..count]);
    }
    assert!(child.wait().unwrap().success(), "{}", String::from_utf8_lossy(&written));
    let mut screen = vt100::Parser::new(ROWS, COLUMNS, 1000);
    screen.process(&written);
    (written, screen.screen().contents())
}

fn through_pipes(mut command: Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn the_text_is_what_a_terminal_shows_at_the_end_and_what_a_pipe_gets() {
    // More than a line of the terminal, and lines that end: the text is a play.
    let prompt =
        "ROMEO:\nO, she doth teach the torches to burn bright! It seems she hangs upon the cheek of night. ";
    let piped = through_pipes(generate(prompt, "24"));
    let text = String::from_utf8(piped.stdout).unwrap();
    let (text, closing) = text.split_once("\n\nfirst token").expect("the closing block");
    assert!(text.starts_with(prompt) && text.len() > prompt.len(), "{text}");
    assert!(closing.contains("s/token"), "{closing}");
    // Off a terminal stderr has lines, no control characters, and says what is done and what is left.
    let progress = String::from_utf8(piped.stderr).unwrap();
    assert!(!progress.contains(['\r', '\u{1b}']), "{progress:?}");
    assert!(progress.starts_with("reading the model\n"), "{progress}");
    assert!(progress.contains("encrypts NOTHING"), "{progress}");

    let (written, screen) = on_a_terminal(generate(prompt, "24"));
    let written = String::from_utf8_lossy(&written);
    assert!(written.contains("layer") || written.contains("token 2 of 24"), "a bar was drawn: {written:?}");
    // Rows of the screen that a long line fills go on in the next one.
    let unwrapped = |text: &str| text.split_whitespace().collect::<String>();
    assert!(unwrapped(&screen).contains(&unwrapped(text)), "{text:?} is not on the screen:\n{screen}");
    assert!(!screen.contains("token 2 of"), "progress stayed on the screen:\n{screen}");
    assert_eq!(screen.matches("ROMEO:").count(), text.matches("ROMEO:").count(), "{screen}");
}

#[test]
fn a_reader_that_goes_away_ends_the_run_with_an_error_and_no_panic() {
    let mut child = generate("ROMEO:", "100").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 6]).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(error.contains("cannot write the text") && !error.contains("panicked"), "{error}");
}
