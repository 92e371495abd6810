//! Line charts as SVG text.

use plotters::prelude::*;

/// One line of a chart: its name and points.
pub struct Series {
    /// As the legend says.
    pub name: &'static str,
    /// x and y; points that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// Width and height in pixels.
const SIZE: (u32, u32) = (760, 260);

/// A chart of `series` with a title and names of the axes, as one SVG element; an empty text without any point.
pub fn line_chart(title: &str, axes: (&str, &str), series: &[Series]) -> anyhow::Result<String> {
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
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
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
        area.present()?;
    }
    Ok(svg)
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
}
