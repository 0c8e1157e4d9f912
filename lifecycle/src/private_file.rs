//! Secrets at rest: files that only their owner can read, replaced atomically.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

/// The largest secret file that is read, in bytes.
const MAX_LEN: u64 = 64 * 1024;

/// Replaces `path` with `content`, mode 0600, synced with its folder.
///
/// # Errors
/// Whatever the file system says; the old content stays.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}.new", std::process::id()));
    let written = write_aside(Path::new(&aside), content).and_then(|()| fs::rename(&aside, path));
    if written.is_err() {
        // The name is ours alone; that it may already be gone does not matter.
        let _ = fs::remove_file(&aside);
    }
    written.and_then(|()| File::open(folder)?.sync_all())
}

fn write_aside(aside: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(aside)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Reads `path`; `None` when it does not exist.
///
/// # Errors
/// Whatever the file system says, and [`io::ErrorKind::PermissionDenied`] when others can read the file too.
pub fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} holds a secret but others can read it: run chmod 600 on it", path.display()),
        ));
    }
    let mut content = String::new();
    file.take(MAX_LEN).read_to_string(&mut content)?;
    Ok(Some(content))
}
