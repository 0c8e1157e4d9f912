//! Files for secrets: readable by their owner only, replaced atomically.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rustix::io::Errno;

/// Size of the largest file that is read, in bytes.
const MAX_FILE_SIZE: u64 = 64 * 1024;

/// Replaces the content of `path`, with mode 0600, and syncs file and folder.
///
/// # Errors
/// The file system's; the old content stays.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = folder_of(path);
    fs::create_dir_all(folder)?;
    let aside = name_aside(path);
    let written = write_aside(&aside, content).and_then(|()| fs::rename(&aside, path));
    if written.is_err() {
        // The name belongs to this process; an error because the file is gone already does not matter.
        let _ = fs::remove_file(&aside);
    }
    written?;
    match File::open(folder)?.sync_all() {
        // Some file systems sync no folders: those of removable media, and some in user space or on a network.
        Err(error) if lacks_folder_sync(&error) => Ok(()),
        synced => synced,
    }
}

/// Checks that a file at `path` would be readable by its owner only. Some file systems, as those of removable media and of shares of
/// a network, give every file the same mode.
///
/// # Errors
/// The file system's, and [`io::ErrorKind::PermissionDenied`] if other users could read the file.
pub fn check_place(path: &Path) -> io::Result<()> {
    fs::create_dir_all(folder_of(path))?;
    match fixed_mode(path)? {
        None => Ok(()),
        Some(mode) => Err(unprotected(path, mode)),
    }
}

/// Returns the mode of a file beside `path` that was to be private, if other users can read it nevertheless.
fn fixed_mode(path: &Path) -> io::Result<Option<u32>> {
    let aside = name_aside(path);
    let mode = write_aside(&aside, b"").and_then(|()| fs::metadata(&aside)).map(|it| it.permissions().mode() & 0o777);
    // The name belongs to this process, and nothing is in the file.
    let _ = fs::remove_file(&aside);
    Ok(Some(mode?).filter(|mode| mode & 0o077 != 0))
}

fn unprotected(path: &Path, mode: u32) -> io::Error {
    let path = path.display();
    let message = format!(
        "the file system of {path} lets other users read every file (mode {mode:o}, which chmod does not change): a secret must be on another one"
    );
    io::Error::new(io::ErrorKind::PermissionDenied, message)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Returns a name beside `path` that belongs to this process.
fn name_aside(path: &Path) -> PathBuf {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}.new", std::process::id()));
    aside.into()
}

fn write_aside(aside: &Path, content: &[u8]) -> io::Result<()> {
    // A process with the same number may have left this file. A new one has the right mode and is no link.
    match fs::remove_file(aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(aside)?;
    file.write_all(content)?;
    file.sync_all()
}

fn lacks_folder_sync(error: &io::Error) -> bool {
    let known = [Errno::INVAL, Errno::NOTTY, Errno::NOSYS, Errno::OPNOTSUPP];
    Errno::from_io_error(error).is_some_and(|error| known.contains(&error))
}

/// Reads `path` without the white space at its ends.
///
/// # Errors
/// As [`read`], and when there is no such file or nothing in it.
pub fn read_required(path: &Path) -> io::Result<String> {
    let text = read(path)?.unwrap_or_default();
    if text.trim().is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("{} does not exist or is empty", path.display())));
    }
    Ok(text.trim().to_owned())
}

/// Reads `path`; returns `None` if it does not exist.
///
///
/// A file that others can read is taken as orchestrators mount secrets: if no user can change it, on a read-only mount or as the file
/// of another user. The log says so once.
///
/// # Errors
/// The file system's, and [`io::ErrorKind::PermissionDenied`] if other users can read the file and this process could prevent that.
pub fn read(path: &Path) -> io::Result<Option<String>> {
    let Some(file) = open(path)? else { return Ok(None) };
    match Exposure::of(&file)?.judge() {
        Verdict::Private => {}
        Verdict::Mounted => note_once(path),
        Verdict::Exposed => return Err(exposed(path, fixed_mode(path).unwrap_or_default())),
    }
    content_of(file, path).map(Some)
}

/// Reads a file that this program wrote itself, as [`read`] does. If others can read it, as after a restore, it is made private
/// again.
///
/// # Errors
/// As [`read`]; and the file system's, if the file cannot be made private.
pub fn read_own(path: &Path) -> io::Result<Option<String>> {
    let Some(file) = open(path)? else { return Ok(None) };
    let exposure = Exposure::of(&file)?;
    match exposure.judge() {
        Verdict::Private => {}
        Verdict::Mounted => note_once(path),
        Verdict::Exposed if exposure.is_owned => {
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
            let mode = exposure.mode & 0o777;
            tracing::warn!(path = %path.display(), "Other users could read {} (mode {mode:o}): made it private again", path.display());
        }
        Verdict::Exposed => return Err(exposed(path, fixed_mode(path).unwrap_or_default())),
    }
    content_of(file, path).map(Some)
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Access that users have to a file with a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Exposure {
    mode: u32,
    /// Set if the file belongs to the user of this process, which then could make it private.
    is_owned: bool,
    /// Set if nothing can be changed where the file is mounted.
    is_mounted_read_only: bool,
}

/// Judgement about a file with a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Its owner alone can read it.
    Private,
    /// Others can read it, as its mount permits.
    Mounted,
    /// Others can read it although this process, or its owner, could prevent that.
    Exposed,
}

