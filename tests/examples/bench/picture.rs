//! Curves as pictures: SVG text with both scales logarithmic, so that what grows with the work alone is a level line.

use std::fmt::Write as _;

use crate::curves::Curve;
use crate::table::short;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
/// Around the field: left, right, top, bottom.
const EDGE: [f64; 4] = [64.0, 16.0, 40.0, 48.0];
const COLORS: [&str; 3] = ["#1f6feb", "#bf5700", "#1a7f37"];

/// A scale from one power of ten to another.
struct Scale {
    from: f64,
    to: f64,
    /// Where the two lie.
    place: (f64, f64),
}

impl Scale {
    fn over(values: impl Iterator<Item = f64> + Clone, place: (f64, f64)) -> Self {
        let logs = values.filter(|value| *value > 0.0).map(f64::log10);
        let from = logs.clone().fold(f64::INFINITY, f64::min).floor();
        let to = logs.fold(f64::NEG_INFINITY, f64::max).ceil();
        if from.is_finite() && to > from { Self { from, to, place } } else { Self { from: 0.0, to: 1.0, place } }
    }

    fn at(&self, value: f64) -> f64 {
        let part = (value.max(f64::MIN_POSITIVE).log10().max(self.from) - self.from) / (self.to - self.from);
        self.place.0 + part * (self.place.1 - self.place.0)
    }

    fn powers(&self) -> impl Iterator<Item = f64> {
        let (from, to) = (self.from, self.to);
        (0..20)
            .map(move |step| from + f64::from(step))
            .take_while(move |power| *power <= to)
            .map(|power| 10_f64.powf(power))
    }
}

/// The picture.
pub(crate) fn svg(curve: &Curve) -> String {
    let [left, right, top, bottom] = EDGE;
    let points = || curve.lines.iter().flat_map(|(_, points)| points.iter());
    let across = Scale::over(points().map(|point| point.0), (left, WIDTH - right));
    let up = Scale::over(points().map(|point| point.1), (HEIGHT - bottom, top));
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{left}\" y=\"20\" font-size=\"14\">{}</text>\n",
        escaped(&curve.title)
    );
    let mut line = |line: std::fmt::Arguments<'_>| {
        // A String takes all that is written to it.
        writeln!(text, "{line}").ok();
    };
    for x in across.powers() {
        let at = across.at(x);
        line(format_args!("<path d=\"M{at:.1} {top}V{:.1}\" stroke=\"#ddd\"/>", HEIGHT - bottom));
        line(format_args!(
            "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - bottom + 16.0,
            round(x)
        ));
    }
    for y in up.powers() {
        let at = up.at(y);
        line(format_args!("<path d=\"M{left} {at:.1}H{:.1}\" stroke=\"#ddd\"/>", WIDTH - right));
        line(format_args!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 6.0,
            at + 4.0,
            round(y)
        ));
    }
    line(format_args!(
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
        WIDTH - right,
        HEIGHT - 10.0,
        escaped(&curve.x)
    ));
    line(format_args!("<text x=\"{left}\" y=\"{:.1}\">{}</text>", top - 6.0, escaped(&curve.y)));
    let mut names = String::new();
    for ((name, points), color) in curve.lines.iter().zip(COLORS) {
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{:.1} {:.1}", across.at(*x), up.at(*y))).collect();
        line(format_args!("<path d=\"M{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>", path.join("L")));
        for (x, y) in points {
            let (cx, cy) = (across.at(*x), up.at(*y));
            line(format_args!(
                "<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3\" fill=\"{color}\"><title>{}: {}</title></circle>",
                round(*x),
                short(*y)
            ));
        }
        names.push_str(&format!("<tspan fill=\"{color}\" dx=\"12\">{}</tspan>", escaped(name)));
    }
    // Above the field, where no line runs through them.
    line(format_args!(
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"11\">{names}</text>",
        WIDTH - right,
        top - 6.0
    ));
    text.push_str("</svg>\n");
    text
}

/// A number of things, by its first three digits: `10k`, `553M`.
pub(crate) fn round(number: f64) -> String {
    let (number, unit) = match number {
        n if n >= 999.5e6 => (n / 1e9, "G"),
        n if n >= 999.5e3 => (n / 1e6, "M"),
        n if n >= 999.5 => (n / 1e3, "k"),
        n => (n, ""),
    };
    let text = short(number);
    let digits = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{digits}{unit}")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (number, expect) in [
            (1.0, "1"),
            (0.001, "0.001"),
            (1_022.0, "1.02k"),
            (10_022.0, "10k"),
            (553.5e6, "554M"),
            (1e9, "1G"),
            (0.0, "0"),
        ] {
            assert_eq!(round(number), expect);
        }
    }
}
