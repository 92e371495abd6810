//! A comparison as Markdown and as SVG.

use std::fmt::Write;

use super::Row;

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

fn bits(worst: Option<f64>, mean: Option<f64>) -> String {
    match (worst, mean) {
        (None, None) => "–".to_owned(),
        _ => format!("{} / {}", number(worst, 1), number(mean, 1)),
    }
}

/// A table, one line an operation.
pub fn markdown(title: &str, rows: &[Row]) -> String {
    let mut text = format!(
        "# {title}\n\nMedians: elapsed time, and processor time of all threads (what a busy machine distorts least). Ratio: OpenFHE's \
         time over ours. Bits: −log2 of the error of the worst slot / mean over the slots.\n\n\
         | operation | limbs | native ms | OpenFHE ms | ratio | native CPU ms | OpenFHE CPU ms | CPU ratio | native bits | \
         OpenFHE bits |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
    );
    for row in rows {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            row.op.name(),
            row.limbs,
            number(row.native_ms, 1),
            number(row.openfhe_ms, 1),
            number(row.ratio, 2),
            number(row.native_cpu_ms, 1),
            number(row.openfhe_cpu_ms, 1),
            number(row.cpu_ratio, 2),
            bits(row.native_precision_min_bits, row.native_precision_mean_bits),
            bits(row.openfhe_precision_min_bits, row.openfhe_precision_mean_bits),
        );
    }
    for row in rows {
        let sides = [
            ("native", row.native_levels_between_bootstraps),
            ("OpenFHE", row.openfhe_levels_between_bootstraps),
        ];
        for (side, levels) in sides {
            if let Some(levels) = levels {
                let _ = writeln!(text, "\n{side}: {levels} levels between two bootstraps.");
            }
        }
    }
    text
}

/// Bars of both sides, one pair an operation, each pair scaled to its longer bar.
pub fn svg(title: &str, rows: &[Row]) -> String {
    const ROW: usize = 46;
    const LEFT: usize = 190;
    const BAR: f64 = 420.0;
    let height = 60 + ROW * rows.len();
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"760\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"15\">{title}</text>\n\
         <text x=\"12\" y=\"42\" fill=\"#666\">median milliseconds; each pair scaled to its longer bar</text>\n"
    );
    for (index, row) in rows.iter().enumerate() {
        let top = 60 + ROW * index;
        let _ =
            writeln!(text, "<text x=\"12\" y=\"{}\">{}, {} limbs</text>", top + 20, row.op.name(), row.limbs);
        let longest = row.native_ms.unwrap_or(0.0).max(row.openfhe_ms.unwrap_or(0.0));
        let bars = [("native", row.native_ms, "#2a7f62"), ("OpenFHE", row.openfhe_ms, "#9aa5b1")];
        for (line, (side, time, colour)) in bars.into_iter().enumerate() {
            let Some(time) = time else { continue };
            let width = if longest > 0.0 { BAR * time / longest } else { 0.0 };
            let y = top + 4 + 17 * line;
            let _ = writeln!(
                text,
                "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"14\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{}\">{side} {time:.1}</text>",
                LEFT as f64 + width + 5.0,
                y + 11,
            );
        }
    }
    text.push_str("</svg>\n");
    text
}

#[cfg(test)]
mod tests {
    use super::super::measure::Operation;
    use super::*;

    #[test]
    fn a_side_that_was_not_measured_shows_as_a_dash() {
        let row = Row {
            op: Operation::Rotate,
            limbs: 20,
            native_ms: Some(100.0),
            native_min_ms: Some(99.0),
            openfhe_ms: None,
            openfhe_min_ms: None,
            ratio: None,
            native_cpu_ms: Some(98.0),
            openfhe_cpu_ms: None,
            cpu_ratio: None,
            native_precision_min_bits: Some(30.0),
            openfhe_precision_min_bits: None,
            native_precision_mean_bits: Some(32.0),
            openfhe_precision_mean_bits: None,
            native_levels_between_bootstraps: Some(13),
            openfhe_levels_between_bootstraps: None,
            native_peak_bytes: None,
            openfhe_peak_bytes: None,
            samples: 3,
        };
        let table = markdown("test", std::slice::from_ref(&row));
        assert!(
            table.contains("| rotate | 20 | 100.0 | – | – | 98.0 | – | – | 30.0 / 32.0 | – |"),
            "{table}"
        );
        assert!(table.contains("native: 13 levels") && !table.contains("OpenFHE: "), "{table}");
        let drawing = svg("test", &[row]);
        assert!(drawing.contains("native 100.0") && !drawing.contains("OpenFHE"), "{drawing}");
    }
}
