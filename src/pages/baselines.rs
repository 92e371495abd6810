//! One token by every method as a chart.

use super::chart::{Bars, Scale, bar_chart};
use crate::contract::Result;
use crate::related_work::baselines::BaselineRow;

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
