//! A comparison of two backends as Markdown and as a chart.

use super::chart::{Bars, Scale, bar_chart};
use super::table::Table;
use crate::benchmarks::comparison_rows::ComparisonRow;
use crate::contract::Result;

const NOTE: &str = "Medians: elapsed time, and processor time of all threads (what a busy machine distorts least). \
                    Ratio: OpenFHE's time over ours. Bits: −log2 of the error, worst part of a slot / mean over all.";

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

fn bits(worst: Option<f64>, mean: Option<f64>) -> String {
    match (worst, mean) {
        (None, None) => "–".to_owned(),
        _ => format!("{} / {}", number(worst, 1), number(mean, 1)),
    }
}

/// A table in Markdown, one line an operation.
#[must_use]
pub fn comparison_markdown(title: &str, rows: &[ComparisonRow]) -> String {
    let mut table = Table::new(&[
        "operation",
        "limbs",
        "native ms",
        "OpenFHE ms",
        "ratio",
        "native CPU ms",
        "OpenFHE CPU ms",
        "CPU ratio",
        "native bits",
        "OpenFHE bits",
    ]);
    for row in rows {
        table.row([
            row.op.name().to_owned(),
            row.limbs.to_string(),
            number(row.native_ms, 1),
            number(row.openfhe_ms, 1),
            number(row.ratio, 2),
            number(row.native_cpu_ms, 1),
            number(row.openfhe_cpu_ms, 1),
            number(row.cpu_ratio, 2),
            bits(row.native_precision_min_bits, row.native_precision_mean_bits),
            bits(row.openfhe_precision_min_bits, row.openfhe_precision_mean_bits),
        ]);
    }
    let mut text = format!("# {title}\n\n{NOTE}\n\n{}", table.markdown());
    for row in rows {
        let sides = [
            ("native", row.native_levels_between_bootstraps),
            ("OpenFHE", row.openfhe_levels_between_bootstraps),
        ];
        for (side, levels) in sides {
            if let Some(levels) = levels {
                text += &format!("\n{side}: {levels} levels between two bootstraps.\n");
            }
        }
    }
    text
}

/// Bars of both sides, one pair an operation, each pair as shares of its longer bar.
///
/// # Errors
/// [`crate::contract::Error::Foreign`] when it cannot be drawn.
pub fn comparison_chart(title: &str, rows: &[ComparisonRow]) -> Result<String> {
    let pair = |row: &ComparisonRow| {
        let sides = [("native", row.native_ms), ("OpenFHE", row.openfhe_ms)];
        let measured = sides.into_iter().filter_map(|(side, time)| Some((side, time?)));
        let longest = measured.clone().map(|(_, time)| time).fold(f64::MIN_POSITIVE, f64::max);
        Bars {
            name: format!("{}, {} limbs", row.op.name(), row.limbs),
            bars: measured.map(|(side, time)| (time / longest, format!("{side} {time:.1} ms"))).collect(),
        }
    };
    let groups: Vec<Bars> = rows.iter().map(pair).collect();
    bar_chart(title, "share of the slower side's median", Scale::Linear, &groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmarks::comparison::{Operation, OperationSamples};
    use crate::benchmarks::comparison_rows::{Side, Turns};

    #[test]
    fn a_side_that_was_not_measured_shows_as_a_dash_and_has_no_bar() {
        let mut turns = Turns::default();
        let samples = OperationSamples {
            op: Operation::Rotate,
            limbs: 20,
            milliseconds: vec![99.0, 100.0, 101.0],
            cpu_milliseconds: vec![98.0],
            precision_min_bits: 30.0,
            precision_mean_bits: 32.0,
            levels_between_bootstraps: Some(13),
            peak_bytes: None,
        };
        turns.add(Side::Native, vec![samples]);
        let table = comparison_markdown("test", &turns.rows());
        let line = table.lines().find(|line| line.contains("rotate")).unwrap();
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        assert_eq!(
            cells[1..11],
            ["rotate", "20", "100.0", "–", "–", "98.0", "–", "–", "30.0 / 32.0", "–"],
            "{table}"
        );
        assert!(table.contains("native: 13 levels") && !table.contains("OpenFHE: "), "{table}");
        let chart = comparison_chart("test", &turns.rows()).unwrap();
        assert!(chart.contains("native 100.0") && !chart.contains("OpenFHE 1"), "{chart}");
    }
}
