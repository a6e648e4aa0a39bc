//! An executor without containers, steered by the script itself.
