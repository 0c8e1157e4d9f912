//! A lock for file systems without `flock`: a file beside the `.part` file, which only one process can create.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::error::SinkError;

/// Longest content that is read, in bytes.
const MAX_CONTENT_LEN: u64 = 200;

/// Lock file, removed when this is dropped.
#[derive(Debug)]
pub(super) struct LockFile {
    path: PathBuf,
}

impl LockFile {
    /// Creates the lock file of a `.part` file. One that a process of this machine left behind is replaced once that process is gone.
    pub(super) fn create(part: &Path) -> Result<Self, SinkError> {
        let mut path = part.as_os_str().to_owned();
        path.push(".lock");
        let (path, own) = (PathBuf::from(path), Owner::this());
        // The second attempt follows the removal of a lock file that no process holds.
        for _ in 0..2 {
            // Creating a new file follows no link.
            match File::options().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(mut file) => {
                    let written = file.write_all(own.to_string().as_bytes());
                    let lock = Self { path };
                    return written.map(|()| lock).map_err(|error| SinkError::io("write the lock of", part, error));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match holder(&path) {
                    Some(holder) if holder.is_gone(&own) => drop(fs::remove_file(&path)),
                    _ => return Err(SinkError::Locked { part: part.to_owned(), lock: path }),
                },
                Err(error) => return Err(SinkError::io("create the lock of", part, error)),
            }
        }
        Err(SinkError::Busy(part.to_owned()))
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Returns the process that a lock file names.
fn holder(lock: &Path) -> Option<Owner> {
    let mut text = String::new();
    File::open(lock).ok()?.take(MAX_CONTENT_LEN).read_to_string(&mut text).ok()?;
    Owner::parse(&text)
}

/// Process that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owner {
    /// Boot of the machine: process numbers mean nothing on another one.
    boot: String,
    process: u32,
    /// Namespace of the process number: each container of a machine may have its own.
    namespace: String,
}

impl Owner {
    fn this() -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let namespace = namespace.to_string_lossy().replace(' ', "");
        Self { boot: boot.trim().to_owned(), process: std::process::id(), namespace }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let (boot, process) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
        // Earlier versions wrote no namespace.
        let namespace = words.next().unwrap_or_default().to_owned();
        Some(Self { boot, process, namespace })
    }

    /// Returns true if the process has ended, as far as `observer` can tell: it sees the processes of its own namespace.
    fn is_gone(&self, observer: &Self) -> bool {
        let is_visible = !self.boot.is_empty() && !self.namespace.is_empty();
        let is_visible = is_visible && self.boot == observer.boot && self.namespace == observer.namespace;
        is_visible && !Path::new(&format!("/proc/{}", self.process)).exists()
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.boot, self.process, self.namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_file_keeps_others_out_until_its_process_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let (part, lock) = (folder.path().join("x.part"), folder.path().join("x.part.lock"));
        let held = LockFile::create(&part).unwrap();
        assert!(matches!(LockFile::create(&part), Err(SinkError::Locked { .. })));
        drop(held);
        assert!(!lock.exists());
        let own = Owner::this();
        // Process numbers are smaller than this one.
        let gone = Owner { process: u32::MAX, ..own.clone() };
        for (owner, is_taken_over) in [
            (gone.to_string(), true),
            (Owner { boot: "another".to_owned(), ..gone.clone() }.to_string(), false),
            (Owner { namespace: "pid:[1]".to_owned(), ..gone.clone() }.to_string(), false),
            (Owner { namespace: String::new(), ..gone }.to_string(), false),
            (own.to_string(), false),
            ("nonsense".to_owned(), false),
            (String::new(), false),
        ] {
            std::fs::write(&lock, &owner).unwrap();
            assert_eq!(LockFile::create(&part).is_ok(), is_taken_over, "{owner}");
        }
    }
}
