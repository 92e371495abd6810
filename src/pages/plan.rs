//! A placement for people: a text table, and a page that draws the level of every value.

use std::collections::BTreeMap;

use maud::{Markup, html};
use plotters::prelude::*;

use super::chart::drawing;
use super::page::{page, svg};
use super::table::Table;
use crate::contract::Result;
use crate::placement::{LayerPlan, Plan, PlanStep};

/// The first `layers` layers of a placement as text: the level at which each operation runs and its results leave, its
/// seconds, and the bootstraps before it.
#[must_use]
pub fn plan_table(plan: &Plan, layers: usize) -> String {
    let mut text = String::new();
    for (index, layer) in plan.layers.iter().take(layers).enumerate() {
        text += &format!("layer {index}: {}\n", summary(layer));
        let header = ["  operation", "level", "results", "seconds", "bootstraps before it"];
        let mut table = Table::new(&header).with_text_column(2).with_text_column(4);
        for step in &layer.steps {
            let [operation, level, results, seconds, bootstraps] = cells(step);
            table.row([format!("  {operation}"), level, results, seconds, bootstraps]);
        }
        text += &table.to_string();
    }
    text
}

/// Levels, bootstraps and seconds of a layer in words.
fn summary(layer: &LayerPlan) -> String {
    format!(
        "enters at level {}, leaves at {}, {} bootstraps, {:.2} s",
        layer.entry_level,
        layer.exit_level,
        layer.bootstraps(),
        layer.seconds
    )
}

/// Operation, level, results with their levels, seconds, and bootstraps.
fn cells(step: &PlanStep) -> [String; 5] {
    let results: Vec<String> = step.outputs.iter().map(|(name, level)| format!("{name} {level}")).collect();
    let bootstraps: Vec<String> = step
        .bootstraps
        .iter()
        .map(|bootstrap| {
            let from: Vec<String> = bootstrap.from.iter().map(ToString::to_string).collect();
            let values = bootstrap.values.join(" + i ");
            format!("{values} {} -> {} ({:.2} s)", from.join(","), bootstrap.to, bootstrap.seconds)
        })
        .collect();
    [
        step.operation.clone(),
        step.level.to_string(),
        results.join(", "),
        format!("{:.3}", step.seconds),
        bootstraps.join(", "),
    ]
}

/// One page with a drawing and a table of every distinct layer. It refers to nothing outside itself.
///
/// # Errors
/// [`crate::contract::Error::Foreign`] when a layer cannot be drawn.
pub fn plan_page(plan: &Plan) -> Result<String> {
    let target = &plan.target;
    let mut layers: Vec<Markup> = Vec::new();
    let mut drawn: Vec<&LayerPlan> = Vec::new();
    for (index, layer) in plan.layers.iter().enumerate() {
        if drawn.contains(&layer) {
            continue;
        }
        let times = plan.layers.iter().filter(|other| *other == layer).count();
        let equal = if times > 1 { format!(" and {} equal ones", times - 1) } else { String::new() };
        layers.push(html! {
            h2 { "Layer " (index) (equal) ": " (summary(layer)) }
            (svg(&draw_layer(layer)?))
            (step_table(layer))
        });
        drawn.push(layer);
    }
    let body = html! {
        p {
            (target.model) " on " (target.backend) " under " (target.preset) ": " (plan.layers.len()) " layers, "
            (plan.bootstraps()) " bootstraps, " (format!("{:.1}", plan.seconds)) " s predicted for a token. "
            "Green: a value, at its level from where it is written to where it is read last. Blue: an operation, "
            "from the level it runs at to the level it leaves at. Red: a bootstrap."
        }
        @for layer in &layers { (layer) }
    };
    Ok(page("Bootstrapping placement", &body))
}

fn step_table(layer: &LayerPlan) -> Markup {
    html! {
        table {
            tr { @for name in ["operation", "level", "results", "seconds", "bootstraps before it"] { th { (name) } } }
            @for step in &layer.steps {
                tr { @for cell in cells(step) { td { (cell) } } }
            }
        }
    }
}

/// Width of one operation in pixels.
const STEP_WIDTH: u32 = 48;
/// Height of one level.
const LEVEL_HEIGHT: u32 = 20;
/// Room for the names of operations below the drawing.
const NAMES_HEIGHT: u32 = 170;

