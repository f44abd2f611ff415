//! The plot: how many hosts are done, how much is out, and how rare the rarest piece is, over time.

use std::path::Path;

use anyhow::anyhow;
use plotters::prelude::*;

use super::{Fleet, State};

const BLUE: RGBColor = RGBColor(31, 119, 180);
const RED: RGBColor = RGBColor(214, 39, 40);

/// A panel: its title, and its lines with their names and colours.
type Panel<'a> = (&'a str, Vec<(&'a str, RGBColor, Vec<(f64, f64)>)>);

/// Draws a run into an SVG file. Time is in multiples of the least time.
pub(super) fn draw(path: &Path, fleet: &Fleet, bound: f64, states: &[State]) -> anyhow::Result<()> {
    let line = |value: &dyn Fn(&State) -> f64| -> Vec<(f64, f64)> {
        states.iter().map(|state| (state.at.0.as_secs_f64() / bound, value(state))).collect()
    };
    let part = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
    let pieces = u64::from(fleet.pieces);
    let panels: [Panel; 3] = [
        (
            "completion: hosts that are done, and pieces held by all",
            vec![
                ("hosts", BLUE, line(&|state| part(state.done, state.hosts))),
                ("pieces", RED, line(&|state| part(state.held, state.hosts * pieces))),
            ],
        ),
        ("injection: pieces that somebody has", vec![("", BLUE, line(&|state| 1.0 - part(state.alone, pieces)))]),
        (
            "diversity: holders of the rarest piece, of all hosts",
            vec![("", BLUE, line(&|state| part(state.holders_least, state.hosts)))],
        ),
    ];
    let end = states.last().map_or(1.0, |state| state.at.0.as_secs_f64() / bound).max(0.1);
    let root = SVGBackend::new(path, (720, 620)).into_drawing_area();
    root.fill(&WHITE).map_err(failed)?;
    for (area, (title, lines)) in root.split_evenly((3, 1)).iter().zip(panels) {
        let mut chart = ChartBuilder::on(area)
            .margin(6)
            .caption(title, ("sans-serif", 14))
            .x_label_area_size(32)
            .y_label_area_size(40)
            .build_cartesian_2d(0.0..end, 0.0..1.05)
            .map_err(failed)?;
        let mut mesh = chart.configure_mesh();
        mesh.light_line_style(TRANSPARENT).x_desc("time / least time").y_labels(5).draw().map_err(failed)?;
        let is_named = lines.len() > 1;
        for (name, colour, points) in lines {
            let drawn = chart.draw_series(LineSeries::new(points, &colour)).map_err(failed)?;
            if is_named {
                drawn.label(name).legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 14, y)], colour));
            }
        }
        if is_named {
            let mut legend = chart.configure_series_labels();
            legend.position(SeriesLabelPosition::UpperLeft).background_style(WHITE.mix(0.8)).draw().map_err(failed)?;
        }
    }
    root.present().map_err(failed)
}

/// Errors of the library borrow what they draw on.
fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("the plot: {error}")
}
