//! S15, S16, S45, P1, P4, P11, F3, F11, F18–F22, F36: a client that trusts no server, among rogues.

mod answers;
mod catalogue;
mod disk;
pub(crate) mod fixture;
mod outages;
pub(crate) mod resolving;
