#![doc = include_str!("../README.md")]

mod error;
mod file_server;
mod name_resolver;
mod repetition;
mod server_clock;
mod transport;
mod user;

pub use self::{
    error::{CERTIFICATE_ADVICE, InfoError},
    file_server::{FileServerClient, LogPage, LogPosition},
    name_resolver::NameResolver,
    transport::server_client_builder,
    user::{AccountChange, AccountList, JobEvent, JobEvents, UserClient},
};

type Result<T> = std::result::Result<T, InfoError>;
