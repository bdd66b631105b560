//! The drawing: two panels of plain SVG.

use std::fmt::Write;
use std::time::Duration;

use crate::Row;
use crate::limit;
use crate::measure::Measure;
use crate::policies::{INTERVAL, Kind};
use crate::scenario::Scenario;

/// The size and the place of the two plots, in units of the drawing.
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 220.0;
const TOP: f64 = 60.0;
const LEFT: [f64; 2] = [55.0, 530.0];

/// The width of one step in the left panel, in seconds.
const STEP: u64 = 60;

/// The axes of the left panel: the hour after the outage, and rates up to 2.5 times the limit.
const MINUTES: f64 = 60.0;
const MOST: f64 = 2.5;

/// The axes of the right panel: gaps up to 6 fair shares, and parts down to one in 100,000.
const SHARES: f64 = 6.0;
const DECADES: f64 = 5.0;

/// The sizes of the fleets in the drawing: within the limit, and beyond it.
const FITS: u32 = 800;
const TOO_MANY: u32 = 1_600;

/// The axes of one panel: maps values to coordinates.
struct Panel {
    left: f64,
    most: (f64, f64),
}

impl Panel {
    fn x(&self, value: f64) -> f64 {
        self.left + WIDTH * (value / self.most.0).min(1.0)
    }

    fn y(&self, value: f64) -> f64 {
        TOP + HEIGHT * (1.0 - (value / self.most.1).clamp(0.0, 1.0))
    }
}

/// Draws the fleet within the limit after an outage, and the gaps of the fleet beyond the limit.
pub(crate) fn draw(rows: &[Row]) -> String {
    let mut svg = String::from(concat!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 960 370\" ",
        "font-family=\"sans-serif\" font-size=\"12\">\n",
        "<rect width=\"960\" height=\"370\" fill=\"#fff\"/>\n",
    ));
    after_the_outage(&mut svg, rows);
    gaps(&mut svg, rows);
    for (kind, x) in Kind::ALL.into_iter().zip([55.0, 285.0, 530.0, 760.0]) {
        let points = format!("{x},350 {},350", x + 28.0);
        line(&mut svg, kind, &points);
        text(&mut svg, (x + 36.0, 354.0), "start", kind.name());
    }
    svg.push_str("</svg>\n");
    svg
}

fn after_the_outage(svg: &mut String, rows: &[Row]) {
    let panel = Panel { left: LEFT[0], most: (MINUTES, MOST) };
    let title = format!("{FITS} runners, back from an outage of 30 min: acknowledged per second");
    frame(svg, &panel, &title, "minutes after the outage");
    for minutes in [0.0, 15.0, 30.0, 45.0, 60.0] {
        x_tick(svg, &panel, minutes, &minutes.to_string());
    }
    for rate in [0.0, 0.5, 1.0, 1.5, 2.0, 2.5] {
        y_tick(svg, &panel, rate, &rate.to_string());
    }
    let limit = f64::from(limit::PER_SECOND);
    mark(svg, (panel.left, panel.y(limit)), (panel.x(MINUTES), panel.y(limit)));
    for (kind, measure) in played(rows, Scenario::Outage, FITS) {
        let mut points = String::new();
        let mut minute = 0.0;
        for rate in per_second(measure) {
            for edge in [minute, minute + 1.0] {
                point(&mut points, panel.x(edge), panel.y(rate));
            }
            minute += 1.0;
        }
        line(svg, kind, &points);
    }
}

