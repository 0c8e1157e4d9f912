//! The server's identity: an id and a secret that it creates for itself at its first start.

use std::path::Path;

use anyhow::Context as _;
use lifecycle::private_file;
use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use wire::{
    ServerId,
    id::InstanceId,
    token::{Token, TokenKind},
};

use crate::config::IDENTITY_FILE_NAME;

/// Characters of the random part of an id.
const ID_ALPHABET: [char; 36] = [
    'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q', 'r', 's', 't', 'u', 'v', 'w',
    'x', 'y', 'z', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9',
];

/// Identity of this server, and of this start of it.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) id: ServerId,
    pub(crate) secret: Token,
    /// New with every start: it tells two processes with one identity apart.
    pub(crate) instance: InstanceId,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    id: ServerId,
    secret: Token,
}

impl Identity {
    /// Reads the identity in `data`; `None` when no server was ever started on it.
    pub(crate) fn read(data: &Path) -> anyhow::Result<Option<Self>> {
        let path = data.join(IDENTITY_FILE_NAME);
        let text = private_file::read_own(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let Some(text) = text else { return Ok(None) };
        // The text holds the secret, so the parser's own message, which may quote it, is not shown.
        let stored: Stored = serde_json::from_str(&text).map_err(|_| {
            anyhow::anyhow!(
                "{} cannot be parsed as an identity; restore it, or start with a fresh --data folder",
                path.display()
            )
        })?;
        anyhow::ensure!(
            stored.secret.kind() == TokenKind::Server,
            "{} holds no server secret; restore it, or start with a fresh --data folder",
            path.display()
        );
        Ok(Some(Self { id: stored.id, secret: stored.secret, instance: InstanceId::new() }))
    }

    /// Reads the identity in `data`; creates and syncs it when there is none yet.
    pub(crate) fn read_or_create(data: &Path) -> anyhow::Result<Self> {
        if let Some(identity) = Self::read(data)? {
            return Ok(identity);
        }
        let mut rng = rand::rng();
        let name: String = (0..12).filter_map(|_| ID_ALPHABET.get(rng.random_range(0..ID_ALPHABET.len()))).collect();
        let stored = Stored { id: format!("fs-{name}").parse()?, secret: Token::generate(TokenKind::Server) };
        let path = data.join(IDENTITY_FILE_NAME);
        private_file::write(&path, &serde_json::to_vec(&stored)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        tracing::info!(server = %stored.id, "Created the identity of this data folder");
        Ok(Self { id: stored.id, secret: stored.secret, instance: InstanceId::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_created_once_and_every_start_is_another_instance() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Identity::read(folder.path()).unwrap().is_none());
        let first = Identity::read_or_create(folder.path()).unwrap();
        let second = Identity::read_or_create(folder.path()).unwrap();
        assert_eq!((&first.id, first.secret.hash()), (&second.id, second.secret.hash()));
        assert_ne!(first.instance, second.instance);
        assert!(first.id.as_str().starts_with("fs-") && first.id.as_str().len() == 15);
    }

    #[test]
    fn a_broken_identity_is_named_without_showing_it() {
        let folder = tempfile::tempdir().unwrap();
        private_file::write(&folder.path().join(IDENTITY_FILE_NAME), b"{\"id\":\"a\",\"secret\":\"hunter2\"}").unwrap();
        let error = format!("{:#}", Identity::read(folder.path()).unwrap_err());
        assert!(error.contains("identity.json") && !error.contains("hunter2"), "{error}");
    }
}
