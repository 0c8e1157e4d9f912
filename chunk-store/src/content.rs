//! Responses that serve stored bytes: the decision, the body, and the connection that sends it.

pub(crate) mod body;
pub(crate) mod outlet;
pub(crate) mod range_response;
mod rate_share;
pub(crate) mod sendfile;
