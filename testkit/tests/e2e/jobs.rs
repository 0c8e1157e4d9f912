//! S25, S30–S33, S41, S44, S54, P10: what the info-server decides about URLs that are fetched together. The workers are played by
//! the test, so that each of their words can be what it must not be.

pub(crate) mod fixture;
mod leases;
mod requesters;
mod verdicts;
