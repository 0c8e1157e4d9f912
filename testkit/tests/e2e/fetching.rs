//! S19, S20, S26–S28, S30, S32, S36, S53, S54, S56, P4, P10, P11: files of the web, as those see it who ask for them.

mod alone;
mod buffered;
mod digests;
mod ends;
mod fallback;
mod fixture;
mod kept;
mod links;
mod outages;
mod prompt;
mod proxied;
mod together;
mod told;
mod web;
