//! The published table as one decoder layer's graph.
//!
//! [`PublishedTable::decoder`] composes modules with shortcuts, as the paper's planner does; here every value that
//! crosses (residual, q, k, v, up, gate) has a level of its own, so that a plan can be drawn and run.

use std::collections::HashMap;

use super::modules::Part;
use super::published::PublishedTable;
use crate::contract::{Error, Level, Result};
use crate::placement::{BootstrapCosts, LevelGraph};

/// An operation: its name, what it reads, what it writes, and its row with a factor (none: an addition, for nothing).
type RowOperation =
    (&'static str, &'static [&'static str], &'static [&'static str], Option<(&'static str, f64)>);

const CT_MULT: Option<(&str, f64)> = Some(("CtMult", 1.0));

/// A layer in running order. The table has no row for the output projection: a third of QKV, as its authors take it.
const LAYER: [RowOperation; 29] = [
    ("input_norm.square", &["residual"], &["input_norm.mean_square"], CT_MULT),
    ("input_norm.newton", &["input_norm.mean_square"], &["input_norm.start"], Some(("SqrtNt", 1.0))),
    ("input_norm.goldschmidt", &["input_norm.start"], &["input_norm.inverse_root"], Some(("SqrtGold", 1.0))),
    ("input_norm.scale", &["residual", "input_norm.inverse_root"], &["input_norm.normed"], CT_MULT),
    ("qkv", &["input_norm.normed"], &["query", "key", "value"], Some(("QKV", 1.0))),
    ("append_key", &["key"], &["key_cache"], Some(("Cache", 1.0))),
    ("scores", &["query", "key_cache"], &["scores"], Some(("QK_T", 1.0))),
    ("exp.1", &["scores"], &["squared.1"], CT_MULT),
    ("exp.2", &["squared.1"], &["squared.2"], CT_MULT),
    ("exp.3", &["squared.2"], &["squared.3"], CT_MULT),
    ("exp.4", &["squared.3"], &["squared.4"], CT_MULT),
    ("exp.5", &["squared.4"], &["squared.5"], CT_MULT),
    ("exp.6", &["squared.5"], &["squared.6"], CT_MULT),
    ("exp.7", &["squared.6"], &["squared.7"], CT_MULT),
    ("exp.8", &["squared.7"], &["weights"], CT_MULT),
    ("inverse", &["weights"], &["inverse_denominator"], Some(("Softmax", 1.0))),
    ("divide", &["weights", "inverse_denominator"], &["probabilities"], CT_MULT),
    ("values", &["probabilities", "value"], &["attended"], Some(("AttnV", 1.0))),
    ("output", &["attended"], &["attention_output"], Some(("QKV", 1.0 / 3.0))),
    ("attention_residual", &["residual", "attention_output"], &["middle_residual"], None),
    ("post_attention_norm.square", &["middle_residual"], &["post_attention_norm.mean_square"], CT_MULT),
    (
        "post_attention_norm.newton",
        &["post_attention_norm.mean_square"],
        &["post_attention_norm.start"],
        Some(("SqrtNt", 1.0)),
    ),
    (
        "post_attention_norm.goldschmidt",
        &["post_attention_norm.start"],
        &["post_attention_norm.inverse_root"],
        Some(("SqrtGold", 1.0)),
    ),
    (
        "post_attention_norm.scale",
        &["middle_residual", "post_attention_norm.inverse_root"],
        &["post_attention_norm.normed"],
        CT_MULT,
    ),
    ("up_gate", &["post_attention_norm.normed"], &["up", "gate"], Some(("UpGate", 2.0))),
    ("activation", &["gate"], &["activation"], Some(("SiLU", 1.0))),
    ("gate_product", &["up", "activation"], &["gated"], CT_MULT),
    ("down", &["gated"], &["mlp_output"], Some(("Down", 1.0))),
    ("mlp_residual", &["middle_residual", "mlp_output"], &["next_residual"], None),
];

impl PublishedTable {
    /// One decoder layer between level 0 and `max_level`.
    ///
    /// # Errors
    /// [`Error::Format`] when a row is missing; [`Error::Plan`] when `max_level` is below the depth of a row.
    pub fn layer_graph(&self, max_level: Level) -> Result<LevelGraph> {
        let mut builder = LevelGraph::builder("decoder layer", max_level);
        let mut values = HashMap::from([("residual", builder.input("residual", 1, 2))]);
        for (name, reads, writes, row) in LAYER {
            for write in writes {
                values.insert(write, builder.value(*write, 1, 2));
            }
            let find = |names: &[&'static str]| {
                let ids = names.iter().map(|name| values.get(name).copied());
                ids.collect::<Option<Vec<_>>>()
                    .ok_or_else(|| Error::Internal(format!("`{name}` names a value that is not there")))
            };
            let (reads, writes) = (find(reads)?, find(writes)?);
            let (depth, seconds) = match row {
                None => (0, vec![Some(0.0); max_level.0 + 1]),
                Some((row, factor)) => match self.layer(row, max_level, factor)? {
                    Part::Layer { depth, seconds } => (depth, seconds),
                    Part::Module(_) => return Err(Error::Internal(format!("row `{row}` is no layer"))),
                },
            };
            builder.operation(name, &reads, &writes, depth, seconds);
        }
        let end = values.get("next_residual").copied();
        builder.finish(&end.into_iter().collect::<Vec<_>>())
    }

    /// The paper's composition of the same layer in its steady state: seconds a layer, its bootstraps included.
    ///
    /// # Errors
    /// [`Error::Format`] when a row is missing ([`PublishedTable::decoder`]); [`Error::Plan`] when no cycle exists
    /// ([`super::LevelMatrix::steady_state`]).
    pub fn composed_seconds(&self, max_level: Level, costs: &BootstrapCosts) -> Result<f64> {
        Ok(self.decoder(max_level, costs)?.steady_state()?.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::{Search, place, place_greedily};

    const TABLE: &str = include_str!("published_latency.tsv");

    #[test]
    fn the_table_as_a_graph_is_placed_no_worse_than_greedily_and_its_composition_takes_339_seconds() {
        let table = PublishedTable::parse(TABLE).unwrap();
        let top = Level(13);
        let graph = table.layer_graph(top).unwrap();
        let costs = BootstrapCosts::constant(24.0, top).with_pairing(0.0);
        let layers = vec![&graph; 8];
        let placed = place(&layers, &costs, top, Search::Exact).unwrap();
        let greedy = place_greedily(&layers, &costs, top).unwrap();
        let seconds = |all: &[crate::placement::Solution]| all.iter().map(|one| one.seconds).sum::<f64>();
        for solution in &placed {
            solution.replay(&graph, &costs).unwrap();
        }
        assert!(
            seconds(&placed) <= seconds(&greedy),
            "{} s, greedy {} s",
            seconds(&placed),
            seconds(&greedy)
        );
        let composed = table.composed_seconds(top, &BootstrapCosts::constant(24.0, top)).unwrap();
        assert!((composed - 339.44).abs() < 0.005, "{composed} s");
    }

    #[test]
    fn a_table_of_too_few_levels_or_rows_is_refused() {
        let table = PublishedTable::parse(TABLE).unwrap();
        assert!(table.layer_graph(Level(3)).is_err());
        let short = PublishedTable::parse("module\t1\t2\nQKV\t1\t2").unwrap();
        let error = short.layer_graph(Level(2)).unwrap_err().to_string();
        assert!(error.contains("CtMult"), "{error}");
    }
}
