//! Promises that a cluster made, and a judge of them. [`crate::cluster::Cluster`] records what goes through it and judges
//! when it is dropped, so no row can forget to.

mod logs;
mod remains;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use reqwest::Method;
use serde_json::Value;

use remains::MAX_HASHED;
pub(crate) use remains::{Remains, leftovers};

/// Disks that an acknowledged file stands on, if as many servers acknowledged it.
const DISKS: usize = 2;

/// Promise that is judged at the end of every row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// The file under the name of a download is the published one, and no `.part` is left beside a finished one (P1).
    RightBytes,
    /// An acknowledged publication is in the catalogue, and whole on two disks, or on one if no more were acknowledged (P2).
    NothingLost,
    /// A revoked token opens nothing (P7).
    RevokedIsRevoked,
    /// No log tells of a panic or of an internal error.
    NoInternalErrors,
    /// No log holds a password, a token, or another secret (P13).
    NoSecretsInLogs,
}

/// Promises made so far.
#[derive(Debug, Default)]
pub(crate) struct History(Mutex<Record>);

#[derive(Debug, Default)]
struct Record {
    published: BTreeMap<String, Published>,
    removed: BTreeSet<String>,
    downloads: BTreeMap<PathBuf, Download>,
    /// The text of each token whose id is known.
    tokens: BTreeMap<String, Token>,
    revoked: BTreeSet<String>,
    secrets: BTreeSet<String>,
    excused: BTreeMap<Promise, &'static str>,
}

#[derive(Debug, Clone)]
struct Published {
    name: String,
    sha256: String,
    /// Disks that it must stand on.
    disks: usize,
}

#[derive(Debug, Clone)]
struct Token {
    text: String,
    file: String,
}

/// Content that a file under a final name may hold.
#[derive(Debug, Clone, Default)]
struct Download {
    allowed: BTreeSet<String>,
    /// Outcome of the last download, if it is known.
    whole: Option<bool>,
}

impl History {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn excuse(&self, promise: Promise, reason: &'static str) {
        self.record().excused.insert(promise, reason);
    }

    pub(crate) fn secret(&self, secret: &str) {
        // Shorter ones could be part of any text.
        if secret.len() >= 8 {
            self.record().secrets.insert(secret.to_owned());
        }
    }

    /// The publisher was told that so many servers hold the file.
    pub(crate) fn published(&self, id: &str, path: &Path, servers: usize) -> anyhow::Result<()> {
        if std::fs::metadata(path)?.len() <= MAX_HASHED {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let published = Published { name, sha256: remains::sha256(path)?, disks: servers.clamp(1, DISKS) };
            self.record().published.insert(id.to_owned(), published);
        }
        Ok(())
    }

    /// A details query was answered.
    pub(crate) fn granted(&self, details: &Value) {
        let [id, text] = ["token_id", "token"].map(|key| details["download"][key].as_str());
        if let (Some(id), Some(text), Some(file)) = (id, text, details["id"].as_str()) {
            self.secret(text);
            let token = Token { text: text.to_owned(), file: file.to_owned() };
            self.record().tokens.insert(id.to_owned(), token);
        }
    }

    /// The test asks the info-server for this.
    pub(crate) fn requested(&self, method: &Method, path: &str) {
        if *method != Method::DELETE {
            return;
        }
        if let Some(id) = path.strip_prefix("/v1/files/") {
            self.record().removed.insert(id.to_owned());
        } else if let Some(id) = path.strip_prefix("/v1/tokens/") {
            self.record().revoked.insert(id.to_owned());
        }
    }

    /// A client is about to be started in `folder`.
    pub(crate) fn client(&self, folder: &Path, args: &[&str]) {
        let mut record = self.record();
        let Some((id, published)) = args.iter().find_map(|arg| record.published.get_key_value(*arg)) else { return };
        let (id, published) = (id.clone(), published.clone());
        if args.contains(&"remove") {
            record.removed.insert(id);
        } else if !args.iter().any(|arg| ABOUT_FILES.contains(arg)) {
            let target = target(folder, args, &published.name);
            let before = remains::sha256(&target).ok();
            let download = record.downloads.entry(target).or_default();
            download.allowed.extend([published.sha256].into_iter().chain(before));
            download.whole = None;
        }
    }

    /// Records that the client has ended.
    pub(crate) fn client_ended(&self, folder: &Path, args: &[&str], well: bool) {
        let mut record = self.record();
        let published = args.iter().find_map(|arg| record.published.get(*arg)).cloned();
        let download = published.map(|file| target(folder, args, &file.name));
        if let Some(download) = download.and_then(|target| record.downloads.get_mut(&target)) {
            download.whole = Some(well);
        }
    }

    /// Returns the broken promises in words. Ends within seconds, in whatever state the system is.
    pub(crate) fn judge(&self, remains: &Remains<'_>) -> Vec<String> {
        let record = self.record();
        let mut broken = Vec::new();
        let mut judge = |promise: Promise, found: anyhow::Result<Vec<String>>| {
            if let Some(reason) = record.excused.get(&promise) {
                eprintln!("not judged: {promise:?}: {reason}");
                return;
            }
            broken.extend(match found {
                Ok(found) => found.into_iter().map(|what| format!("{promise:?}: {what}")).collect(),
                Err(error) => vec![format!("{promise:?} cannot be judged: {error:#}")],
            });
        };
        judge(Promise::RightBytes, Ok(record.wrong_bytes()));
        judge(Promise::NothingLost, record.lost(remains));
        judge(Promise::RevokedIsRevoked, record.revived(remains));
        let logs = logs::read(remains.folder);
        judge(Promise::NoInternalErrors, Ok(logs::internal_errors(&logs)));
        judge(Promise::NoSecretsInLogs, Ok(logs::secrets(&logs, &record.secrets)));
        broken
    }
}

