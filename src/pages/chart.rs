//! Charts as SVG text.

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::contract::{Error, Result};

/// One line of a chart: its name and points.
pub struct Series {
    /// Name in the legend.
    pub name: &'static str,
    /// x and y; points that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// A group of horizontal bars under one name.
pub struct Bars {
    /// Name at the left.
    pub name: String,
    /// Length of each bar, and the text beside it.
    pub bars: Vec<(f64, String)>,
}

/// How lengths of bars are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// From 0.
    Linear,
    /// Logarithmic, from 1; shorter bars have no length.
    Logarithmic,
}

/// Width of charts in pixels.
const WIDTH: u32 = 760;
/// Height of a chart of lines.
const LINES_HEIGHT: u32 = 260;
/// Height of one bar.
const BAR_HEIGHT: u32 = 26;

/// A drawing of `size` pixels as SVG text.
///
/// # Errors
/// [`Error::Foreign`] with what plotters says.
pub(super) fn drawing<F>(size: (u32, u32), draw: F) -> Result<String>
where
    F: FnOnce(&DrawingArea<SVGBackend<'_>, Shift>) -> std::result::Result<(), Box<dyn std::error::Error>>,
{
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    let drawn = area
        .fill(&WHITE)
        .map_err(Box::from)
        .and_then(|()| draw(&area))
        .and_then(|()| area.present().map_err(Box::from));
    drop(area);
    drawn.map_err(|error: Box<dyn std::error::Error>| Error::Foreign {
        library: "plotters",
        message: error.to_string(),
        remedy: "leave the drawing out".to_owned(),
    })?;
    Ok(svg)
}

/// A chart of `series` with a title and names of the axes; an empty text without any finite point.
///
/// # Errors
/// [`Error::Foreign`] with what plotters says.
pub fn line_chart(title: &str, axes: (&str, &str), series: &[Series]) -> Result<String> {
    let finite = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
        points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect()
    };
    let all: Vec<(f64, f64)> = series.iter().flat_map(|series| finite(&series.points)).collect();
    if all.is_empty() {
        return Ok(String::new());
    }
    // A line of one point still has an area around it.
    let range = |value: fn(&(f64, f64)) -> f64| {
        let low = all.iter().map(value).fold(f64::INFINITY, f64::min);
        let high = all.iter().map(value).fold(f64::NEG_INFINITY, f64::max);
        let margin = 0.06f64.mul_add(high - low, if high > low { 0.0 } else { 0.5 });
        low - margin..high + margin
    };
    drawing((WIDTH, LINES_HEIGHT), |area| {
        let mut chart = ChartBuilder::on(area)
            .caption(title, ("sans-serif", 16))
            .margin(8)
            .x_label_area_size(36)
            .y_label_area_size(56)
            .build_cartesian_2d(range(|point| point.0), range(|point| point.1))?;
        chart.configure_mesh().x_desc(axes.0).y_desc(axes.1).light_line_style(WHITE).draw()?;
        for (index, series) in series.iter().enumerate() {
            let color = Palette99::pick(index).to_rgba();
            let points = finite(&series.points);
            chart
                .draw_series(LineSeries::new(points.iter().copied(), color))?
                .label(series.name)
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], color));
            chart.draw_series(points.iter().map(|point| Circle::new(*point, 2, color.filled())))?;
        }
        chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK).draw()?;
        Ok(())
    })
}

/// Horizontal bars, group by group from the top, each bar of a group in a color of its own. Lengths that are not
/// finite have no bar.
///
/// # Errors
/// [`Error::Foreign`] with what plotters says.
pub fn bar_chart(title: &str, unit: &str, scale: Scale, groups: &[Bars]) -> Result<String> {
    let length = |value: f64| match scale {
        Scale::Linear => value,
        // Not `max`, which would make a bar of what is not a number.
        Scale::Logarithmic => value.clamp(1.0, f64::INFINITY).log10(),
    };
    let finite = groups.iter().flat_map(|group| &group.bars).map(|(value, _)| length(*value));
    let longest = finite.filter(|length| length.is_finite()).fold(f64::MIN_POSITIVE, f64::max);
    let rows: usize = groups.iter().map(|group| group.bars.len().max(1)).sum();
    let height = 80 + BAR_HEIGHT * u32::try_from(rows).unwrap_or(u32::MAX / 64);
    drawing((WIDTH, height), |area| {
        let mut chart = ChartBuilder::on(area)
            .caption(title, ("sans-serif", 15))
            .margin(8)
            .x_label_area_size(34)
            .y_label_area_size(150)
            // Room for the texts beside the bars.
            .build_cartesian_2d(0.0..1.35 * longest, 0.0..rows as f64)?;
        let tick = |x: &f64| match scale {
            Scale::Linear => format!("{x:.1}"),
            Scale::Logarithmic => format!("{:.0}", 10f64.powf(*x)),
        };
        chart.configure_mesh().disable_y_mesh().y_labels(0).x_label_formatter(&tick).x_desc(unit).draw()?;
        let mut top = rows as f64;
        for group in groups {
            let first = chart.backend_coord(&(0.0, top - 0.5));
            let name = Text::new(group.name.clone(), (first.0 - 146, first.1 - 7), ("sans-serif", 13));
            area.draw(&name)?;
            for (index, (value, text)) in group.bars.iter().enumerate() {
                let length = length(*value);
                if length.is_finite() {
                    let color = Palette99::pick(index).to_rgba();
                    let corners = [(0.0, top - 0.12), (length, top - 0.88)];
                    chart.draw_series([Rectangle::new(corners, color.filled())])?;
                    let end = chart.backend_coord(&(length, top - 0.5));
                    area.draw(&Text::new(text.clone(), (end.0 + 5, end.1 - 7), ("sans-serif", 12)))?;
                }
                top -= 1.0;
            }
            if group.bars.is_empty() {
                top -= 1.0;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_point_is_drawn_and_nothing_without_one() {
        let chart = |points: Vec<(f64, f64)>| {
            line_chart("bits", ("token", "bits"), &[Series { name: "rms", points }]).unwrap()
        };
        assert!(chart(vec![]).is_empty() && chart(vec![(0.0, f64::INFINITY)]).is_empty());
        let one = chart(vec![(0.0, 3.0)]);
        assert_eq!(one.matches("<circle").count(), 1, "{one}");
        let three = chart(vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 4.0), (3.0, 2.0)]);
        assert_eq!(three.matches("<circle").count(), 3, "{three}");
        assert!(three.starts_with("<svg") && three.contains("rms"), "{three}");
    }

    #[test]
    fn every_finite_bar_is_drawn_with_its_text() {
        let bars = |value: f64| Bars { name: "a < b".to_owned(), bars: vec![(value, "some".to_owned())] };
        let drawn = |scale, groups: &[Bars]| bar_chart("bars", "s", scale, groups).unwrap();
        let rectangles = |svg: &str| svg.matches("<rect").count();
        let without = rectangles(&drawn(Scale::Linear, &[bars(f64::NAN)]));
        for scale in [Scale::Linear, Scale::Logarithmic] {
            let svg = drawn(scale, &[bars(2.0), bars(2000.0), bars(f64::NAN)]);
            assert_eq!(rectangles(&svg), without + 2, "{svg}");
            assert_eq!(svg.matches("some").count(), 2, "{svg}");
            assert!(svg.contains("a &lt; b") && svg.trim_end().ends_with("</svg>"), "{svg}");
        }
        assert!(!drawn(Scale::Linear, &[]).is_empty());
    }
}
