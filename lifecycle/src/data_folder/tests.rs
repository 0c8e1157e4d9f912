use super::*;

fn prepare(path: &Path, init: bool) -> Result<(), String> {
    let folder = DataFolder { path, evidence: &["identity.json"], mode: 0o750, init };
    folder.prepare().map_err(|error| format!("{error:#}"))
}

fn marked(path: &Path) -> bool {
    path.join(MARK).is_file()
}

#[test]
fn a_folder_that_does_not_exist_is_made_and_marked_and_taken_at_every_later_start() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("a neighbour"), b"").unwrap();
    let path = home.path().join("store");
    for start in 0..2 {
        assert_eq!(prepare(&path, false), Ok(()), "start {start}");
        assert!(marked(&path));
    }
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2, "nothing else is left");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o750);
}

#[test]
fn an_empty_folder_without_a_mark_is_refused_until_it_is_begun_with_init() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("store");
    for remains in [&[][..], &["lost+found"], &["files", "partial"]] {
        fs::create_dir(&path).unwrap();
        remains.iter().for_each(|name| fs::create_dir(path.join(name)).unwrap());
        let refusal = prepare(&path, false).unwrap_err();
        assert!(refusal.contains("store is empty") && refusal.contains("mount"), "{refusal}");
        assert!(refusal.contains("--init"), "{refusal}");
        assert!(!marked(&path));
        assert_eq!(prepare(&path, true), Ok(()));
        assert!(marked(&path));
        assert_eq!(prepare(&path, false), Ok(()), "once is enough");
        fs::remove_dir_all(&path).unwrap();
    }
}

#[test]
fn a_folder_in_an_empty_one_is_not_made_because_the_empty_one_may_be_that_of_a_disk() {
    let home = tempfile::tempdir().unwrap();
    let mount = home.path().join("mnt");
    fs::create_dir(&mount).unwrap();
    for path in [mount.join("store"), mount.join("deep/store")] {
        let refusal = prepare(&path, false).unwrap_err();
        assert!(refusal.contains("mnt is empty") && refusal.contains("--init"), "{refusal}");
        assert_eq!(fs::read_dir(&mount).unwrap().count(), 0, "nothing is made");
    }
    assert_eq!(prepare(&mount.join("store"), true), Ok(()));
    assert_eq!(prepare(&mount.join("other"), false), Ok(()), "the folder is not empty any more");
}

#[test]
fn a_folder_of_an_earlier_version_is_marked_and_one_with_other_files_is_taken() {
    let home = tempfile::tempdir().unwrap();
    for name in ["identity.json", "join-secret"] {
        let path = home.path().join(name).join("data");
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join(name), b"x").unwrap();
        assert_eq!(prepare(&path, false), Ok(()), "{name}");
        assert!(marked(&path), "{name}");
    }
}

#[test]
fn mount_points_are_read_from_a_table_deepest_first() {
    let table =
        "# a comment\nUUID=1 / ext4 defaults 0 1\n/dev/b /srv/ddm ext4 nofail 0 2\n/dev/c /srv/ddm/my\\040disk xfs\n";
    assert_eq!(mount_points(table), [Path::new("/srv/ddm/my disk"), Path::new("/srv/ddm")]);
}

#[test]
fn a_folder_that_is_replaced_removed_or_emptied_is_noticed() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("a neighbour"), b"").unwrap();
    let path = home.path().join("store");
    let begin = || {
        prepare(&path, false).unwrap();
        fs::write(path.join("lock"), b"").unwrap();
        let watch = FolderWatch::new(&path, &["lock"]).unwrap();
        assert_eq!(watch.check(), Ok(()));
        watch
    };
    let watch = begin();
    fs::rename(&path, home.path().join("aside")).unwrap();
    assert_eq!(watch.check(), Err(FolderReplaced(path.clone())), "gone");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("lock"), b"").unwrap();
    assert_eq!(watch.check(), Err(FolderReplaced(path.clone())), "replaced");
    fs::remove_dir_all(&path).unwrap();
    fs::rename(home.path().join("aside"), &path).unwrap();
    assert_eq!(watch.check(), Ok(()), "back");
    fs::remove_file(path.join("lock")).unwrap();
    assert_eq!(watch.check(), Err(FolderReplaced(path.join("lock"))), "emptied");
}

#[test]
fn a_subfolder_whose_disk_is_not_mounted_is_refused_and_one_that_was_emptied_or_removed_is_taken() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("a neighbour"), b"").unwrap();
    let path = home.path().join("store");
    let folder = DataFolder { path: &path, evidence: &[], mode: 0o750, init: false };
    let (files, partial, aside) = (path.join("files"), path.join("partial"), path.join("aside"));
    let begin = |folder: DataFolder<'_>| {
        folder
            .prepare()
            .and_then(|()| folder.prepare_subfolders(&[&files, &partial]))
            .map_err(|error| format!("{error:#}"))
    };
    folder.prepare().unwrap();
    // Of an earlier version.
    fs::create_dir(&partial).unwrap();
    assert_eq!(begin(folder), Ok(()));
    assert!(marked(&files) && marked(&partial));
    for subfolder in [&files, &partial] {
        fs::rename(subfolder, &aside).unwrap();
        fs::create_dir(subfolder).unwrap();
        let refusal = begin(folder).unwrap_err();
        assert!(refusal.contains(&format!("{} is empty", subfolder.display())), "{refusal}");
        assert!(refusal.contains("mount it") && refusal.contains("--init"), "{refusal}");
        assert!(!marked(subfolder));
        fs::remove_dir(subfolder).unwrap();
        fs::rename(&aside, subfolder).unwrap();
        assert_eq!(begin(folder), Ok(()), "mounted again");
    }
    fs::remove_file(files.join(MARK)).unwrap();
    fs::remove_dir_all(&partial).unwrap();
    assert_eq!(begin(folder), Ok(()), "emptied and removed");
    assert!(marked(&files) && marked(&partial));
    fs::rename(&files, &aside).unwrap();
    fs::create_dir(&files).unwrap();
    assert_eq!(begin(DataFolder { init: true, ..folder }), Ok(()));
    assert_eq!(begin(folder), Ok(()), "once is enough");
}

#[test]
fn a_subfolder_that_is_replaced_is_noticed_and_one_that_is_removed_is_remade() {
    let home = tempfile::tempdir().unwrap();
    let (files, aside) = (home.path().join("files"), home.path().join("aside"));
    fs::create_dir(&files).unwrap();
    let watch = FolderWatch::new(home.path(), &[]).unwrap().and_subfolders(&[&files]).unwrap();
    fs::rename(&files, &aside).unwrap();
    fs::create_dir(&files).unwrap();
    assert_eq!(watch.check(), Err(FolderReplaced(files.clone())));
    assert!(watch.remake_subfolder(&files).is_err());
    fs::remove_dir(&files).unwrap();
    assert_eq!(watch.check(), Ok(()), "removed");
    watch.remake_subfolder(&files).unwrap();
    assert!(marked(&files));
    assert_eq!(watch.check(), Ok(()), "remade");
    fs::remove_file(files.join(MARK)).unwrap();
    assert_eq!(watch.check(), Ok(()), "emptied");
}
