//! `backup` and `restore`: the catalogue as one file, complete or not there at all.
//!
//! A backup is the database alone. It holds no secret in clear; the join secret and the broker's passwords are kept where the
//! operator keeps secrets, and can be made anew: servers that are enrolled need neither.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;
use lifecycle::{Shutdown, folder_lock::FolderLock, shutdown::GRACE};
use wire::grammar::counted;

use crate::{
    config::Config,
    db::{
        Database,
        backup::{self, Contents},
    },
};

/// Suffixes of the files that SQLite keeps beside a database.
const SIDE_FILES: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Suffixes of the side files that hold a part of a database that was not closed.
const LOGS: [&str; 2] = ["-wal", "-journal"];

const TAKEN: &str = "is there already: choose another name, or remove it";

/// Copies the catalogue to `path`, whether or not a server runs on it.
///
/// # Errors
/// When the path exists already, or the copy cannot be made, checked and synced; nothing is left then.
pub async fn back_up(path: &Path, config: &Config) -> anyhow::Result<()> {
    let database = config.existing_database()?;
    ensure!(!path.try_exists()?, "{} {TAKEN}", path.display());
    let made = interruptible(async {
        let staged = StagedFile::make(path)?;
        backup::copy(&database, &staged.0).await?;
        let contents = backup::check(&staged.0).await?;
        staged.become_new(path)?;
        Ok(contents)
    });
    let Contents { files, servers, accounts } = made.await?;
    let size = fs::metadata(path)?.len();
    let (files, servers) = (counted(files, "file"), counted(servers, "file server"));
    let (accounts, size) = (counted(accounts, "account"), counted(size, "byte"));
    println!("{}: {files}, {servers}, {accounts}, {size}, checked and synced.", path.display());
    Ok(())
}

/// Puts the backup at `path` into the data folder as a new epoch of the catalogue; with `replace` one that is there is kept under another
/// name.
///
/// # Errors
/// When a server runs there, when a catalogue is there that is not to be replaced, and what is wrong with the backup; nothing is changed then.
pub async fn restore(path: &Path, replace: bool, config: &Config) -> anyhow::Result<()> {
    let (data, database) = (&config.storage.data, config.database());
    // The operator who restores a backup means this folder.
    config.prepare_data_folder(true)?;
    let _lock = FolderLock::acquire(data)?;
    let stands = database.try_exists()?;
    ensure!(
        replace || !stands,
        "{} is a catalogue already: choose another folder with --data, or say --replace, which keeps it under another name",
        database.display()
    );
    for beside in SIDE_FILES {
        let beside = with_suffix(path, beside);
        ensure!(
            fs::metadata(&beside).map_or(true, |found| found.len() == 0),
            "{} is no finished backup: {} belongs to it; make one with 'backup'",
            path.display(),
            beside.display()
        );
    }
    let put_back = interruptible(async {
        let staged = StagedFile::make(&database)?;
        staged.fill(path)?;
        let contents = backup::check(&staged.0).await.with_context(|| format!("the backup {}", path.display()))?;
        let store = Database::open(&staged.0).await?;
        let begun = store.begin_anew(Timestamp::now()).await;
        store.close().await;
        begun?;
        staged.check_closed()?;
        let kept = stands.then(|| KeptCatalogue::link(&database)).transpose()?;
        if let Err(error) = remove_side_files(&database).and_then(|()| staged.replace(&database)) {
            kept.map_or(Ok(()), KeptCatalogue::undo)?;
            return Err(error);
        }
        sync_folder(&database)?;
        Ok((contents, kept.map(|kept| kept.name)))
    });
    let (Contents { files, servers, accounts }, kept) = put_back.await?;
    let (files, servers) = (counted(files, "file"), counted(servers, "file server"));
    println!(
        "{} is back with {files}, {servers} and {}. All sessions and tokens are ended.",
        database.display(),
        counted(accounts, "account")
    );
    if let Some(kept) = kept {
        println!("The old catalogue is kept as {}; remove it when you no longer need it.", kept.display());
    }
    Ok(())
}

/// The old catalogue under a second name, so that there is a catalogue under the first one at every moment.
#[derive(Debug)]
struct KeptCatalogue {
    database: PathBuf,
    name: PathBuf,
}

impl KeptCatalogue {
    fn link(database: &Path) -> anyhow::Result<Self> {
        let name = with_suffix(database, &format!(".replaced-{}", Timestamp::now().strftime("%Y%m%dT%H%M%SZ")));
        let kept = Self { database: database.to_owned(), name };
        fs::hard_link(database, &kept.name).with_context(|| kept.failure())?;
        if let Err(error) = kept.link_logs().and_then(|()| sync_folder(database)) {
            kept.undo()?;
            return Err(error);
        }
        Ok(kept)
    }

    /// Links the logs of a server that was not stopped well: part of the catalogue is in there.
    fn link_logs(&self) -> anyhow::Result<()> {
        for (log, kept) in self.logs() {
            if log.try_exists()? {
                fs::hard_link(&log, &kept).with_context(|| self.failure())?;
            }
        }
        Ok(())
    }

