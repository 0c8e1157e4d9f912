//! Logins at rest: one file, readable by its owner only, with one login per info-server.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use jiff::Timestamp;
use lifecycle::private_file;
use serde::{Deserialize, Serialize};
use url::Url;
use wire::{catalog::Session, token::Token};

use crate::cli::Common;

/// The file of logins.
#[derive(Debug)]
pub struct Logins {
    path: PathBuf,
    kept: BTreeMap<String, Login>,
}

/// A login at one info-server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Login {
    /// Whose it is.
    pub email: String,
    /// What it is.
    #[serde(flatten)]
    pub session: Session,
}

impl Logins {
    /// Reads the file; none is the same as an empty one.
    ///
    /// # Errors
    /// When it cannot be read, others can read it too, or it is not ours.
    pub fn open(common: &Common) -> anyhow::Result<Self> {
        let path = match &common.session_file {
            Some(path) => path.clone(),
            None => folder()
                .context("your configuration folder is unknown: set HOME, or name --session-file")?
                .join("logins.json"),
        };
        let context = || format!("the logins in {}", path.display());
        let kept = match private_file::read(&path).with_context(context)? {
            None => BTreeMap::new(),
            Some(text) if text.trim().is_empty() => BTreeMap::new(),
            Some(text) => match serde_json::from_str(&text) {
                Ok(kept) => kept,
                Err(error) => set_aside(&path, &error)?,
            },
        };
        Ok(Self { path, kept })
    }

    /// The login at `info`, unless it has ended.
    pub fn token(&self, info: &Url) -> Option<Token> {
        let login = self.kept.get(&key(info))?;
        (login.session.expires_at > Timestamp::now()).then(|| login.session.token.clone())
    }

    /// Keeps a login for `info` and nobody else.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep(&mut self, info: &Url, login: Login) -> anyhow::Result<()> {
        self.kept.insert(key(info), login);
        self.save()
    }

    /// Forgets the login at `info`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn forget(&mut self, info: &Url) -> anyhow::Result<()> {
        if self.kept.remove(&key(info)).is_some() { self.save() } else { Ok(()) }
    }

    /// Where the logins are.
    pub const fn path(&self) -> &PathBuf {
        &self.path
    }

    fn save(&self) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(&self.kept)?;
        private_file::write(&self.path, text.as_bytes())
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// What cannot be read must not keep anyone from logging in; it is not thrown away, as it may be somebody's work.
fn set_aside(path: &Path, error: &serde_json::Error) -> anyhow::Result<BTreeMap<String, Login>> {
    let aside = path.with_extension("json.damaged");
    std::fs::rename(path, &aside).with_context(|| format!("cannot set the damaged logins {} aside", path.display()))?;
    // Where, not what: the text holds tokens.
    let place = format!("line {}, column {}", error.line(), error.column());
    crate::commands::tell(&format!(
        "The logins in {} are damaged ({place}) and were set aside as {}. Log in again: ddm-client login",
        path.display(),
        aside.display()
    ));
    Ok(BTreeMap::new())
}

/// A login is sent to the very address it was made at, never to another one.
fn key(info: &Url) -> String {
    info.as_str().trim_end_matches('/').to_owned()
}

/// `ddm` in the user's configuration folder.
pub fn folder() -> Option<PathBuf> {
    directories::ProjectDirs::from("", "", "ddm").map(|dirs| dirs.config_dir().to_owned())
}
