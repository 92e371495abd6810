//! The paper's published table of CPU seconds per module and level, and its decoder composed from it.
//!
//! The table is a TSV: a header of levels, then one row a module, 0 where a module cannot run. It lacks rows for the
//! norm and the output projection; like the authors' planner, the norm is rebuilt from its square-root rows and the
//! output projection counts as a third of QKV. The rows are not consistent with one another (threads differed), so
//! only figures on the same table compare with its authors'.

use std::collections::BTreeMap;

use super::level_matrix::LevelMatrix;
use super::modules::{Part, chain, with_shortcut};
use crate::contract::{Error, Level, Result};
use crate::placement::BootstrapCosts;

/// Seconds by module and level.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishedTable {
    rows: BTreeMap<String, Vec<Option<f64>>>,
}

impl PublishedTable {
    /// Reads the TSV.
    ///
    /// # Errors
    /// [`Error::Format`] naming the line.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: String| Error::Format {
            what: "latency table".to_owned(),
            why,
            remedy: "give a header `module 1 2 …` and one row of seconds a module".to_owned(),
        };
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let (_, header) = lines.next().ok_or_else(|| bad("it is empty".to_owned()))?;
        let columns = header.split_whitespace().count().saturating_sub(1);
        for (index, level) in header.split_whitespace().skip(1).enumerate() {
            if level.parse::<f64>().ok() != Some((index + 1) as f64) {
                return Err(bad(format!("column {} is headed `{level}`", index + 1)));
            }
        }
        let mut rows = BTreeMap::new();
        for (number, line) in lines {
            let mut fields = line.split_whitespace();
            let name = fields.next().unwrap_or_default();
            let mut seconds = vec![None];
            for field in fields {
                let value: f64 =
                    field.parse().map_err(|_| bad(format!("line {}: `{field}` is no number", number + 1)))?;
                if !value.is_finite() || value < 0.0 {
                    return Err(bad(format!("line {}: {value} s", number + 1)));
                }
                seconds.push((value != 0.0).then_some(value));
            }
            if seconds.len() != columns + 1 {
                return Err(bad(format!(
                    "line {}: {} values under {columns} levels",
                    number + 1,
                    seconds.len() - 1
                )));
            }
            if rows.insert(name.to_owned(), seconds).is_some() {
                return Err(bad(format!("line {}: a second row `{name}`", number + 1)));
            }
        }
        Ok(Self { rows })
    }

    /// Row `name` up to `max_level`, times `factor`; its depth is the number of levels at which it cannot run.
    ///
    /// # Errors
    /// [`Error::Format`] when there is no such row.
    pub fn layer(&self, name: &str, max_level: Level, factor: f64) -> Result<Part> {
        let row = self.rows.get(name).ok_or_else(|| Error::Format {
            what: "latency table".to_owned(),
            why: format!("there is no row `{name}`"),
            remedy: "add it".to_owned(),
        })?;
        let depth = row.iter().filter(|seconds| seconds.is_none()).count();
        let seconds =
            row.iter().take(max_level.0 + 1).map(|seconds| seconds.map(|seconds| seconds * factor)).collect();
        Ok(Part::Layer { depth, seconds })
    }

    /// One decoder as the authors' planner nests it: (attention with its residual) then (feed-forward with its
    /// residual); inside them the norm, the softmax, QKᵀ and the activation carry shortcuts of their own.
    ///
    /// # Errors
    /// [`Error::Format`] when a row is missing.
    pub fn decoder(&self, max_level: Level, costs: &BootstrapCosts) -> Result<LevelMatrix> {
        let row = |name: &str| self.layer(name, max_level, 1.0);
        let solve = |parts: &[Part]| chain(parts, max_level, costs);
        let shortcut = |parts: &[Part]| Part::Module(with_shortcut(&solve(parts), costs));
        let root = shortcut(&[row("SqrtNt")?, row("SqrtGold")?, row("CtMult")?]);
        let norm = Part::Module(solve(&[row("CtMult")?, root]));
        let normalise = shortcut(&[row("Softmax")?, row("CtMult")?]);
        let mut softmax = vec![row("CtMult")?; 8];
        softmax.push(normalise);
        let scores = shortcut(&[row("Cache")?, row("QK_T")?, Part::Module(solve(&softmax))]);
        let output = self.layer("QKV", max_level, 1.0 / 3.0)?;
        let attention = solve(&[norm.clone(), row("QKV")?, scores, row("AttnV")?, output]);
        let activation = shortcut(&[row("SiLU")?]);
        let up_gate = self.layer("UpGate", max_level, 2.0)?;
        let feed_forward = solve(&[norm, up_gate, activation, row("CtMult")?, row("Down")?]);
        Ok(with_shortcut(&attention, costs).then(&with_shortcut(&feed_forward, costs)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = include_str!("published_latency.tsv");

    fn seconds_per_decoder(max_level: usize) -> f64 {
        let costs = BootstrapCosts::constant(24.0, Level(max_level));
        let table = PublishedTable::parse(TABLE).unwrap();
        table.decoder(Level(max_level), &costs).unwrap().steady_state().unwrap().seconds
    }

    #[test]
    fn published_table_gives_339_seconds_a_decoder_at_13_levels() {
        let seconds = seconds_per_decoder(13);
        assert!((seconds - 339.44).abs() < 0.005, "{seconds} s");
    }

    #[test]
    fn published_table_gives_319_seconds_a_decoder_at_16_levels() {
        let seconds = seconds_per_decoder(16);
        assert!((seconds - 319.08).abs() < 0.005, "{seconds} s");
    }

    #[test]
    fn malformed_tables_are_refused_with_the_line() {
        for (text, expected) in [
            ("", "empty"),
            ("module\t1\t3\nA\t1\t2", "headed `3`"),
            ("module\t1\t2\nA\t1", "line 2: 1 values"),
            ("module\t1\t2\nA\t1\tx", "`x` is no number"),
            ("module\t1\nA\t-1", "-1 s"),
            ("module\t1\nA\t1\nA\t2", "a second row"),
        ] {
            let error = PublishedTable::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
