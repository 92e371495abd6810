//! A plan for people, as one self-contained HTML page that draws the level of every value.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::plan::{LayerPlan, Plan};

/// `text`, safe inside HTML.
#[must_use]
pub fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// One page with an SVG of every distinct layer: operations from left to right, each a bar from the level at which it
/// runs to the one it leaves at; every value a line at its level while it is alive; bootstraps as arrows; names and
/// seconds on hover. It refers to nothing outside itself.
#[must_use]
pub fn html_page(plan: &Plan) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Bootstrapping plan</title><style>\
         body{{font:14px sans-serif;margin:24px;color:#222}}svg{{display:block;margin:8px 0 28px}}\
         text{{font-size:11px;fill:#333}}.grid{{stroke:#e4e4e4}}.run{{stroke:#2868b0;stroke-width:7}}\
         .value{{stroke:#8aa68c;stroke-width:3;opacity:.8}}.boot{{stroke:#c8432b;stroke-width:3}}.head{{fill:#c8432b}}</style></head><body>\
         <h1>{} on {} under {}</h1><p>{} layers, {} bootstraps, {:.1} s predicted for a token. \
         Green: a value, at its level from where it is written to where it is read last. Blue: an operation, from the \
         level it runs at to the level it leaves at. Red: a bootstrap. Hover for names and seconds.</p>",
        escape_html(&plan.target.model),
        escape_html(&plan.target.backend),
        escape_html(&plan.target.preset),
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

/// Distance of two operations, in pixels.
const STEP: usize = 48;
/// Distance of two levels.
const ROW: usize = 20;

/// Left end of an operation.
fn left(step: usize) -> usize {
    52 + step * STEP
}

/// A value at one level, between two steps; beyond the layer where there is none.
struct Line<'a> {
    value: &'a str,
    level: usize,
    from: Option<usize>,
    to: Option<usize>,
}

/// Every value of a layer while it is alive: from the step that writes it to the last that reads it, in pieces between
/// which it was bootstrapped.
fn lines(layer: &LayerPlan) -> Vec<Line<'_>> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    // Index of the piece at which each value stands.
    let mut open: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, step) in layer.steps.iter().enumerate() {
        for bootstrap in &step.bootstraps {
            for (value, from) in bootstrap.values.iter().zip(&bootstrap.from) {
                let known = open.get(value.as_str()).and_then(|at| lines.get_mut(*at));
                match known {
                    Some(line) => line.to = Some(index),
                    None => lines.push(Line { value, level: from.0, from: None, to: Some(index) }),
                }
                open.insert(value, lines.len());
                lines.push(Line { value, level: bootstrap.to.0, from: Some(index), to: Some(index) });
            }
        }
        for (value, level) in &step.inputs {
            match open.get(value.as_str()).and_then(|at| lines.get_mut(*at)) {
                Some(line) => line.to = Some(index),
                None => {
                    open.insert(value, lines.len());
                    lines.push(Line { value, level: level.0, from: None, to: Some(index) });
                }
            }
        }
        for (value, level) in &step.outputs {
            open.insert(value, lines.len());
            // Read by nothing so far: it may be what leaves the layer.
            lines.push(Line { value, level: level.0, from: Some(index), to: None });
        }
    }
    lines
}

fn drawing(layer: &LayerPlan) -> String {
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
    for line in lines(layer) {
        let (from, to) = (line.from.map_or(34, left), line.to.map_or(width, left));
        let at = y(line.level);
        let _ = write!(
            svg,
            "<line class=\"value\" x1=\"{from}\" x2=\"{to}\" y1=\"{at}\" y2=\"{at}\"><title>{} at level {}</title></line>",
            escape_html(line.value),
            line.level
        );
    }
    for (index, step) in layer.steps.iter().enumerate() {
        let x = left(index);
        let lowest = step.outputs.iter().map(|(_, level)| level.0).min().unwrap_or(step.level.0);
        let _ = write!(
            svg,
            "<line class=\"run\" x1=\"{x}\" x2=\"{}\" y1=\"{}\" y2=\"{}\"><title>{}: level {} to {}, {:.3} s</title></line>",
            x + 22,
            y(step.level.0),
            y(lowest),
            escape_html(&step.operation),
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
                escape_html(&bootstrap.values.join(" + i ")),
                bootstrap.to,
                bootstrap.seconds
            );
        }
        let _ = write!(
            svg,
            "<text transform=\"translate({x} {}) rotate(60)\">{}</text>",
            y(0) + 16,
            escape_html(&step.operation)
        );
    }
    svg.push_str("</svg>");
    svg
}

#[cfg(test)]
mod tests {
    use super::super::plan::{PlanBootstrap, PlanStep};
    use super::super::{PlanTarget, html_page};
    use super::*;
    use crate::contract::Level;

    fn layer() -> LayerPlan {
        let named = |name: &str, level| (name.to_owned(), Level(level));
        let step = |operation: &str, level, inputs, outputs, bootstraps| PlanStep {
            operation: operation.to_owned(),
            level: Level(level),
            inputs,
            outputs,
            seconds: 1.5,
            bootstraps,
        };
        let refresh = PlanBootstrap {
            values: vec!["x".to_owned()],
            from: vec![Level(1)],
            to: Level(5),
            bootstraps: 1,
            seconds: 20.0,
        };
        LayerPlan {
            name: "layer".to_owned(),
            entry_level: Level(1),
            exit_level: Level(3),
            seconds: 23.0,
            steps: vec![
                step("<first>", 1, vec![named("x", 1)], vec![named("y", 0)], vec![]),
                step("second", 4, vec![named("x", 5)], vec![named("z", 3)], vec![refresh]),
            ],
        }
    }

    #[test]
    fn every_value_has_a_line_at_each_level_it_stands_at() {
        let layer = layer();
        let found: Vec<_> =
            lines(&layer).into_iter().map(|line| (line.value, line.level, line.from, line.to)).collect();
        let wanted = [
            ("x", 1, None, Some(1)),
            ("y", 0, Some(0), None),
            ("x", 5, Some(1), Some(1)),
            ("z", 3, Some(1), None),
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn the_page_refers_to_nothing_outside_itself_and_escapes_names() {
        let target =
            PlanTarget { model: "a&b".to_owned(), preset: "n16".to_owned(), backend: "native".to_owned() };
        let plan = Plan::of_layers(target, vec![layer(), layer()]);
        let page = html_page(&plan);
        for outside in ["http", "src=", "href", "url(", "@import"] {
            assert!(!page.contains(outside), "{outside} in {page}");
        }
        assert!(
            page.contains("a&amp;b") && page.contains("&lt;first&gt;") && !page.contains("<first>"),
            "{page}"
        );
        assert!(page.contains("Layer 0 and 1 equal ones"), "{page}");
        for tag in ["svg", "line", "g", "title", "h2", "body"] {
            let (opened, closed) =
                (page.matches(&format!("<{tag}")).count(), page.matches(&format!("</{tag}>")).count());
            let alone = if tag == "line" { page.matches("/>").count() } else { 0 };
            assert!(opened <= closed + alone && opened > 0, "{tag}: {opened} opened, {closed} closed");
        }
    }
}
