//! One line on a terminal that says what is done of how much, with an estimate of what is left.

use std::io::{IsTerminal, Write};
use std::time::Instant;

/// Shows progress on stderr when that is a terminal, nothing otherwise.
#[derive(Default)]
pub struct Progress {
    started: Option<(String, Instant)>,
    width: usize,
}

impl Progress {
    /// `done` of `all` steps of `what` are finished.
    pub fn show(&mut self, what: &str, done: usize, all: usize) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        if self.started.as_ref().is_none_or(|(running, _)| running != what) {
            self.started = Some((what.to_owned(), Instant::now()));
        }
        let elapsed = self.started.as_ref().map_or(0.0, |(_, start)| start.elapsed().as_secs_f64());
        let left = if done == 0 {
            String::new()
        } else {
            format!(", {:.0} s left", elapsed / done as f64 * (all - done.min(all)) as f64)
        };
        let line = format!("{what} {done}/{all}{left}");
        let padding = self.width.saturating_sub(line.len());
        eprint!("\r{line}{}", " ".repeat(padding));
        let _ = std::io::stderr().flush();
        self.width = line.len();
    }

    /// Removes the line.
    pub fn clear(&mut self) {
        if self.width > 0 {
            eprint!("\r{}\r", " ".repeat(self.width));
            self.width = 0;
        }
    }
}
