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
    for row in job.told_rows() {
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
stages: [build, [unit, lint], package, deploy]
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
        assert_snapshot!(terminal(TEXT, None), @"
        ┌ build ──┐
        └─────────┘
          ↓
        ┌ unit ──┐ ┌ lint ──┐
        │ v=1    │ └────────┘
        │ v=2    │
        │ @gpu   │
        └────────┘
          ↓
        ┌ deploy ────────────┐
        │ waits for a person │
        │ one turn of prod   │
        └────────────────────┘
          ↓
        ┌ finally ──┐
        └───────────┘
        – package: when: branch other, and this is main
        ");
        assert_snapshot!(terminal(TEXT, Some(20)), @"
        ┌ build ──┐
        └─────────┘
          ↓
        ┌ unit ──┐
        │ v=1    │
        │ v=2    │
        │ @gpu   │
        └────────┘
        ┌ lint ──┐
        └────────┘
          ↓
        ┌ deploy ────────────┐
        │ waits for a person │
        │ one turn of prod   │
        └────────────────────┘
          ↓
        ┌ finally ──┐
        └───────────┘
        – package: when: branch other, and this is main
        ");
    }

    #[test]
    fn one_job() {
        assert_snapshot!(terminal("stages: [a, [b, c], d]\na: {script: x}\nb: {script: x}\nc: {script: x, when: {branch: o}}\nd: {script: x}", None), @"
        ┌ build ──┐
        │ a       │
        │ b │ – c │
        │ d       │
        └─────────┘
        ");
        assert_snapshot!(terminal("when: {branch: o}\na: {script: x}", None), @"
        nothing would run
        – a: when: branch o, and this is main
        ");
    }

    #[test]
    fn for_other_programs() {
        let boxes = Boxes::of(&planned(TEXT));
        assert_snapshot!(dot::written(&boxes), @r#"
        digraph buildr {
          compound=true;
          rankdir=LR;
          node [shape=box, style=rounded];
          subgraph cluster_0 {
            label="build";
            s0_0_0 [label="build"];
          }
          subgraph cluster_1 {
            label="unit\nv=1\nv=2\n@gpu";
            s1_0_0 [label="unit"];
          }
          subgraph cluster_2 {
            label="lint";
            s2_0_0 [label="lint"];
          }
          subgraph cluster_3 {
            label="deploy\nwaits for a person\none turn of prod";
            s3_0_0 [label="deploy"];
          }
          subgraph cluster_4 {
            label="finally";
            s4_0_0 [label="finally"];
          }
          s0_0_0 -> s1_0_0 [ltail=cluster_0, lhead=cluster_1];
          s0_0_0 -> s2_0_0 [ltail=cluster_0, lhead=cluster_2];
          s1_0_0 -> s3_0_0 [ltail=cluster_1, lhead=cluster_3];
          s2_0_0 -> s3_0_0 [ltail=cluster_2, lhead=cluster_3];
          s3_0_0 -> s4_0_0 [ltail=cluster_3, lhead=cluster_4];
        }
        "#);
        let svg = svg::written(&boxes);
        assert_snapshot!(svg, @r#"
        <svg xmlns="http://www.w3.org/2000/svg" width="568" height="204" viewBox="0 0 568 204" role="img"><title>jobs and stages</title>
        <style>text{font:13px ui-monospace,monospace;fill:#24292f}.title{font-weight:bold}.note,.skipped{fill:#6e7781}.skipped{text-decoration:line-through}rect{fill:#f6f8fa;stroke:#8c959f;rx:6px}path{fill:none;stroke:#8c959f;stroke-width:1.5}marker path{fill:#8c959f;stroke:none}@media(prefers-color-scheme:dark){text{fill:#e6edf3}rect{fill:#161b22}.note,.skipped{fill:#8d96a0}}</style>
        <defs><marker id="end" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>
        <path d="M80 38C108 38 108 68 136 68" marker-end="url(#end)"/>
        <path d="M80 38C108 38 108 166 136 166" marker-end="url(#end)"/>
        <path d="M192 68C220 68 220 58 248 58" marker-end="url(#end)"/>
        <path d="M192 166C220 166 220 58 248 58" marker-end="url(#end)"/>
        <path d="M416 58C444 58 444 38 472 38" marker-end="url(#end)"/>
        <rect x="16" y="16" width="64" height="44"/>
        <text x="28" y="43" class="title">build</text>
        <rect x="136" y="16" width="56" height="104"/>
        <text x="148" y="43" class="title">unit</text>
        <text x="148" y="63" class="note">v=1</text>
        <text x="148" y="83" class="note">v=2</text>
        <text x="148" y="103" class="note">@gpu</text>
        <rect x="136" y="144" width="56" height="44"/>
        <text x="148" y="171" class="title">lint</text>
        <rect x="248" y="16" width="168" height="84"/>
        <text x="260" y="43" class="title">deploy</text>
        <text x="260" y="63" class="note">waits for a person</text>
        <text x="260" y="83" class="note">one turn of prod</text>
        <rect x="472" y="16" width="80" height="44"/>
        <text x="484" y="43" class="title">finally</text>
        </svg>
        "#);
    }

    #[test]
    fn what_is_drawn_says_nothing_else() {
        let text = "a: {script: x, matrix: {v: ['<b>&\"x\\y', z]}}";
        let boxes = Boxes::of(&planned(text));
        assert!(svg::written(&boxes).contains("v=&lt;b&gt;&amp;&quot;x\\y"));
        assert!(dot::written(&boxes).contains(r#"v=<b>&\"x\\y"#));
    }
}
