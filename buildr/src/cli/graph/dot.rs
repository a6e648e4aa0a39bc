//! The drawing in the language of Graphviz.

use std::fmt::Write as _;

use super::boxes::Boxes;

/// A directed graph: jobs as clusters of stages, edges between jobs.
pub(super) fn written(boxes: &Boxes) -> String {
    let mut text =
        String::from("digraph buildr {\n  compound=true;\n  rankdir=LR;\n  node [shape=box, style=rounded];\n");
    // Written into a String, nothing here fails.
    for (at, job) in boxes.0.iter().enumerate() {
        let label: Vec<&str> = std::iter::once(&job.title).chain(&job.notes).map(String::as_str).collect();
        writeln!(text, "  subgraph cluster_{at} {{\n    label={};", quoted(&label.join("\n"))).ok();
        for (row, stages) in job.rows.iter().enumerate() {
            for (column, stage) in stages.iter().enumerate() {
                let style = if stage.skipped { ", style=\"rounded,dashed\"" } else { "" };
                writeln!(text, "    {} [label={}{style}];", node(at, row, column), quoted(&stage.name)).ok();
            }
        }
        if job.rows.is_empty() {
            writeln!(text, "    {} [label={}];", node(at, 0, 0), quoted(&job.title)).ok();
        }
        for (row, pair) in job.rows.windows(2).enumerate() {
            for from in 0..pair[0].len() {
                for to in 0..pair[1].len() {
                    writeln!(text, "    {} -> {};", node(at, row, from), node(at, row + 1, to)).ok();
                }
            }
        }
        text += "  }\n";
    }
    for (at, job) in boxes.0.iter().enumerate() {
        for &before in &job.after {
            let last = boxes.0[before].rows.len().saturating_sub(1);
            let (from, to) = (node(before, last, 0), node(at, 0, 0));
            writeln!(text, "  {from} -> {to} [ltail=cluster_{before}, lhead=cluster_{at}];").ok();
        }
    }
    text + "}\n"
}

fn node(job: usize, row: usize, column: usize) -> String {
    format!("s{job}_{row}_{column}")
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
