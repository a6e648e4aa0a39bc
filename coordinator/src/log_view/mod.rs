//! Logs as people look at them: the bytes that programs printed become lines in which colours are colours, progress
//! bars stand at their last state, and nothing is markup; and any line of a log of any size is found at once.
//!
//! `style` knows what a terminal's colour sequences mean, `line` turns one line into HTML or text, `index` knows where
//! lines begin, `extent` reads some of them, `search` looks for a text in them, and `kept` holds the indexes of the logs
//! that are looked at.

mod style;
mod line;
mod index;
mod extent;
mod search;
mod kept;

pub(crate) use extent::{Line, command};
pub(crate) use kept::{Indexes, Known};
pub(crate) use line::{Form, as_text};
pub(crate) use search::{Asked, Hit, Wanted, search};

#[cfg(test)]
mod tests;
