//! What a generation shows while it runs: the text on stdout, progress on stderr, and neither over the other.
//!
//! Where both are a terminal a bar stands below the text; the line under way belongs to the bar's block, which is
//! drawn anew as a whole, and lines that are finished are written above it. Everywhere else text goes out as it
//! comes, and stderr gets a line now and then.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Between two lines on a stderr that is no terminal.
const BETWEEN_LINES: Duration = Duration::from_secs(10);
/// Between two lines at least, also where something new begins.
const BETWEEN_STEPS: Duration = Duration::from_secs(1);
/// Between two drawings of the bar, which also shows that the program is alive.
const TICK: Duration = Duration::from_millis(250);

/// Progress and text of one run.
pub struct GenerateProgress {
    bar: Option<ProgressBar>,
    /// The line of text under way, where the bar shows it.
    line: String,
    what: String,
    started: Instant,
    said: Option<Instant>,
}

impl GenerateProgress {
    /// A bar where stdout and stderr are a terminal, lines elsewhere.
    pub fn new() -> anyhow::Result<Self> {
        let terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        let bar = terminal.then(|| -> anyhow::Result<ProgressBar> {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(ProgressStyle::with_template("{prefix}{spinner} {wide_msg}")?);
            bar.enable_steady_tick(TICK);
            Ok(bar)
        });
        let (line, what, started) = (String::new(), String::new(), Instant::now());
        Ok(Self { bar: bar.transpose()?, line, what, started, said: None })
    }

    /// `done` of `all` steps of `what` are finished.
    pub fn step(&mut self, what: &str, done: usize, all: usize) {
        let new = self.what != what;
        if new {
            what.clone_into(&mut self.what);
            self.started = Instant::now();
        }
        let left = match done {
            0 => String::new(),
            _ => {
                let left =
                    self.started.elapsed().as_secs_f64() / done as f64 * all.saturating_sub(done) as f64;
                format!(", {}", time_left(left))
            }
        };
        let count = if all > 1 { format!(" {done}/{all}") } else { String::new() };
        self.say(&format!("{what}{count}{left}"), new);
    }

    /// Forgets when the step began, so that the next call of [`Self::step`] begins it anew.
    pub fn restart(&mut self) {
        self.what.clear();
    }

    fn say(&mut self, message: &str, new: bool) {
        if let Some(bar) = &self.bar {
            bar.set_message(message.to_owned());
            return;
        }
        let wait = if new { BETWEEN_STEPS } else { BETWEEN_LINES };
        if self.said.is_none_or(|said| said.elapsed() >= wait) {
            // Nobody to tell when stderr is closed.
            let _ = writeln!(std::io::stderr(), "{message}");
            self.said = Some(Instant::now());
        }
    }

    /// A line about the run, on stderr.
    pub fn note(&self, note: &str) {
        let write = || {
            let _ = writeln!(std::io::stderr(), "{note}");
        };
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// More of the text.
    ///
    /// # Errors
    /// A stdout that is closed or full.
    pub fn text(&mut self, text: &str) -> anyhow::Result<()> {
        let Some(bar) = &self.bar else {
            return write_out(text);
        };
        self.line.push_str(text);
        if let Some((finished, line)) = self.line.rsplit_once('\n') {
            let finished = format!("{finished}\n");
            bar.suspend(|| write_out(&finished))?;
            self.line = line.to_owned();
        }
        bar.set_prefix(if self.line.is_empty() { String::new() } else { format!("{}\n", self.line) });
        Ok(())
    }

    /// Removes the bar and ends the text.
    ///
    /// # Errors
    /// A stdout that is closed or full.
    pub fn finish(mut self) -> anyhow::Result<()> {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        write_out(&format!("{}\n", std::mem::take(&mut self.line)))
    }
}

impl Drop for GenerateProgress {
    /// After an error: what there is of the text stays on the screen.
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            if !self.line.is_empty() {
                let _ = write_out(&format!("{}\n", self.line));
            }
        }
    }
}

fn write_out(text: &str) -> anyhow::Result<()> {
    use anyhow::Context;
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("cannot write the text")
}

/// Seconds as people say them.
pub fn time_left(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("about {s:.0} s left"),
        s if s < 7200.0 => format!("about {:.0} min left", s / 60.0),
        s => format!("about {:.1} h left", s / 3600.0),
    }
}
