//! The settings of the server's last start, stored in its data folder: `import` starts a stopped server with them, so that the server
//! is not registered elsewhere or in another zone.

use std::{net::SocketAddr, path::Path};

use anyhow::Context as _;
use lifecycle::private_file;
use serde::{Deserialize, Serialize};
use url::Url;
use wire::Zone;

use super::Config;

/// The file in the data folder.
const FILE_NAME: &str = "last-start.json";

/// The settings under which a server registers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastStart {
    listen: SocketAddr,
    public_url: Option<String>,
    zone: Zone,
    info: Url,
    weight: u32,
}

impl LastStart {
    /// Returns those of the present start.
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            listen: config.listen.listen,
            public_url: config.listen.public_url.as_ref().map(ToString::to_string),
            zone: config.listen.zone.clone(),
            info: config.upstream.info.clone(),
            weight: config.replication.weight,
        }
    }

    /// Reads what the last start stored in `data`; none if no server of this version was started there.
    pub(crate) fn read(data: &Path) -> anyhow::Result<Option<Self>> {
        let path = data.join(FILE_NAME);
        let text = private_file::read_own(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let parsed = text.map(|text| serde_json::from_str(&text)).transpose();
        parsed.with_context(|| format!("cannot parse {}: start the server once", path.display()))
    }

    /// Stores the settings in `data`. A server that cannot store them still serves.
    pub(crate) fn store(&self, data: &Path) {
        if Self::read(data).is_ok_and(|stored| stored.as_ref() == Some(self)) {
            return;
        }
        let path = data.join(FILE_NAME);
        let written = serde_json::to_vec(self).map_err(Into::into).and_then(|text| private_file::write(&path, &text));
        if let Err(error) = written {
            tracing::warn!(%error, "{} cannot be written: an import needs the running server", path.display());
        }
    }

    /// Puts the stored settings in the place of those of `config`.
    pub(crate) fn apply(self, mut config: Config) -> anyhow::Result<Config> {
        let Self { listen, public_url, zone, info, weight } = self;
        config.listen.public_url = public_url.map(|url| url.parse()).transpose().context("the stored --public-url")?;
        (config.listen.listen, config.listen.zone) = (listen, zone);
        (config.upstream.info, config.replication.weight) = (info, weight);
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::config::Cli;

    fn parse(args: &[&str]) -> Config {
        Cli::parse_from(std::iter::once("ddm-file-server").chain(args.iter().copied())).config
    }

    #[test]
    fn a_stopped_server_is_started_with_its_own_settings() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(LastStart::read(folder.path()).unwrap(), None);
        for public_url in ["auto", "http://10.0.0.7:9003/"] {
            let started = parse(&[
                "--listen",
                "0.0.0.0:9003",
                "--public-url",
                public_url,
                "--zone",
                "us",
                "--info",
                "http://info:8000",
                "--weight",
                "2",
            ]);
            LastStart::of(&started).store(folder.path());
            let last = LastStart::read(folder.path()).unwrap().unwrap();
            let config = last.clone().apply(parse(&[])).unwrap();
            assert_eq!(LastStart::of(&config), last);
            assert_eq!((config.listen.zone.as_str(), config.listen.listen.port()), ("us", 9003));
            assert_eq!(config.listen.public_url, started.listen.public_url);
        }
    }
}
