#![doc = include_str!("../README.md")]

pub mod acceptor;
pub mod extract;
pub mod healthcheck;
pub mod limits;
pub mod observe;
pub mod openapi;
pub mod problem_response;
pub mod ready;
mod request_filter;
mod strict_json;