    /// Puts the logs back where a restore that failed removed them, and removes the second names.
    fn undo(self) -> anyhow::Result<()> {
        for (log, kept) in self.logs() {
            if kept.try_exists()? && !log.try_exists()? {
                let failure = || format!("{} was not replaced, but its log is now {}", log.display(), kept.display());
                fs::rename(&kept, &log).with_context(failure)?;
            }
        }
        for name in LOGS.map(|log| with_suffix(&self.name, log)).iter().chain([&self.name]) {
            if let Err(error) = fs::remove_file(name)
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(error).with_context(|| format!("cannot remove {}", name.display()));
            }
        }
        sync_folder(&self.database)
    }

    fn logs(&self) -> [(PathBuf, PathBuf); 2] {
        LOGS.map(|log| (with_suffix(&self.database, log), with_suffix(&self.name, log)))
    }

    fn failure(&self) -> String {
        format!("cannot keep the old catalogue as {}", self.name.display())
    }
}

/// Removes the side files of the old database: they would be taken for a part of the new one.
fn remove_side_files(database: &Path) -> anyhow::Result<()> {
    for beside in SIDE_FILES {
        let path = with_suffix(database, beside);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Ends `work` at a signal, so that it can clean up behind itself.
async fn interruptible<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let shutdown = Shutdown::new();
    let signals = tokio::spawn(shutdown.clone().follow_signals_and_hangup(GRACE));
    let outcome = shutdown.finishing().run_until_cancelled(work).await;
    signals.abort();
    outcome.context("interrupted; nothing is left of it")?
}

/// A file beside the one that it is to become; removed when that never happens.
#[derive(Debug)]
struct StagedFile(PathBuf);

impl StagedFile {
    /// Makes the file, empty and readable by its owner alone.
    fn make(path: &Path) -> anyhow::Result<Self> {
        let staged = with_suffix(path, &format!(".{}.new", std::process::id()));
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged);
        made.with_context(|| format!("cannot write {}", staged.display()))?;
        Ok(Self(staged))
    }

    fn fill(&self, from: &Path) -> anyhow::Result<()> {
        let mut source = File::open(from).with_context(|| format!("cannot read the backup {}", from.display()))?;
        let mut target = OpenOptions::new().write(true).open(&self.0)?;
        io::copy(&mut source, &mut target).with_context(|| format!("cannot copy the backup {}", from.display()))?;
        Ok(())
    }

    /// Takes the name `path`, which no file may have.
    fn become_new(self, path: &Path) -> anyhow::Result<()> {
        self.sync()?;
        match fs::hard_link(&self.0, path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                bail!("{} {TAKEN}", path.display());
            }
            // Not every file system has links.
            Err(_) if !path.try_exists()? => fs::rename(&self.0, path)?,
            Err(error) => return Err(error).with_context(|| format!("cannot make {}", path.display())),
        }
        sync_folder(path)
    }

    /// Refuses a database of which a part is in another file, and syncs it.
    fn check_closed(&self) -> anyhow::Result<()> {
        for beside in SIDE_FILES {
            ensure!(!with_suffix(&self.0, beside).try_exists()?, "{} was not closed well", self.0.display());
        }
        self.sync()
    }

    /// Takes the name `path` from the file that has it.
    fn replace(self, path: &Path) -> anyhow::Result<()> {
        fs::rename(&self.0, path).with_context(|| format!("cannot put {} in its place", path.display()))
    }

    fn sync(&self) -> anyhow::Result<()> {
        File::open(&self.0)?.sync_all().with_context(|| format!("cannot sync {}", self.0.display()))
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        // It may have been renamed, and then nothing is there; the name is ours alone.
        for name in [""].into_iter().chain(SIDE_FILES) {
            let _ = fs::remove_file(with_suffix(&self.0, name));
        }
    }
}

fn sync_folder(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all().with_context(|| format!("cannot sync the folder {}", folder.display()))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::CommandLine;

    #[tokio::test]
    async fn a_restore_that_fails_leaves_the_old_catalogue_with_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let line = ["ddm-info-server", "--data", data.to_str().unwrap()];
        let config = CommandLine::try_parse_from(line).unwrap().config;
        config.prepare_data_folder(true).unwrap();
        let (database, backup) = (config.database(), folder.path().join("backup"));
        Database::open(&database).await.unwrap().close().await;
        back_up(&backup, &config).await.unwrap();
        remove_side_files(&database).unwrap();
        let wal = with_suffix(&database, "-wal");
        fs::write(&wal, b"pages").unwrap();
        // This is no file that could be removed.
        fs::create_dir(with_suffix(&database, "-shm")).unwrap();
        let names = || {
            let mut names: Vec<_> = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            // What a restore locks the folder with stays.
            names.retain(|name| name != "lock");
            names.sort();
            names
        };
        let (before, content) = (names(), fs::read(&database).unwrap());
        restore(&backup, true, &config).await.unwrap_err();
        assert_eq!(names(), before);
        assert!(fs::read(&database).unwrap() == content && fs::read(&wal).unwrap() == b"pages");

        fs::remove_dir(with_suffix(&database, "-shm")).unwrap();
        restore(&backup, true, &config).await.unwrap();
        assert!(!wal.exists());
        let kept: Vec<_> = names().into_iter().filter(|name| name.to_string_lossy().contains(".replaced-")).collect();
        assert_eq!(kept.len(), 2, "the old catalogue and its log: {kept:?}");
        assert!(
            kept.iter().all(|name| fs::read(data.join(name)).is_ok_and(|kept| kept == content || kept == b"pages"))
        );
    }
}
