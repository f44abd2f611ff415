//! The plot: a panel for each measure, a line for each daemon.

use std::path::Path;

use anyhow::anyhow;
use plotters::prelude::*;

use crate::samples::{Measure, Series};

/// Points of a line: more than this is not seen, and makes the file large.
const POINTS_MAX: usize = 180;

const COLOURS: [RGBColor; 6] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 39, 40),
    RGBColor(44, 160, 44),
    RGBColor(148, 103, 189),
    RGBColor(255, 127, 14),
    RGBColor(23, 190, 207),
];

/// Draws all series into an SVG file.
pub(crate) fn draw(path: &Path, series: &[Series]) -> anyhow::Result<()> {
    let root = SVGBackend::new(path, (860, 840)).into_drawing_area();
    root.fill(&WHITE).map_err(failed)?;
    for (area, measure) in root.split_evenly((Measure::ALL.len(), 1)).iter().zip(Measure::ALL) {
        let lines: Vec<_> = series.iter().filter(|series| series.measure == measure).collect();
        let points = || lines.iter().flat_map(|line| &line.points);
        let end = points().map(|(at, _)| at / 60.0).fold(0.1, f64::max);
        let most = points().map(|(_, value)| *value).fold(1.0, f64::max);
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .caption(measure.title(), ("sans-serif", 16))
            .x_label_area_size(36)
            .y_label_area_size(48)
            .build_cartesian_2d(0.0..end, 0.0..most * 1.1)
            .map_err(failed)?;
        let mut mesh = chart.configure_mesh();
        mesh.disable_x_mesh().light_line_style(TRANSPARENT).x_desc("minutes").draw().map_err(failed)?;
        for (line, colour) in lines.iter().zip(COLOURS.into_iter().cycle()) {
            let every = line.points.len().div_ceil(POINTS_MAX).max(1);
            let points = line.points.iter().step_by(every).map(|(at, value)| (at / 60.0, *value));
            chart
                .draw_series(LineSeries::new(points, &colour))
                .map_err(failed)?
                .label(&line.daemon)
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 14, y)], colour));
        }
        let mut legend = chart.configure_series_labels();
        legend.position(SeriesLabelPosition::LowerRight).background_style(WHITE.mix(0.8)).draw().map_err(failed)?;
    }
    root.present().map_err(failed)
}

/// Errors of the library borrow what they draw on.
fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("the plot: {error}")
}
