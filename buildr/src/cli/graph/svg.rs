//! The drawing as an image: layers from left to right, a box for each job.

use std::fmt::Write as _;

use console::measure_text_width;

use super::boxes::{Boxes, JobBox};

/// All in pixels, for a font of fixed width.
const CHARACTER: usize = 8;
const LINE: usize = 20;
const PADDING: usize = 12;
const BETWEEN_LAYERS: usize = 56;
const BETWEEN_JOBS: usize = 24;
const MARGIN: usize = 16;

/// Where a box is.
#[derive(Clone, Copy, Default)]
struct Place {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

/// One text of a box, and the class that it is of.
struct Line {
    text: String,
    class: &'static str,
}

const STYLE: &str = "\
text{font:13px ui-monospace,monospace;fill:#24292f}.title{font-weight:bold}.note,.skipped{fill:#6e7781}\
.skipped{text-decoration:line-through}rect{fill:#f6f8fa;stroke:#8c959f;rx:6px}path{fill:none;stroke:#8c959f;\
stroke-width:1.5}marker path{fill:#8c959f;stroke:none}@media(prefers-color-scheme:dark){text{fill:#e6edf3}\
rect{fill:#161b22}.note,.skipped{fill:#8d96a0}}";

/// An SVG document.
pub(super) fn written(boxes: &Boxes) -> String {
    let lines: Vec<Vec<Line>> = boxes.0.iter().map(lines).collect();
    let (places, width, height) = arranged(boxes, &lines);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\"><title>jobs and stages</title>\n<style>{STYLE}</style>\n\
         <defs><marker id=\"end\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" \
         orient=\"auto\"><path d=\"M0 0L8 4L0 8z\"/></marker></defs>\n"
    );
    // Written into a String, nothing here fails.
    for (to, job) in boxes.0.iter().enumerate() {
        for &from in &job.after {
            writeln!(text, "{}", edge(places[from], places[to])).ok();
        }
    }
    for (place, lines) in places.iter().zip(&lines) {
        let Place { x, y, width, height } = place;
        writeln!(text, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>").ok();
        for (number, line) in lines.iter().enumerate() {
            let (x, y) = (x + PADDING, y + PADDING + number * LINE + LINE * 3 / 4);
            writeln!(text, "<text x=\"{x}\" y=\"{y}\" class=\"{}\">{}</text>", line.class, escaped(&line.text)).ok();
        }
    }
    text + "</svg>\n"
}

fn lines(job: &JobBox) -> Vec<Line> {
    let mut lines = vec![Line { text: job.title.clone(), class: "title" }];
    lines.extend(job.notes.iter().map(|note| Line { text: note.clone(), class: "note" }));
    for row in job.told_rows() {
        let names: Vec<&str> = row.iter().map(|stage| stage.name.as_str()).collect();
        let class = if row.iter().all(|stage| stage.skipped) { "skipped" } else { "stage" };
        lines.push(Line { text: names.join(" | "), class });
    }
    lines
}

/// Where each box is, and how wide and high all of it is.
fn arranged(boxes: &Boxes, lines: &[Vec<Line>]) -> (Vec<Place>, usize, usize) {
    let mut places = vec![Place::default(); boxes.0.len()];
    let (mut x, mut bottom) = (MARGIN, MARGIN);
    for layer in boxes.layers() {
        let size = |at: usize| {
            let widest = lines[at].iter().map(|line| measure_text_width(&line.text)).max().unwrap_or(0);
            (widest * CHARACTER + 2 * PADDING, lines[at].len() * LINE + 2 * PADDING)
        };
        let widest = layer.iter().map(|&at| size(at).0).max().unwrap_or(0);
        let mut y = MARGIN;
        for at in layer {
            let (width, height) = size(at);
            places[at] = Place { x, y, width, height };
            y += height + BETWEEN_JOBS;
        }
        bottom = bottom.max(y.saturating_sub(BETWEEN_JOBS));
        x += widest + BETWEEN_LAYERS;
    }
    (places, x.saturating_sub(BETWEEN_LAYERS) + MARGIN, bottom + MARGIN)
}

/// A curve from the right side of a box to the left side of another.
fn edge(from: Place, to: Place) -> String {
    let (x1, y1) = (from.x + from.width, from.y + from.height / 2);
    let (x2, y2) = (to.x, to.y + to.height / 2);
    let bend = (x2.saturating_sub(x1) / 2).max(16);
    format!(
        "<path d=\"M{x1} {y1}C{} {y1} {} {y2} {x2} {y2}\" marker-end=\"url(#end)\"/>",
        x1 + bend,
        x2.saturating_sub(bend)
    )
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}
