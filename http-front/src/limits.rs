//! Bounds on what one peer may use, and their settings, which every listener has.

use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use lifecycle::{descriptors, settings::duration};

/// Bounds of one listener.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections open at once; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Connections of one client address open at once; further ones are closed.
    pub per_address: usize,
    /// Time for a whole request head, counted from its first byte or, on a new connection, from its opening.
    pub head: Duration,
    /// Time a connection may stay open between two requests.
    pub idle: Duration,
    /// Time that may pass without a byte of a request body that the server waits for.
    pub body: Duration,
    /// Time that may pass without the peer accepting a byte of a response.
    pub write: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            per_address: 2048,
            head: Duration::from_secs(15),
            idle: Duration::from_secs(60),
            body: Duration::from_secs(30),
            write: Duration::from_secs(30),
        }
    }
}

/// Settings of the bounds of one listener.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Peers")]
pub struct LimitSettings {
    /// Time for a whole request head, from its first byte or from the opening of the connection; at most 15s
    #[arg(long, env = "DDM_HEAD_TIMEOUT", default_value = "15s", value_parser = duration, value_name = "TIME")]
    pub head_timeout: Duration,
    /// Time a connection may stay open without a request
    #[arg(long, env = "DDM_IDLE_TIMEOUT", default_value = "1m", value_parser = duration, value_name = "TIME")]
    pub idle_timeout: Duration,
    /// Longest gap between two bytes of a request body
    #[arg(long, env = "DDM_BODY_TIMEOUT", default_value = "30s", value_parser = duration, value_name = "TIME")]
    pub body_timeout: Duration,
    /// Longest time a client may accept no byte of a response
    #[arg(long, env = "DDM_WRITE_TIMEOUT", default_value = "30s", value_parser = duration, value_name = "TIME")]
    pub write_timeout: Duration,
    /// Connections from one address, or one IPv6 /64; loopback addresses are not counted [default: half of all]
    #[arg(long, env = "DDM_CONNECTIONS_PER_ADDRESS", value_name = "COUNT")]
    pub connections_per_address: Option<usize>,
}

impl LimitSettings {
    /// Rejects settings that leave a wait without an end or admit no connection.
    ///
    /// # Errors
    /// Names the setting and the values that it may have.
    pub fn check(&self) -> anyhow::Result<()> {
        let (hour, head) = (Duration::from_secs(3600), Duration::from_secs(15));
        for (name, time, max) in [
            ("--head-timeout", self.head_timeout, head),
            ("--idle-timeout", self.idle_timeout, hour),
            ("--body-timeout", self.body_timeout, hour),
            ("--write-timeout", self.write_timeout, hour),
        ] {
            ensure!(
                (Duration::from_millis(100)..=max).contains(&time),
                "{name} must be between 100ms and {}",
                humantime::format_duration(max)
            );
        }
        ensure!(self.connections_per_address != Some(0), "--connections-per-address must be at least 1");
        Ok(())
    }

    /// Returns the limits of a listener that may hold `connections` connections, in a process that keeps `files` other files
    /// open.
    pub fn limits(&self, connections: usize, files: usize) -> Limits {
        let connections = descriptors::connections(connections, files);
        Limits {
            connections,
            per_address: self.connections_per_address.unwrap_or((connections / 2).max(1)),
            head: self.head_timeout,
            idle: self.idle_timeout,
            body: self.body_timeout,
            write: self.write_timeout,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct TestCommand {
        #[command(flatten)]
        limits: LimitSettings,
    }

    fn settings(args: &[&str]) -> LimitSettings {
        TestCommand::parse_from(std::iter::once("x").chain(args.iter().copied())).limits
    }

    #[test]
    fn the_defaults_are_sound() {
        settings(&[]).check().unwrap();
        let limits = settings(&[]).limits(1, 0);
        assert_eq!((limits.connections, limits.per_address), (1, 1));
    }

    #[test]
    fn a_setting_without_an_end_or_without_a_connection_is_refused_by_name() {
        for args in [
            ["--head-timeout", "16s"],
            ["--write-timeout", "0s"],
            ["--idle-timeout", "2h"],
            ["--connections-per-address", "0"],
        ] {
            let error = settings(&args).check().unwrap_err().to_string();
            assert!(error.contains(args[0]), "{error}");
        }
    }
}
