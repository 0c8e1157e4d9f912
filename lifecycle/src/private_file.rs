//! Secrets at rest: files that only their owner can read, replaced atomically.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
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
    // Left by a process of this number that died; a new file has our mode and is nobody's link.
    match fs::remove_file(aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(aside)?;
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
    file.take(MAX_LEN + 1).read_to_string(&mut content)?;
    if content.len() as u64 > MAX_LEN {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is no file of ours: too long", path.display()),
        ));
    }
    Ok(Some(content))
}

/// Makes a folder that only its owner can enter, and those above it; one that is there stays as it is.
///
/// # Errors
/// Whatever the file system says.
pub fn make_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_replaced_whole_and_is_its_owners_alone() {
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
