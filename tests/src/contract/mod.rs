//! One suite per seam. Each function is one clause of the contract, and panics where it is broken.

pub mod executor;
pub mod link;
