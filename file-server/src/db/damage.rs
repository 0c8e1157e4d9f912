//! Damage of the database: found at the start or while the server runs, said, and mended by the next start, which sets the
//! database aside. What was in it is read again: chunks from the stored blobs, everything else from the info-server.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::{Database, DatabaseError};

/// Suffixes of the files that SQLite keeps for a database.
const SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];

/// Notes in the data folder that outlast a stop.
#[derive(Debug, Clone)]
pub(crate) struct DamageNotes {
    database: PathBuf,
}

impl DamageNotes {
    pub(crate) fn new(database: &Path) -> Self {
        Self { database: database.to_owned() }
    }

    /// Opens the database at the start of a server. A damaged one is set aside, and a new one made.
    ///
    /// `is_first_start` tells a lost database from one that there never was.
    ///
    /// # Errors
    /// When it cannot be opened for another reason than damage.
    pub(crate) async fn open(&self, is_first_start: bool) -> Result<Database, DatabaseError> {
        if !is_first_start && !self.database.exists() {
            tracing::error!("The database is gone: making a new one, and recording again what is stored");
            touch(&self.rebuild_note())?;
        }
        let found = if self.damage_note().exists() {
            Err(DatabaseError::Damaged("a page could not be read before the last stop".to_owned()))
        } else {
            Database::open_checked(&self.database).await
        };
        match found {
            Err(error) if error.is_damage() => {
                let kept = self.name(".damaged");
                let kept = kept.display();
                tracing::error!(
                    %error,
                    "The database is damaged: it is kept as {kept}, and what is stored is recorded again from the stored files and the info-server; \
                     check the disk"
                );
                self.set_aside()?;
                Database::open_checked(&self.database).await
            }
            found => found,
        }
    }

    /// Has the next start set the database aside.
    pub(crate) fn note_damage(&self) -> io::Result<()> {
        touch(&self.damage_note())
    }

    /// Returns true until everything stored is recorded again.
    pub(crate) fn is_rebuilding(&self) -> bool {
        self.rebuild_note().exists()
    }

    /// Notes that everything stored is recorded.
    pub(crate) fn end_rebuild(&self) -> io::Result<()> {
        match fs::remove_file(self.rebuild_note()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Renames the database. A crash in between leaves the notes, so that the next start repeats it.
    fn set_aside(&self) -> io::Result<()> {
        touch(&self.rebuild_note())?;
        touch(&self.damage_note())?;
        for suffix in SUFFIXES {
            match fs::rename(self.name(suffix), self.name(&format!(".damaged{suffix}"))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::remove_file(self.damage_note())
    }

    fn damage_note(&self) -> PathBuf {
        self.name(".is-damaged")
    }

    fn rebuild_note(&self) -> PathBuf {
        self.name(".is-rebuilt")
    }

    fn name(&self, suffix: &str) -> PathBuf {
        let mut name = self.database.clone().into_os_string();
        name.push(suffix);
        name.into()
    }
}

fn touch(path: &Path) -> io::Result<()> {
    File::create(path)?.sync_all()?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

impl Database {
    /// Opens the database and checks all its pages.
    async fn open_checked(path: &Path) -> Result<Self, DatabaseError> {
        let db = Self::open(path).await?;
        let begun = std::time::Instant::now();
        let found: Result<String, _> = sqlx::query_scalar("pragma quick_check(1)").fetch_one(&db.reader).await;
        let checked = match found.map_err(DatabaseError::from) {
            Ok(found) if found == "ok" => Ok(()),
            Ok(found) => Err(DatabaseError::Damaged(found.replace('\n', " "))),
            Err(error) => Err(error),
        };
        tracing::debug!(elapsed = ?begun.elapsed(), "Checked the database");
        match checked {
            Ok(()) => Ok(db),
            Err(error) => {
                db.close().await;
                Err(error)
            }
        }
    }

    /// Passes an error on, and notes damage: [`Self::damaged`] ends.
    pub(crate) fn note<T>(&self, outcome: Result<T, DatabaseError>) -> Result<T, DatabaseError> {
        if let Err(error) = &outcome
            && error.is_damage()
        {
            self.damage.send_if_modified(|noted| {
                let is_first = noted.is_none();
                noted.get_or_insert_with(|| error.to_string());
                is_first
            });
        }
        outcome
    }

    /// Returns true once damage was noted.
    pub(crate) fn is_damaged(&self) -> bool {
        self.damage.borrow().is_some()
    }

    /// Waits until damage is noted, and returns what was found.
    pub(crate) async fn damaged(&self) -> String {
        let mut damage = self.damage.subscribe();
        // The sender is in `self`.
        let noted = damage.wait_for(Option::is_some).await;
        noted.ok().and_then(|noted| noted.clone()).unwrap_or_default()
    }
}
