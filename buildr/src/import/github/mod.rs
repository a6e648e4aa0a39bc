//! x
use super::draft::Draft;
use super::tree::Tree;
pub(super) fn read(_draft: &mut Draft, _documents: &[Tree]) {}
