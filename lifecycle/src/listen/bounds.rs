//! How long and how much a peer may take: the settings that every listener has.

use std::time::Duration;

use anyhow::ensure;
use clap::Args;

use super::Limits;
use crate::{descriptors, settings::duration};

/// Settings of a listener.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Peers")]
pub struct Bounds {
    /// For the whole head of a request, from its first byte or from the opening of the connection; at most 15s
    #[arg(long, env = "DDM_HEAD_TIMEOUT", default_value = "15s", value_parser = duration, value_name = "TIME")]
    pub head_timeout: Duration,
    /// How long a connection may stay open without a request
    #[arg(long, env = "DDM_IDLE_TIMEOUT", default_value = "1m", value_parser = duration, value_name = "TIME")]
    pub idle_timeout: Duration,
    /// How long the body of a request may bring nothing
    #[arg(long, env = "DDM_BODY_TIMEOUT", default_value = "30s", value_parser = duration, value_name = "TIME")]
    pub body_timeout: Duration,
    /// How long a peer may take nothing of an answer
    #[arg(long, env = "DDM_WRITE_TIMEOUT", default_value = "30s", value_parser = duration, value_name = "TIME")]
    pub write_timeout: Duration,
    /// Connections from one address, or one IPv6 /64; this machine's own are not counted [default: half of all]
    #[arg(long, env = "DDM_CONNECTIONS_PER_ADDRESS", value_name = "COUNT")]
    pub connections_per_address: Option<usize>,
}

impl Bounds {
    /// Refuses what would leave a wait without an end, or nobody served.
    ///
    /// # Errors
    /// With the setting's name and what it may be.
    pub fn check(&self) -> anyhow::Result<()> {
        let (hour, head) = (Duration::from_secs(3600), Duration::from_secs(15));
        for (name, time, most) in [
            ("--head-timeout", self.head_timeout, head),
            ("--idle-timeout", self.idle_timeout, hour),
            ("--body-timeout", self.body_timeout, hour),
            ("--write-timeout", self.write_timeout, hour),
        ] {
            ensure!(
                (Duration::from_millis(100)..=most).contains(&time),
                "{name} must be between 100ms and {}",
                humantime::format_duration(most)
            );
        }
        ensure!(self.connections_per_address != Some(0), "--connections-per-address must be at least 1");
        Ok(())
    }

    /// The limits of a listener with `connections` places, in a process that keeps `files` open besides.
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
    struct Line {
        #[command(flatten)]
        bounds: Bounds,
    }

    fn bounds(args: &[&str]) -> Bounds {
        Line::parse_from(std::iter::once("x").chain(args.iter().copied())).bounds
    }

    #[test]
    fn the_defaults_are_sound() {
        bounds(&[]).check().unwrap();
        let limits = bounds(&[]).limits(1, 0);
        assert_eq!((limits.connections, limits.per_address), (1, 1));
    }

    #[test]
    fn what_has_no_end_or_serves_nobody_is_refused_by_name() {
        for args in [
            ["--head-timeout", "16s"],
            ["--write-timeout", "0s"],
            ["--idle-timeout", "2h"],
            ["--connections-per-address", "0"],
        ] {
            let error = bounds(&args).check().unwrap_err().to_string();
            assert!(error.contains(args[0]), "{error}");
        }
    }
}
