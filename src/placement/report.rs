//! A plan for people: a text table, and one self-contained HTML page that draws the level of every value.

use std::fmt::Write as _;

use super::plan::{LayerPlan, Plan};

/// The plan as a text table of its first `layers` layers: level at which each operation runs and leaves, bootstraps
/// before it, seconds.
#[must_use]
pub fn text_table(plan: &Plan, layers: usize) -> String {
    let mut text = String::new();
    for (index, layer) in plan.layers.iter().take(layers).enumerate() {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "layer {index}: enters at level {}, leaves at {}, {} bootstraps, {:.2} s",
            layer.entry_level,
            layer.exit_level,
            layer.bootstraps(),
            layer.seconds
        );
        for step in &layer.steps {
            let outputs: Vec<String> =
                step.outputs.iter().map(|(name, level)| format!("{name} {level}")).collect();
            let _ = write!(
                text,
                "  {:<28} at {:>2} -> {:<44} {:>9.3} s",
                step.operation,
                step.level,
                outputs.join(", "),
                step.seconds
            );
            for bootstrap in &step.bootstraps {
                let from: Vec<String> = bootstrap.from.iter().map(ToString::to_string).collect();
                let _ = write!(
                    text,
                    "  bootstrap {} {} -> {} ({:.2} s)",
                    bootstrap.values.join(" + i "),
                    from.join(","),
                    bootstrap.to,
                    bootstrap.seconds
                );
            }
            text.push('\n');
        }
    }
    text
}

/// Text safe inside HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// One page with an SVG of every distinct layer: operations from left to right, each a bar from the level at which it
/// runs to the one it leaves at; bootstraps as arrows; seconds on hover.
#[must_use]
pub fn html_page(plan: &Plan) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Bootstrapping plan</title><style>\
         body{{font:14px sans-serif;margin:24px;color:#222}}svg{{display:block;margin:8px 0 28px}}\
         text{{font-size:11px;fill:#333}}.grid{{stroke:#e4e4e4}}.run{{stroke:#2868b0;stroke-width:7}}\
         .boot{{stroke:#c8432b;stroke-width:3}}.head{{fill:#c8432b}}</style></head><body>\
         <h1>{} on {} under {}</h1><p>{} layers, {} bootstraps, {:.1} s predicted for a token. \
         Blue: an operation, from the level it runs at to the level it leaves at. Red: a bootstrap. \
         Hover for seconds.</p>",
        escape(&plan.target.model),
        escape(&plan.target.backend),
        escape(&plan.target.preset),
        plan.layers.len(),
        plan.bootstraps(),
        plan.seconds
    );
    let mut drawn: Vec<&LayerPlan> = Vec::new();
    for (index, layer) in plan.layers.iter().enumerate() {
        if drawn.contains(&layer) {
            continue;
        }
        let times = plan.layers.iter().filter(|other| *other == layer).count();
        let _ = write!(
            page,
            "<h2>Layer {index}{}: {} bootstraps, {:.2} s</h2>",
            if times > 1 { format!(" and {} equal ones", times - 1) } else { String::new() },
            layer.bootstraps(),
            layer.seconds
        );
        page.push_str(&drawing(layer));
        drawn.push(layer);
    }
    page.push_str("</body></html>\n");
    page
}

fn drawing(layer: &LayerPlan) -> String {
    const STEP: usize = 48;
    const ROW: usize = 20;
    let top = layer
        .steps
        .iter()
        .flat_map(|step| step.bootstraps.iter().map(|bootstrap| bootstrap.to).chain([step.level]))
        .map(|level| level.0)
        .max()
        .unwrap_or(0);
    let y = |level: usize| 20 + (top - level.min(top)) * ROW;
    let (width, height) = (60 + layer.steps.len() * STEP, y(0) + 150);
    let mut svg = format!("<svg width=\"{width}\" height=\"{height}\" role=\"img\">");
    for level in 0..=top {
        let at = y(level);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"34\" x2=\"{width}\" y1=\"{at}\" y2=\"{at}\"/><text x=\"8\" y=\"{}\">{level}</text>",
            at + 4
        );
    }
    for (index, step) in layer.steps.iter().enumerate() {
        let x = 52 + index * STEP;
        let lowest = step.outputs.iter().map(|(_, level)| level.0).min().unwrap_or(step.level.0);
        let _ = write!(
            svg,
            "<line class=\"run\" x1=\"{x}\" x2=\"{}\" y1=\"{}\" y2=\"{}\"><title>{}: level {} to {}, {:.3} s</title></line>",
            x + 22,
            y(step.level.0),
            y(lowest),
            escape(&step.operation),
            step.level,
            lowest,
            step.seconds
        );
        for (place, bootstrap) in step.bootstraps.iter().enumerate() {
            let at = x.saturating_sub(6 + place * 6);
            let from = bootstrap.from.iter().map(|level| level.0).min().unwrap_or(0);
            let tip = y(bootstrap.to.0);
            let _ = write!(
                svg,
                "<g><line class=\"boot\" x1=\"{at}\" x2=\"{at}\" y1=\"{}\" y2=\"{tip}\"/>\
                 <path class=\"head\" d=\"M{} {} L{} {} L{at} {} Z\"/><title>bootstrap {}: level {from} to {}, {:.2} s</title></g>",
                y(from),
                at.saturating_sub(4),
                tip + 7,
                at + 4,
                tip + 7,
                tip.saturating_sub(2),
                escape(&bootstrap.values.join(" + i ")),
                bootstrap.to,
                bootstrap.seconds
            );
        }
        let _ = write!(
            svg,
            "<text transform=\"translate({x} {}) rotate(60)\">{}</text>",
            y(0) + 16,
            escape(&step.operation)
        );
    }
    svg.push_str("</svg>");
    svg
}
