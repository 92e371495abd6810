//! One token by every method as a table and as a chart.

use super::chart::{Bars, Scale, bar_chart};
use super::table::Table;
use crate::contract::Result;
use crate::related_work::baselines::BaselineRow;

/// One line a method.
#[must_use]
pub fn baselines_table(rows: &[BaselineRow]) -> Table {
    let mut table =
        Table::new(&["method", "plain", "rotations", "products", "bootstraps", "seconds", "ratio", "run"]);
    for row in rows {
        table.row([
            row.method.to_owned(),
            format!("{:.0}", row.plaintext_products),
            format!("{:.0}", row.rotations),
            format!("{:.0}", row.ciphertext_products),
            row.bootstraps.to_string(),
            format!("{:.1}", row.seconds),
            format!("{:.2}", row.speedup),
            if row.run_by_generate { "by generate" } else { "no" }.to_owned(),
        ]);
    }
    table
}

/// Bars of seconds on a logarithmic scale, one a method.
///
/// # Errors
/// [`crate::contract::Error::Foreign`] when it cannot be drawn.
pub fn baselines_chart(rows: &[BaselineRow], shape: &str, context: usize) -> Result<String> {
    let bars = |row: &BaselineRow| Bars {
        name: row.method.to_owned(),
        bars: vec![(row.seconds, format!("{:.0} s ({:.2}×)", row.seconds, row.speedup))],
    };
    let groups: Vec<Bars> = rows.iter().map(bars).collect();
    let title = format!("One token of {shape}, context {context}, composed");
    bar_chart(&title, "seconds (logarithmic)", Scale::Logarithmic, &groups)
}
