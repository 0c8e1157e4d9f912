//! Metrics: the registry that everything may count in, and the collection of what is a state rather than a count.

pub(crate) mod collect;
pub(crate) mod registry;
