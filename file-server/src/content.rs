//! Responses with content while they are sent.

pub(crate) mod active_responses;