/// Commands that name a file and fetch none of its bytes.
const ABOUT_FILES: [&str; 4] = ["info", "metalink", "preheat", "replicas"];

/// Returns the path that a download is written to.
fn target(folder: &Path, args: &[&str], name: &str) -> PathBuf {
    let named = args.windows(2).find(|pair| matches!(pair[0], "-o" | "--output")).map(|pair| folder.join(pair[1]));
    match named {
        Some(path) if !path.is_dir() => path,
        Some(path) => path.join(name),
        None => folder.join(name),
    }
}

impl Record {
    fn wrong_bytes(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (path, download) in &self.downloads {
            let Ok(found) = remains::sha256(path) else { continue };
            let shown = path.display();
            if !download.allowed.contains(&found) {
                wrong.push(format!("{shown} holds {found}, published was one of {:?}", download.allowed));
            }
            let mut part = path.clone().into_os_string();
            part.push(".part");
            if download.whole == Some(true) && PathBuf::from(part).exists() {
                wrong.push(format!("{shown}.part stands beside the finished file"));
            }
        }
        wrong
    }

    fn lost(&self, remains: &Remains<'_>) -> anyhow::Result<Vec<String>> {
        let mut lost = Vec::new();
        let kept = self.published.iter().filter(|(id, _)| !self.removed.contains(*id));
        for (id, published) in kept.clone() {
            let disks = remains.disks_with(id, &published.sha256, published.disks)?;
            if disks < published.disks {
                lost.push(format!("{id} was acknowledged and stands whole on {disks} disks of {}", published.disks));
            }
        }
        for (id, published) in kept {
            if let Some(found) = remains.listed(id)?
                && found != published.sha256
            {
                lost.push(format!("{id} was acknowledged, and the catalogue says {found} of it"));
            }
        }
        Ok(lost)
    }

    fn revived(&self, remains: &Remains<'_>) -> anyhow::Result<Vec<String>> {
        let mut revived = Vec::new();
        for token in self.revoked.iter().filter_map(|id| self.tokens.get(id)) {
            revived.extend(remains.served(&token.file, &token.text)?);
        }
        Ok(revived)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "01890000-0000-7000-8000-000000000000";

    /// A publication of `x.bin` that one disk holds, and a download of it to `got.bin`.
    fn fixture(on_disk: &[u8], got: &[u8]) -> (tempfile::TempDir, History) {
        let (folder, history) = (tempfile::tempdir().unwrap(), History::default());
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(path("file-server-0/files/00")).unwrap();
        std::fs::write(path("file-server-0/files/00").join(ID), on_disk).unwrap();
        std::fs::write(path("x.bin"), b"right").unwrap();
        history.published(ID, &path("x.bin"), 1).unwrap();
        history.client(folder.path(), &["-o", "got.bin", ID]);
        std::fs::write(path("got.bin"), got).unwrap();
        history.client_ended(folder.path(), &["-o", "got.bin", ID], true);
        (folder, history)
    }

    fn broken(folder: &Path, history: &History) -> Vec<String> {
        history.judge(&Remains { folder, info: None, servers: Vec::new(), session: "" })
    }

    #[test]
    fn what_was_kept_is_not_blamed_and_each_broken_promise_is_named() {
        let (folder, history) = fixture(b"right", b"right");
        assert_eq!(broken(folder.path(), &history), Vec::<String>::new());

        let (folder, history) = fixture(b"right", b"wrong");
        std::fs::write(folder.path().join("got.bin.part"), b"").unwrap();
        assert_eq!(broken(folder.path(), &history).len(), 2);
        history.excuse(Promise::RightBytes, "on purpose");
        assert!(broken(folder.path(), &history).is_empty());

        let (folder, history) = fixture(b"wrong", b"right");
        assert!(broken(folder.path(), &history)[0].contains("stands whole on 0 disks of 1"));
        history.requested(&Method::DELETE, &format!("/v1/files/{ID}"));
        assert!(broken(folder.path(), &history).is_empty(), "what was removed need not stand");

        let (folder, history) = fixture(b"right", b"right");
        history.published(ID, &folder.path().join("x.bin"), 3).unwrap();
        assert!(broken(folder.path(), &history)[0].contains("stands whole on 1 disks of 2"));
        let second = folder.path().join("file-server-1/files/00");
        std::fs::create_dir_all(&second).unwrap();
        std::fs::write(second.join(ID), b"right").unwrap();
        assert_eq!(broken(folder.path(), &history), Vec::<String>::new());

        let (folder, history) = fixture(b"right", b"right");
        let text = wire::token::Token::generate(wire::token::TokenKind::Download).expose().to_owned();
        history.granted(&json!({ "id": ID, "download": { "token_id": "t", "token": text } }));
        std::fs::write(folder.path().join("a.log"), format!("panicked at x\ngot {text}")).unwrap();
        let broken = broken(folder.path(), &history);
        assert!(broken.iter().any(|what| what.starts_with("NoInternalErrors")), "{broken:?}");
        assert!(broken.iter().any(|what| what.starts_with("NoSecretsInLogs")), "{broken:?}");
        assert!(!broken.concat().contains(&text), "the judge tells no secret either");
    }

    #[test]
    fn a_process_that_works_in_the_folder_is_a_leftover() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x");
        std::fs::write(&file, b"").unwrap();
        let mut child = std::process::Command::new("tail").arg("-f").arg(file).spawn().unwrap();
        // A process has no command line yet in the moment in which its program is being loaded.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let mut found = remains::running_in(folder.path());
        while found.is_empty() && std::time::Instant::now() < deadline {
            found = remains::running_in(folder.path());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(leftovers(folder.path()).is_empty());
    }
}