/// Operations from left to right, each a bar from the level at which it runs to the one it leaves at; every value a
/// line at its level while it is alive; bootstraps as arrows.
fn draw_layer(layer: &LayerPlan) -> Result<String> {
    let bootstrapped = layer.steps.iter().flat_map(|step| &step.bootstraps).map(|bootstrap| bootstrap.to.0);
    let top = layer.steps.iter().map(|step| step.level.0).chain(bootstrapped).max().unwrap_or(0);
    let pixels = |count: usize, each: u32| u32::try_from(count).unwrap_or(u32::MAX / 256) * each;
    let width = 60 + pixels(layer.steps.len() + 1, STEP_WIDTH);
    let height = pixels(top + 1, LEVEL_HEIGHT) + NAMES_HEIGHT;
    let steps = layer.steps.len() as f64;
    drawing((width, height), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(NAMES_HEIGHT - 20)
            .y_label_area_size(36)
            .build_cartesian_2d(-0.6..steps + 0.2, -0.5..top as f64 + 0.5)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(0)
            .y_labels(top + 1)
            .y_label_formatter(&|level| format!("{level:.0}"))
            .y_desc("level")
            .draw()?;
        for line in lines(layer) {
            let ends = [line.from.map_or(-0.6, |at| at as f64), line.to.map_or(steps, |at| at as f64)];
            let ends = ends.map(|x| (x, line.level as f64));
            chart.draw_series([PathElement::new(ends, GREEN_VALUE.stroke_width(3))])?;
            let [start, _] = ends.map(|end| chart.backend_coord(&end));
            area.draw(&Text::new(line.value.to_owned(), (start.0 + 3, start.1 - 9), ("sans-serif", 9)))?;
        }
        for (index, step) in layer.steps.iter().enumerate() {
            let (x, level) = (index as f64, step.level.0 as f64);
            let lowest = step.outputs.iter().map(|(_, level)| level.0).min().unwrap_or(step.level.0) as f64;
            let run = [(x, level), (x + 0.45, lowest)];
            chart.draw_series([PathElement::new(run, BLUE_OPERATION.stroke_width(7))])?;
            for (place, bootstrap) in step.bootstraps.iter().enumerate() {
                let at = x - 0.12 * (place + 1) as f64;
                let from = bootstrap.from.iter().map(|level| level.0).min().unwrap_or(0) as f64;
                let tip = bootstrap.to.0 as f64;
                chart.draw_series([PathElement::new(
                    [(at, from), (at, tip)],
                    RED_BOOTSTRAP.stroke_width(3),
                )])?;
                chart.draw_series([TriangleMarker::new((at, tip), 5, RED_BOOTSTRAP.filled())])?;
            }
            let (left, bottom) = chart.backend_coord(&(x, -0.5));
            let style = ("sans-serif", 11).into_font().transform(FontTransform::Rotate90);
            area.draw(&Text::new(step.operation.clone(), (left + 6, bottom + 8), style))?;
        }
        Ok(())
    })
}

const GREEN_VALUE: RGBColor = RGBColor(138, 166, 140);
const BLUE_OPERATION: RGBColor = RGBColor(40, 104, 176);
const RED_BOOTSTRAP: RGBColor = RGBColor(200, 67, 43);

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Level;
    use crate::placement::{PlanBootstrap, PlanTarget};

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
        let page = plan_page(&plan).unwrap();
        let inside = page.replace("http://www.w3.org/2000/svg", "");
        for outside in ["http", "src=", "href", "url(", "@import"] {
            assert!(!inside.contains(outside), "{outside} in {page}");
        }
        assert!(
            page.contains("a&amp;b") && page.contains("&lt;first&gt;") && !page.contains("<first>"),
            "{page}"
        );
        assert!(page.contains("Layer 0 and 1 equal ones"), "{page}");
        // Four lines of values, two operations, one bootstrap with its tip; the axes are lines and polylines as well.
        assert_eq!(page.matches("<polyline").count(), 4 + 2 + 1 + axes(&page), "{page}");
        assert_eq!(page.matches("<polygon").count(), 1, "{page}");
        assert!(page.contains("x 1 -&gt; 5 (20.00 s)"), "{page}");
    }

    /// Polylines of the axes: those in black.
    fn axes(page: &str) -> usize {
        page.split("<polyline").skip(1).filter(|line| line.contains("stroke=\"#000000\"")).count()
    }

    #[test]
    fn the_text_has_a_line_a_step_with_its_bootstraps() {
        let target =
            PlanTarget { model: "m".to_owned(), preset: "n16".to_owned(), backend: "native".to_owned() };
        let text = plan_table(&Plan::of_layers(target, vec![layer(), layer()]), 1);
        assert_eq!(text.lines().count(), 2 + 2, "{text}");
        assert!(text.contains("x 1 -> 5 (20.00 s)") && text.contains("z 3"), "{text}");
    }
}
