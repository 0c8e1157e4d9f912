//! Stored logins: one file, readable by its owner only, with one login per info-server.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use lifecycle::private_file;
use serde::{Deserialize, Serialize};
use url::Url;
use wire::{catalogue::IssuedSession, token::Token};

use crate::{cli::Common, output::status};

/// File of logins.
#[derive(Debug)]
pub struct Logins {
    path: PathBuf,
    by_info_server: BTreeMap<String, Login>,
}

/// Login at one info-server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Login {
    /// E-mail of the account.
    pub email: String,
    /// Session of the login.
    #[serde(flatten)]
    pub session: IssuedSession,
}

impl Logins {
    /// Reads the file. A missing file counts as empty.
    ///
    /// # Errors
    /// When the file cannot be read, is readable by others, or belongs to another user.
    pub fn open(common: &Common) -> anyhow::Result<Self> {
        let path = match &common.session_file {
            Some(path) => path.clone(),
            None => folder()
                .context("cannot find your configuration folder: set HOME or --session-file")?
                .join("logins.json"),
        };
        let context = || format!("cannot read the logins in {}", path.display());
        let by_info_server = match private_file::read(&path).with_context(context)? {
            None => BTreeMap::new(),
            Some(text) if text.trim().is_empty() => BTreeMap::new(),
            Some(text) => match serde_json::from_str(&text) {
                Ok(logins) => logins,
                Err(error) => set_aside(&path, &error)?,
            },
        };
        Ok(Self { path, by_info_server })
    }

    /// Returns the session token for `info`. The info-server alone judges its expiry: the clock of this machine may be wrong.
    pub fn token(&self, info: &Url) -> Option<Token> {
        self.by_info_server.get(&key(info)).map(|login| login.session.token.clone())
    }

    /// Stores a login. It is sent to `info` only.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn store(&mut self, info: &Url, login: Login) -> anyhow::Result<()> {
        self.by_info_server.insert(key(info), login);
        self.save()
    }

    /// Checks that the file can be kept from other users, before there is a login to store.
    ///
    /// # Errors
    /// When other users could read it, or its folder cannot be written.
    pub fn check_place(&self) -> anyhow::Result<()> {
        private_file::check_place(&self.path).with_context(|| {
            format!("cannot store a login in {}; choose another file with --session-file", self.path.display())
        })
    }

    /// Removes the login at `info`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn remove(&mut self, info: &Url) -> anyhow::Result<()> {
        if self.by_info_server.remove(&key(info)).is_some() { self.save() } else { Ok(()) }
    }

    /// Returns the path of the file.
    pub const fn path(&self) -> &PathBuf {
        &self.path
    }

    fn save(&self) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(&self.by_info_server)?;
        private_file::write(&self.path, text.as_bytes())
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// Renames a damaged file, so that a login is possible. It is not deleted: it may contain other logins.
fn set_aside(path: &Path, error: &serde_json::Error) -> anyhow::Result<BTreeMap<String, Login>> {
    let aside = path.with_extension("json.damaged");
    std::fs::rename(path, &aside)
        .with_context(|| format!("cannot rename the damaged login file {}", path.display()))?;
    // The position only: the text contains tokens.
    let place = format!("line {}, column {}", error.line(), error.column());
    status(&format!(
        "The login file {} is damaged ({place}); renamed it to {}. Log in again with `ddm-client login`.",
        path.display(),
        aside.display()
    ));
    Ok(BTreeMap::new())
}

/// Returns the key of an info-server. A login is sent to exactly the address that it was made at.
fn key(info: &Url) -> String {
    info.as_str().trim_end_matches('/').to_owned()
}

/// Returns `ddm` in the user's configuration folder.
pub fn folder() -> Option<PathBuf> {
    directories::ProjectDirs::from("", "", "ddm").map(|dirs| dirs.config_dir().to_owned())
}
