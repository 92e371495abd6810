//! Timed runs and what is said of them: median, least, largest.

use std::time::Instant;

use crate::contract::{Error, Result};

use super::memory::processor_seconds;

/// Order statistics of samples, in the unit of the samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Statistics {
    /// The middle sample, or the mean of the middle two.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Statistics {
    /// Statistics of `samples` in any order.
    ///
    /// # Errors
    /// [`Error::Shape`] without any sample.
    pub fn of(samples: &[f64]) -> Result<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (below, above) = (sorted.get(sorted.len().saturating_sub(1) / 2), sorted.get(sorted.len() / 2));
        match (sorted.first(), below, above, sorted.last()) {
            (Some(min), Some(below), Some(above), Some(max)) => {
                Ok(Self { median: f64::midpoint(*below, *above), min: *min, max: *max })
            }
            _ => Err(Error::Shape {
                operation: "median",
                what: "no samples".to_owned(),
                remedy: "measure at least one round".to_owned(),
            }),
        }
    }

    /// Statistics of the samples times `factor`, which must not be negative.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self { median: self.median * factor, min: self.min * factor, max: self.max * factor }
    }
}

/// How often something is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rounds {
    /// Runs before the timed ones, which warm caches and pools of buffers.
    pub untimed: usize,
    /// Timed runs.
    pub timed: usize,
}

/// One thing to time among others.
pub type Run<'a> = Box<dyn FnMut() -> Result<()> + Send + 'a>;

/// Runs all of `runs` in turn, round after round, and returns the seconds of each timed run, in the order of `runs`.
///
/// In turn, so that a slow moment of the machine meets all alike and ratios inside one measurement mean something.
///
/// # Errors
/// The first error of a run.
pub fn alternate(rounds: Rounds, runs: &mut [Run<'_>]) -> Result<Vec<Vec<f64>>> {
    let mut seconds = vec![Vec::with_capacity(rounds.timed); runs.len()];
    for round in 0..rounds.untimed + rounds.timed {
        for (run, samples) in runs.iter_mut().zip(&mut seconds) {
            let start = Instant::now();
            run()?;
            if round >= rounds.untimed {
                samples.push(start.elapsed().as_secs_f64());
            }
        }
    }
    Ok(seconds)
}

/// Seconds of every timed run of one thing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timings {
    /// Elapsed.
    pub seconds: Vec<f64>,
    /// Spent computing by all threads together; empty where the system does not tell.
    pub processor_seconds: Vec<f64>,
}

/// Runs `action` as `rounds` says; the times, and the last result.
///
/// # Errors
/// The first error of a run; [`Error::Shape`] when nothing is to be timed.
pub fn time<T>(rounds: Rounds, mut action: impl FnMut() -> Result<T>) -> Result<(Timings, T)> {
    for _ in 0..rounds.untimed {
        action()?;
    }
    let (mut timings, mut last) = (Timings::default(), None);
    for _ in 0..rounds.timed {
        // Two results of gigabytes need not live at once.
        drop(last.take());
        let (start, before) = (Instant::now(), processor_seconds());
        last = Some(action()?);
        timings.seconds.push(start.elapsed().as_secs_f64());
        if let (Some(before), Some(after)) = (before, processor_seconds()) {
            timings.processor_seconds.push(after - before);
        }
    }
    let last = last.ok_or_else(|| Error::Shape {
        operation: "timing",
        what: "0 timed runs".to_owned(),
        remedy: "time at least one run".to_owned(),
    })?;
    Ok((timings, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_or_the_mean_of_the_middle_two() {
        let statistics = |samples: &[f64]| Statistics::of(samples).unwrap();
        assert_eq!(statistics(&[3.0, 1.0, 9.0]), Statistics { median: 3.0, min: 1.0, max: 9.0 });
        assert_eq!(statistics(&[4.0, 1.0, 9.0, 3.0]).median, 3.5);
        assert_eq!(statistics(&[2.0]).scaled(0.5), Statistics { median: 1.0, min: 1.0, max: 1.0 });
        assert!(Statistics::of(&[]).unwrap_err().to_string().contains("no samples"));
    }

    #[test]
    fn runs_take_turns_and_the_first_rounds_are_not_timed() {
        let order = std::sync::Mutex::new(Vec::new());
        let run = |name: char| -> Run<'_> {
            Box::new({
                let order = &order;
                move || {
                    order.lock().unwrap().push(name);
                    Ok(())
                }
            })
        };
        let seconds = alternate(Rounds { untimed: 1, timed: 2 }, &mut [run('a'), run('b')]).unwrap();
        assert_eq!(seconds.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
        assert_eq!(order.lock().unwrap().iter().collect::<String>(), "ababab");
    }

    #[test]
    fn timing_returns_the_last_result_and_needs_one_run() {
        let mut runs = 0;
        let rounds = Rounds { untimed: 1, timed: 2 };
        let (timings, last) = time(rounds, || {
            runs += 1;
            Ok(runs)
        })
        .unwrap();
        assert_eq!((timings.seconds.len(), last), (2, 3));
        assert!(time(Rounds { untimed: 0, timed: 0 }, || Ok(())).is_err());
    }
}
