//! What the tests of the whole farm share: contracts that every implementation of a seam keeps, and real parts
//! made for one test.

pub mod contract;
pub mod docker;
pub mod rabbit;
