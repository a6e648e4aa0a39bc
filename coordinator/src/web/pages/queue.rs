//! What waits on the whole farm, in the order in which it comes to its turn, and why; and what runs.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use protocol::api::Role;

use super::board::{Board, Running, Waiting};
use super::live::Part;
use super::{Frame, Here, Onlooker, answer, sorry};
use crate::web::Web;
use crate::web::api::Answer;

#[derive(Template)]
#[template(path = "queue.html", blocks = ["queue"])]
struct QueuePage<'a> {
    frame: Frame,
    runs: &'a [Running],
    queue: &'a [Waiting],
    queued: &'a usize,
    asks: &'a [Waiting],
    turns: &'a [Waiting],
    behind: &'a usize,
}

impl<'a> QueuePage<'a> {
    fn new(board: &'a Board, onlooker: &Onlooker) -> Self {
        let Board { runs, queue, queued, asks, turns, behind, .. } = board;
        let frame = Frame::new("Queue", Here::Queue).live_if(true, "/live/queue").seen_by(onlooker, Role::Developer);
        Self { frame, runs, queue, queued, asks, turns, behind }
    }
}

pub(super) async fn page(State(web): State<Arc<Web>>, onlooker: Onlooker) -> Response {
    match web.boards.look(&web).await {
        Ok(board) => answer(Ok(QueuePage::new(&board, &onlooker))),
        Err(refusal) => sorry(refusal),
    }
}

/// The part of the page that changes.
pub(super) async fn parts(web: &Web, onlooker: &Onlooker) -> Answer<Vec<Part>> {
    let board = web.boards.look(web).await?;
    Ok(vec![Part::new("queue", &QueuePage::new(&board, onlooker).as_queue())?])
}
