//! Results of benches as tables.

use super::table::Table;
use crate::benchmarks::attention::AttentionPart;
use crate::benchmarks::bootstrap::BootstrapTime;
use crate::benchmarks::linear::ProductCost;
use crate::benchmarks::operations::OperationTime;
use crate::benchmarks::overflow::OverflowCount;

/// Times of single operations, one line an operation, level and number of threads.
#[must_use]
pub fn operations_table(rows: &[OperationTime]) -> Table {
    let mut table = Table::new(&["op", "level", "limbs", "digits", "threads", "median ms", "min ms"]);
    for row in rows {
        table.row([
            row.op.to_owned(),
            row.level.to_string(),
            row.limbs.to_string(),
            row.digits.to_string(),
            row.threads.to_string(),
            format!("{:.3}", row.median_ms),
            format!("{:.3}", row.min_ms),
        ]);
    }
    table
}

/// Times and precision of bootstraps, one line a kind of input.
#[must_use]
pub fn bootstraps_table(rows: &[BootstrapTime]) -> Table {
    let header = ["input", "values", "iter", "seconds (min)", "rotations", "bits worst / mean", "from", "to"];
    let mut table = Table::new(&header);
    for row in rows {
        table.row([
            row.input.to_string(),
            row.values.to_string(),
            row.iterations.to_string(),
            format!("{:.2} ({:.2})", row.median_s, row.min_s),
            format!("{:.1}", row.rotations),
            format!("{:.2} / {:.2}", row.precision_min_bits, row.precision_mean_bits),
            row.minimum_input_level.to_string(),
            row.levels_after.to_string(),
        ]);
    }
    table
}

/// Integer parts |I| after ModRaise beside those of the Irwin–Hall law, and junk before EvalMod beside its bound.
#[must_use]
pub fn overflow_table(rows: &[OverflowCount]) -> Table {
    let mut table = Table::new(&["integer parts", "at least", "measured", "expected"]);
    for row in rows {
        table.row([
            row.kind.to_owned(),
            row.at_least.to_string(),
            row.measured.to_string(),
            format!("{:.2}", row.expected),
        ]);
    }
    table
}

/// Matrix products, one line a method and size.
#[must_use]
pub fn products_table(rows: &[ProductCost]) -> Table {
    let mut table = Table::new(&[
        "method",
        "in",
        "out",
        "products",
        "rotations",
        "hoisted",
        "conjugations",
        "keys",
        "plaintexts MiB",
        "seconds",
        "measured",
    ]);
    for row in rows {
        table.row([
            row.method.name().to_owned(),
            row.d_in.to_string(),
            row.d_out.to_string(),
            row.plaintext_products.to_string(),
            row.rotations.to_string(),
            row.rotations_hoisted.to_string(),
            row.conjugations.to_string(),
            row.rotation_keys.to_string(),
            format!("{:.1}", row.plaintext_bytes as f64 / f64::from(1u32 << 20)),
            row.seconds.map_or("-".to_owned(), |seconds| format!("{seconds:.2}")),
            format!("{:.4} %", 100.0 * row.measured_fraction),
        ]);
    }
    table
}

/// Parts of one token's attention, in their order.
#[must_use]
pub fn attention_table(parts: &[AttentionPart]) -> Table {
    let mut table = Table::new(&[
        "part",
        "seconds",
        "ciphertext products",
        "plaintext products",
        "rotations",
        "of them hoisted",
        "conjugations",
    ]);
    for part in parts {
        let counts = &part.counts;
        table.row([
            part.part.to_owned(),
            format!("{:.3}", part.seconds),
            counts.ciphertext_products.to_string(),
            counts.plaintext_products.to_string(),
            (counts.rotations + counts.rotations_hoisted).to_string(),
            counts.rotations_hoisted.to_string(),
            counts.conjugations.to_string(),
        ]);
    }
    table
}
