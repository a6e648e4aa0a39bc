//! Folders that cost what is changed in them, not what is in them: overlays over a folder that nobody changes. The only
//! room that mounts.
//!
//! An overlay at `X` has its own things beside it, in `X.layers`: `upper` (what was written), `work` (the kernel's), and
//! the list of what it lies over. What is written through it never reaches what it lies over, and nothing in it is
//! one file with anything elsewhere: the kernel copies a file before it is changed, or linked to. Names and modes cost
//! no copy of what is in a file.
//!
//! `mounts` is what the kernel is told and tells, `opening` lets every user write, `ground` is a folder that may become an overlay, `proof` whether this
//! process may mount at all. All of it blocks.

mod mounts;
mod opening;
mod ground;
mod proof;

pub use ground::{Ground, Way};

pub(crate) use mounts::{is_in_use, lay, lowers_of, remove, unmount_below, upper_of};
pub(crate) use opening::{is_open, mark_open, open, open_written, wants_open};
pub(crate) use proof::{Trial, shares_blocks};
