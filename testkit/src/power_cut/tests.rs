use super::*;

/// A recording of these lines, and the folder that it is about.
fn recording(lines: &[&str]) -> (tempfile::TempDir, Recording) {
    let fixture = tempfile::tempdir().unwrap();
    let (trace, folder, before) = (fixture.path().join("trace"), Path::new("/d"), fixture.path().join("before"));
    std::fs::create_dir(&before).unwrap();
    std::fs::write(before.join("old"), "old").unwrap();
    std::fs::write(&trace, lines.join("\n")).unwrap();
    let recording = Recording::read(&trace, folder, &before).unwrap();
    (fixture, recording)
}

/// Returns the names and contents after a power cut at the end, under each of many fates.
fn outcomes(recording: &Recording, steps: usize) -> std::collections::BTreeSet<Vec<(String, String)>> {
    let outcome = |seed| {
        let target = tempfile::tempdir().unwrap();
        recording.rebuild(steps, seed, target.path()).unwrap();
        let read = |name: &PathBuf| {
            let text = String::from_utf8(std::fs::read(target.path().join(name)).unwrap()).unwrap();
            (name.display().to_string(), text)
        };
        disk::files(target.path()).unwrap().iter().map(read).collect()
    };
    (0..200).map(outcome).collect()
}

fn listed(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

const WRITTEN: [&str; 3] = [
    r#"7 openat(AT_FDCWD</>, "/d/new", O_WRONLY|O_CREAT|O_CLOEXEC, 0600) = 5</d/new>"#,
    r#"7 write(5</d/new>, "\x61\x62", 2) = 2"#,
    r#"7 pwrite64(5</d/new>, "\x63", 1, 2) = 1"#,
];

#[test]
fn what_is_not_synced_may_be_there_or_not_and_what_is_synced_is_there() {
    let (_scene, unsynced) = recording(&WRITTEN);
    let found = outcomes(&unsynced, unsynced.len());
    assert!(found.contains(&listed(&[("old", "old")])), "{found:?}");
    assert!(found.contains(&listed(&[("new", ""), ("old", "old")])), "{found:?}");
    assert!(found.contains(&listed(&[("new", "abc"), ("old", "old")])), "{found:?}");
    assert!(found.contains(&listed(&[("new", "\0\0c"), ("old", "old")])), "reordered: {found:?}");
    assert_eq!(unsynced.unsynced(0..unsynced.len()).len(), 2);

    // The file alone: its bytes last, its name may not.
    let file = [&WRITTEN[..], &["7 fdatasync(5</d/new>) = 0"]].concat();
    let (_scene, synced) = recording(&file);
    let either = [listed(&[("old", "old")]), listed(&[("new", "abc"), ("old", "old")])];
    assert_eq!(outcomes(&synced, synced.len()), either.into());
    let both = [&file[..], &["7 fsync(6</d>) = 0"]].concat();
    let (_scene, synced) = recording(&both);
    assert_eq!(outcomes(&synced, synced.len()), [listed(&[("new", "abc"), ("old", "old")])].into());
    assert!(synced.unsynced(0..synced.len()).is_empty());
    assert_eq!(synced.synced(0..synced.len()), [PathBuf::from(""), PathBuf::from("new")]);
}

#[test]
fn a_sync_covers_what_had_ended_when_it_began_and_a_rename_is_whole_or_not_there() {
    let lines = [
        r#"7 pwrite64(5</d/old>, "\x61", 1, 0 <unfinished ...>"#,
        "8 fsync(5</d/old> <unfinished ...>",
        "7 <... pwrite64 resumed>) = 1",
        "8 <... fsync resumed>) = 0",
        r#"7 rename("/d/old", "/d/new") = 0"#,
    ];
    let (_scene, recording) = recording(&lines);
    let contents = [("old", "old"), ("old", "ald"), ("new", "old"), ("new", "ald")];
    assert_eq!(outcomes(&recording, recording.len()), contents.map(|file| listed(&[file])).into());
}

#[test]
fn answers_are_found_on_the_connection_of_their_requests() {
    let text = |text: &str| text.bytes().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    let (asked, other) = (text("GET / HTTP/1.1\r\nx-mark: 1\r\n"), text("HTTP/1.1 500 x"));
    let lines = [
        format!(r#"7 recvfrom(9<socket:[1]>, "{asked}", 100, 0, NULL, NULL) = 27"#),
        format!(r#"7 sendto(8<socket:[2]>, "{other}", 9, 0, NULL, 0) = 9"#),
        format!(r#"7 writev(9<socket:[1]>, [{{iov_base="{}", iov_len=14}}], 1) = 14"#, text("HTTP/1.1 204 x")),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let (_scene, recording) = recording(&lines);
    assert_eq!(recording.received("x-mark: 1"), Some(1));
    assert_eq!(recording.answered("x-mark: 1"), Some((4, 204)));
    assert_eq!(recording.answered("x-mark: 2"), None);
}

#[test]
fn a_call_that_a_kill_cut_off_may_have_been_carried_out_and_an_interrupted_one_was_not() {
    let text = |text: &str| text.bytes().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    let (asked, answer) = (text("GET / HTTP/1.1\r\nx-mark: 1\r\n"), text("HTTP/1.1 204 x"));
    let asked = format!(r#"7 recvfrom(9<socket:[1]>, "{asked}", 100, 0, NULL, NULL) = 27"#);
    let sent = format!(r#"7 sendto(9<socket:[1]>, "{answer}", 14, 0, NULL, 0"#);
    let answered = |lines: &[&str]| recording(&[&[asked.as_str()], lines].concat()).1.answered("x-mark: 1");
    assert_eq!(answered(&[&format!("{sent}) = ?"), "7 +++ killed by SIGKILL +++"]), Some((2, 204)));
    assert_eq!(
        answered(&[&format!("{sent} <unfinished ...>"), "7 <... sendto resumed> <unfinished ...>) = ?"]),
        Some((2, 204))
    );
    assert_eq!(answered(&[&format!("{sent} <unfinished ...>")]), Some((2, 204)));
    assert_eq!(answered(&[&format!("{sent}) = ? ERESTARTSYS (To be restarted)")]), None);

    let (_scene, written) = recording(&[r#"7 pwrite64(5</d/old>, "\x61", 1, 0) = ?"#]);
    assert_eq!(outcomes(&written, written.len()), ["old", "ald"].map(|text| listed(&[("old", text)])).into());
}

#[test]
fn a_real_program_is_recorded_as_it_was() {
    let fixture = tempfile::tempdir().unwrap();
    let (folder, before) = (fixture.path().join("folder"), fixture.path().join("before"));
    std::fs::create_dir(&folder).unwrap();
    std::fs::create_dir(&before).unwrap();
    let trace = fixture.path().join("trace");
    let mut words = Recording::words(&trace).unwrap();
    // Waits for its end with it.
    words.retain(|word| word != "-D");
    // By whole paths, as the programs of this workspace use them: a call with a relative one does not name its folder.
    let script = "mkdir $0/a && mkdir $0/a/b && echo one > $0/a/b/x && mv $0/a/b/x $0/a/'y, z' && ln $0/a/'y, z' $0/a/w && echo two >> $0/a/w \
                  && rmdir $0/a/b && truncate -s 3 $0/a/w && sync $0/a/w && rm $0/a/'y, z'";
    let place = folder.display().to_string();
    let mut words = words.iter().map(String::as_str).chain(["bash", "-c", script, &place]);
    let status = std::process::Command::new(words.next().unwrap()).args(words).status().unwrap();
    assert!(status.success());
    let recording = Recording::read(&trace, &folder, &before).unwrap();
    recording.check(&folder).unwrap();
    assert_eq!(std::fs::read_to_string(folder.join("a/w")).unwrap(), "one");
}
