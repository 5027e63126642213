//! A whole repository at once: checked, pruned, repaired, copied, measured.

pub(crate) mod check;
pub(crate) mod copy;
pub(crate) mod entry_numbers;
pub(crate) mod prune;
pub(crate) mod repair;
pub(crate) mod stats;