fn gaps(svg: &mut String, rows: &[Row]) {
    let panel = Panel { left: LEFT[1], most: (SHARES, DECADES) };
    let title = format!("{TOO_MANY} runners, twice what fits: share of the gaps that are longer");
    let share = limit::fair_share(TOO_MANY, INTERVAL);
    let below = format!("gap between acknowledged heartbeats, in fair shares of {share:?}");
    frame(svg, &panel, &title, &below);
    for shares in 0..=6 {
        x_tick(svg, &panel, f64::from(shares), &shares.to_string());
    }
    let names = ["0.001 %", "0.01 %", "0.1 %", "1 %", "10 %", "100 %"];
    for (decade, name) in (0..=5).zip(names) {
        y_tick(svg, &panel, f64::from(decade), name);
    }
    mark(svg, (panel.x(2.0), TOP), (panel.x(2.0), TOP + HEIGHT));
    for (kind, measure) in played(rows, Scenario::Steady, TOO_MANY) {
        let mut points = String::new();
        for percent in 0..=100 {
            let gap = SHARES * f64::from(percent) / 100.0;
            let longer = share_longer_than(measure, share.mul_f64(gap));
            if longer > 0.0 {
                point(&mut points, panel.x(gap), panel.y(DECADES + longer.log10()));
            }
        }
        line(svg, kind, &points);
    }
}

fn played(rows: &[Row], scenario: Scenario, size: u32) -> impl Iterator<Item = (Kind, &Measure)> {
    let of_it = move |row: &&Row| row.scenario == scenario && row.size == size;
    rows.iter().filter(of_it).map(|row| (row.kind, &row.measure))
}

/// Acknowledged heartbeats per second, for each step.
fn per_second(measure: &Measure) -> Vec<f64> {
    let mut steps = vec![0.0; 60];
    for time in measure.acknowledged() {
        let step = usize::try_from(time.as_secs() / STEP).ok();
        if let Some(rate) = step.and_then(|step| steps.get_mut(step)) {
            *rate += 1.0 / Duration::from_secs(STEP).as_secs_f64();
        }
    }
    steps
}

fn share_longer_than(measure: &Measure, gap: Duration) -> f64 {
    let gaps = measure.gaps();
    let longer = gaps.len() - gaps.partition_point(|found| *found <= gap);
    let count = |number: usize| u32::try_from(number).map_or(f64::INFINITY, f64::from);
    count(longer) / count(gaps.len().max(1))
}

fn frame(svg: &mut String, panel: &Panel, title: &str, below: &str) {
    let middle = panel.left + WIDTH / 2.0;
    text(svg, (panel.left, TOP - 22.0), "start", title);
    text(svg, (middle, TOP + HEIGHT + 38.0), "middle", below);
}

fn x_tick(svg: &mut String, panel: &Panel, value: f64, name: &str) {
    text(svg, (panel.x(value), TOP + HEIGHT + 18.0), "middle", name);
}

fn y_tick(svg: &mut String, panel: &Panel, value: f64, name: &str) {
    let (from, to, y) = (panel.left, panel.left + WIDTH, panel.y(value));
    push(svg, format_args!("<path d=\"M{from},{y:.1}H{to}\" stroke=\"#ddd\"/>\n"));
    text(svg, (panel.left - 8.0, y + 4.0), "end", name);
}

/// A dashed line for a limit.
fn mark(svg: &mut String, from: (f64, f64), to: (f64, f64)) {
    let path = format_args!(
        "<path d=\"M{:.1},{:.1}L{:.1},{:.1}\" stroke=\"#222\" stroke-dasharray=\"5 4\"/>\n",
        from.0, from.1, to.0, to.1
    );
    push(svg, path);
}

fn line(svg: &mut String, kind: Kind, points: &str) {
    let (colour, width) = match kind {
        Kind::Tick => ("#999999", 1.5),
        Kind::SdkTick => ("#d98200", 1.5),
        Kind::FullJitter => ("#2a78c8", 1.5),
        Kind::Taskbeat | Kind::Scaled => ("#0a8a4a", 2.5),
    };
    let stroke = format!("stroke=\"{colour}\" stroke-width=\"{width}\"");
    push(svg, format_args!("<polyline points=\"{points}\" fill=\"none\" {stroke}/>\n"));
}

fn text(svg: &mut String, at: (f64, f64), anchor: &str, words: &str) {
    let (x, y) = at;
    let text =
        format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>\n");
    push(svg, text);
}

fn point(points: &mut String, x: f64, y: f64) {
    push(points, format_args!("{x:.1},{y:.1} "));
}

/// Appends to a string, which cannot fail.
fn push(to: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = to.write_fmt(text);
}
