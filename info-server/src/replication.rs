//! Where files are to stand beside where they do: who holds what, who fetches it into a zone, what is to change.

pub mod ingress;
pub mod links;
pub mod plan;
pub mod planner;
pub mod pulls;
pub mod standing;
pub(crate) mod subject;
