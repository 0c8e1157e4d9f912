//! Download tokens. `tests/http/tokens.rs` tests them in process.

pub(super) mod create_token;
pub(super) mod delete_token;
pub(super) mod introspect_token;