impl Exposure {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let flags = rustix::fs::fstatvfs(file)?.f_flag;
        Ok(Self {
            mode: metadata.permissions().mode(),
            is_owned: metadata.uid() == rustix::process::geteuid().as_raw(),
            is_mounted_read_only: flags.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        })
    }

    fn judge(self) -> Verdict {
        let (is_private, is_writable) = (self.mode & 0o077 == 0, self.mode & 0o222 != 0);
        match self {
            _ if is_private => Verdict::Private,
            Self { is_mounted_read_only: true, .. } => Verdict::Mounted,
            Self { is_owned: false, .. } if !is_writable => Verdict::Mounted,
            _ => Verdict::Exposed,
        }
    }
}

/// Logs once that other users can read a file that this process cannot change.
fn note_once(path: &Path) {
    static NOTED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    if NOTED.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned()) {
        tracing::info!(path = %path.display(), "Other users can read the secret in {}; taking it as it is mounted", path.display());
    }
}

/// Returns the error of a file that others can read; `fixed_mode` is the mode of every file there, if chmod has no effect.
fn exposed(path: &Path, fixed_mode: Option<u32>) -> io::Error {
    if let Some(mode) = fixed_mode {
        return unprotected(path, mode);
    }
    let message = format!("{} holds a secret but other users can read it: run chmod 600 on it", path.display());
    io::Error::new(io::ErrorKind::PermissionDenied, message)
}

fn content_of(file: File, path: &Path) -> io::Result<String> {
    let mut content = String::new();
    file.take(MAX_FILE_SIZE + 1).read_to_string(&mut content)?;
    if content.len() as u64 > MAX_FILE_SIZE {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is too large for a file with a secret: check the path", path.display()),
        ));
    }
    Ok(content)
}

/// Creates a folder that only its owner can enter, and its parents. An existing folder stays as it is.
///
/// # Errors
/// The file system's.
pub fn make_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_replaced_whole_and_readable_by_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        assert_eq!(read(&path).unwrap(), None);
        for content in ["one", "two"] {
            write(&path, content.as_bytes()).unwrap();
            assert_eq!(read(&path).unwrap().as_deref(), Some(content));
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_secret_that_others_can_read_is_taken_only_as_it_is_mounted() {
        for (mode, is_owned, is_mounted_read_only, verdict) in [
            (0o600, true, false, Verdict::Private),
            (0o400, false, false, Verdict::Private),
            (0o444, true, false, Verdict::Exposed),
            (0o440, true, true, Verdict::Mounted),
            (0o644, true, true, Verdict::Mounted),
            (0o444, false, false, Verdict::Mounted),
            (0o440, false, false, Verdict::Mounted),
            (0o644, false, false, Verdict::Exposed),
            (0o660, true, false, Verdict::Exposed),
            (0o666, false, false, Verdict::Exposed),
        ] {
            let exposure = Exposure { mode: mode | 0o100_000, is_owned, is_mounted_read_only };
            assert_eq!(exposure.judge(), verdict, "{mode:o} {is_owned} {is_mounted_read_only}");
        }
    }

    #[test]
    fn the_advice_about_an_exposed_secret_has_an_effect() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/logins.json");
        check_place(&path).unwrap();
        assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 0, "nothing is left behind");
        write(&path, b"mine").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("run chmod 600 on it"));
        let fixed = exposed(&path, Some(0o755));
        assert_eq!(fixed.kind(), io::ErrorKind::PermissionDenied);
        let fixed = fixed.to_string();
        assert!(!fixed.contains("chmod 600") && fixed.contains("mode 755") && fixed.contains("another one"), "{fixed}");
    }

    #[test]
    fn a_file_of_our_own_is_made_private_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.json");
        assert_eq!(read_own(&path).unwrap(), None);
        write(&path, b"mine").unwrap();
        for mode in [0o660, 0o644, 0o400] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_own(&path).unwrap().as_deref(), Some("mine"), "{mode:o}");
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0, "{mode:o}");
        }
    }

    #[test]
    fn a_link_left_in_the_way_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, bait) = (folder.path().join("secret"), folder.path().join("bait"));
        fs::write(&bait, "untouched").unwrap();
        let aside = folder.path().join(format!("secret.{}.new", std::process::id()));
        std::os::unix::fs::symlink(&bait, aside).unwrap();
        write(&path, b"mine").unwrap();
        assert_eq!(fs::read_to_string(&bait).unwrap(), "untouched");
    }
}
