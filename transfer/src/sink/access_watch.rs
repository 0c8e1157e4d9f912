//! Notices that another process opened or changed a file.

use std::{
    fs::File,
    os::fd::{AsRawFd as _, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    fs::{
        fstatfs,
        inotify::{self, CreateFlags, WatchFlags},
    },
    io::read,
};

/// File systems on which other machines, or the daemon of the file system, change files without a local event: NFS, SMB, CIFS, 9p,
/// Ceph and FUSE, by their numbers in `linux/magic.h`.
const REMOTE_FILE_SYSTEMS: [rustix::fs::FsWord; 6] =
    [0x6969, 0xfe53_4d42, 0xff53_4d42, 0x0102_1997, 0x00c3_6400, 0x6573_5546];

/// Watches one open file, from the time at which it was opened.
#[derive(Debug)]
pub(super) struct AccessWatch {
    /// `None` if the system reports no accesses: anything may have happened.
    inotify: Option<OwnedFd>,
    was_accessed: AtomicBool,
}

impl AccessWatch {
    /// Begins to watch `file`. Another process may have opened it before unless the file is new.
    pub(super) fn new(file: &File, is_new: bool) -> Self {
        let is_local = fstatfs(file).is_ok_and(|system| !REMOTE_FILE_SYSTEMS.contains(&system.f_type));
        let inotify = is_local.then(|| inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()).flatten();
        let watch = Self { inotify, was_accessed: AtomicBool::new(!is_new) };
        if !watch.add(file, WatchFlags::OPEN) {
            watch.record();
        }
        watch
    }

    /// Watches writes, too: to be called when this process writes no more.
    pub(super) fn include_writes(&self, file: &File) {
        if !self.add(file, WatchFlags::OPEN | WatchFlags::MODIFY) {
            self.record();
        }
    }

    /// Records an access that was noticed otherwise.
    pub(super) fn record(&self) {
        self.was_accessed.store(true, Ordering::Relaxed);
    }

    /// Returns true if another process may have opened or changed the file since the last call.
    pub(super) fn take(&self) -> bool {
        let mut was_accessed = self.was_accessed.swap(false, Ordering::Relaxed);
        let mut buffer = [0; 4096];
        // Which events they are does not matter, and reading ends because this process causes none.
        while self.inotify.as_ref().is_some_and(|inotify| read(inotify, &mut buffer).is_ok_and(|len| len > 0)) {
            was_accessed = true;
        }
        was_accessed
    }

    fn add(&self, file: &File, flags: WatchFlags) -> bool {
        // The name may denote another file by now; this link denotes the open one, and following it opens nothing.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        self.inotify.as_ref().is_some_and(|inotify| inotify::add_watch(inotify, path, flags).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn an_access_by_another_opener_is_noticed_and_the_own_writes_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let file = File::create_new(&path).unwrap();
        let watch = AccessWatch::new(&file, true);
        file.write_all_at(b"own", 0).unwrap();
        assert!(!watch.take());
        let other = File::options().write(true).open(&path).unwrap();
        assert!(watch.take() && !watch.take());
        watch.include_writes(&file);
        other.write_all_at(b"foreign", 0).unwrap();
        assert!(watch.take() && !watch.take());
        std::fs::rename(&path, folder.path().join("y")).unwrap();
        assert!(!watch.take(), "its own rename is no access");
        assert!(AccessWatch::new(&file, false).take(), "another process may have opened an older file before");
    }
}
