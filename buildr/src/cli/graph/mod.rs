//! `buildr graph`: the jobs of the folder's manifest and what each waits for, drawn.

mod boxes;
mod terminal;
mod dot;
mod svg;

use super::globals::Globals;
use super::look::Look;
use super::planning::PlanArgs;
use super::{CliError, exit, say};
use boxes::Boxes;

/// Draw the jobs and stages of the folder's manifest, and what they wait for
///
/// A box is a job: its stages share one workspace, and one row of it runs side by side. Jobs on one line wait for the
/// line above, unless they say otherwise.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which plan.
    #[command(flatten)]
    plan: PlanArgs,
    /// Print it for Graphviz: `buildr graph --dot | dot -Tpng > graph.png`
    #[arg(long, conflicts_with = "svg")]
    dot: bool,
    /// Print an SVG image: `buildr graph --svg > graph.svg`
    #[arg(long)]
    svg: bool,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<u8, CliError> {
    let planned = args.plan.plan().await?;
    let boxes = Boxes::of(&planned);
    let text = if args.dot {
        dot::written(&boxes)
    } else if args.svg {
        svg::written(&boxes)
    } else {
        terminal::drawn(&boxes, &planned.build.skipped, &Look::of_stdout(globals.color()))
    };
    say(&text)?;
    Ok(exit::DONE)
}
