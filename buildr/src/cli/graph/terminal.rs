//! The drawing for a terminal: boxes, a line of them for each layer.

use console::measure_text_width;
use protocol::plan::SkippedStage;

use super::super::look::{Look, Tone, clean};
use super::boxes::{Boxes, JobBox};

/// The widest drawing where the width is not known.
const USUAL_WIDTH: usize = 100;

/// The widest that a text in a box may be.
const WIDEST: usize = 48;

/// One job as lines of the same width.
struct Drawing {
    lines: Vec<String>,
    width: usize,
}

/// Boxes with arrows between their layers, and below them what is passed over.
pub(super) fn drawn(boxes: &Boxes, skipped: &[SkippedStage], look: &Look) -> String {
    let width = look.width.unwrap_or(USUAL_WIDTH);
    let layers = boxes.layers();
    let mut text = String::new();
    for (number, layer) in layers.iter().enumerate() {
        if number > 0 {
            text += &look.paint(Tone::Faint, "  ↓\n");
        }
        let drawings: Vec<Drawing> = layer.iter().map(|&at| job(&boxes.0[at], boxes, &layers, look)).collect();
        for line in packed(&drawings, width) {
            text += &side_by_side(&line);
        }
    }
    if boxes.0.is_empty() {
        text += "nothing would run\n";
    }
    for SkippedStage { stage, pipeline, reason } in skipped {
        let name = pipeline.as_ref().map(|pipeline| format!("{pipeline}/")).unwrap_or_default();
        let line = format!("– {name}{stage}: {reason}");
        text += &format!("{}\n", look.paint(Tone::Faint, &clean(&line)));
    }
    text
}

fn job(job: &JobBox, boxes: &Boxes, layers: &[Vec<usize>], look: &Look) -> Drawing {
    let mut inside: Vec<(Tone, String)> = Vec::new();
    inside.extend(job.notes.iter().map(|note| (Tone::Faint, note.clone())));
    let whole_layer = job.layer == 0 || layers[job.layer - 1] == job.after;
    if !whole_layer {
        let names: Vec<&str> = job.after.iter().map(|&at| boxes.0[at].title.as_str()).collect();
        inside.push((Tone::Faint, format!("after {}", names.join(", "))));
    }
    for row in &job.rows {
        let names: Vec<String> =
            row.iter().map(|it| if it.skipped { format!("– {}", it.name) } else { it.name.clone() }).collect();
        let all_skipped = row.iter().all(|stage| stage.skipped);
        inside.push((if all_skipped { Tone::Faint } else { Tone::Plain }, names.join(" │ ")));
    }
    let short = |text: &str| console::truncate_str(&clean(text), WIDEST, "…").into_owned();
    let title = short(&job.title);
    let inside: Vec<(Tone, String)> = inside.into_iter().map(|(tone, text)| (tone, short(&text))).collect();
    let widest = inside.iter().map(|(_, text)| measure_text_width(text)).max().unwrap_or(0);
    let width = widest.max(measure_text_width(&title) + 2);
    let rule = |count: usize| "─".repeat(count);
    let mut lines =
        vec![format!("┌ {} {}┐", look.paint(Tone::Strong, &title), rule(width - measure_text_width(&title)))];
    for (tone, text) in &inside {
        let gap = " ".repeat(width - measure_text_width(text));
        lines.push(format!("│ {}{gap} │", look.paint(*tone, text)));
    }
    lines.push(format!("└{}┘", rule(width + 2)));
    Drawing { lines, width: width + 4 }
}

/// As many side by side as the width has room for.
fn packed(drawings: &[Drawing], width: usize) -> Vec<Vec<&Drawing>> {
    let mut packed: Vec<Vec<&Drawing>> = Vec::new();
    let mut room = 0;
    for drawing in drawings {
        match packed.last_mut() {
            Some(line) if drawing.width < room => {
                room -= drawing.width + 1;
                line.push(drawing);
            }
            _ => {
                room = width.saturating_sub(drawing.width);
                packed.push(vec![drawing]);
            }
        }
    }
    packed
}

fn side_by_side(drawings: &[&Drawing]) -> String {
    let height = drawings.iter().map(|drawing| drawing.lines.len()).max().unwrap_or(0);
    let mut text = String::new();
    for number in 0..height {
        let mut line = String::new();
        for drawing in drawings {
            match drawing.lines.get(number) {
                Some(part) => line += part,
                None => line += &" ".repeat(drawing.width),
            }
            line.push(' ');
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::{dot, svg};
    use super::*;
    use crate::plan::{Facts, compile_one};
    use insta::assert_snapshot;
    use protocol::job::TriggerKind;

    const TEXT: &str = "\
stages: [build, [unit, [lint]], package, deploy]
build: {script: x}
unit: {script: x, matrix: {v: ['1', '2']}, agent: gpu}
lint: {script: x}
package: {script: x, when: {branch: other}}
deploy: {script: x, manual: true, needs: [unit, lint], concurrency: prod}
finally: {script: x}
";

    fn planned(text: &str) -> crate::plan::Planned {
        let manifest = crate::manifest::read(text.as_bytes(), ".buildr.yml").unwrap_or_else(|e| panic!("{e}")).manifest;
        let facts = Facts::of_branch(TriggerKind::Local, "main".parse().unwrap());
        compile_one(&manifest, &facts).unwrap_or_else(|e| panic!("{e}"))
    }

    fn terminal(text: &str, width: Option<usize>) -> String {
        let planned = planned(text);
        drawn(&Boxes::of(&planned), &planned.build.skipped, &Look::plain(width))
    }

    #[test]
    fn layers_of_jobs() {
        let text = TEXT.replace("[unit, [lint]]", "[unit, lint]");
        assert_snapshot!(terminal(&text, None), @"");
        assert_snapshot!(terminal(&text, Some(20)), @"");
    }

    #[test]
    fn one_job() {
        assert_snapshot!(terminal("stages: [a, [b, c], d]\na: {script: x}\nb: {script: x}\nc: {script: x, when: {branch: o}}\nd: {script: x}", None), @"");
        assert_snapshot!(terminal("when: {branch: o}\na: {script: x}", None), @"");
    }

    #[test]
    fn for_other_programs() {
        let text = TEXT.replace("[unit, [lint]]", "[unit, lint]");
        let boxes = Boxes::of(&planned(&text));
        assert_snapshot!(dot::written(&boxes), @"");
        let svg = svg::written(&boxes);
        assert_snapshot!(svg, @"");
    }

    #[test]
    fn what_is_drawn_says_nothing_else() {
        let text = "a: {script: x, matrix: {v: ['<b>&\"x\\y', z]}}";
        let boxes = Boxes::of(&planned(text));
        assert!(svg::written(&boxes).contains("v=&lt;b&gt;&amp;&quot;x\\y"));
        assert!(dot::written(&boxes).contains(r#"v=<b>&\"x\\y"#));
    }
}
