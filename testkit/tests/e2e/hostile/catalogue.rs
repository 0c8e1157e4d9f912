//! An info-server that lies about a file.

use std::{fs, path::Path};

use ddm_testkit::rogue::catalogue::ScriptedAnswer;
use serde_json::{Value, json};

use super::fixture::{Fixture, said, tree};
use crate::content::{MIB, event, names};

type Lie = fn(&mut Value, &mut Value);

const BOTH: [&str; 2] = ["size", "chunk_size"];

fn both(details: &mut Value, manifest: &mut Value, values: [Value; 2]) {
    for (key, value) in BOTH.into_iter().zip(values) {
        details[key] = value.clone();
        manifest[key] = value;
    }
}

#[tokio::test]
async fn absurd_manifests_and_details_are_refused_in_bounded_memory() -> anyhow::Result<()> {
    let lies: &[(&str, Lie)] = &[
        ("2^63 bytes", |d, m| both(d, m, [json!(1_u64 << 63), json!(MIB)])),
        ("2^64 - 1 bytes", |d, m| both(d, m, [json!(u64::MAX), json!(u64::MAX)])),
        ("more than 2^64 bytes", |d, m| both(d, m, [json!(1e30), json!(MIB)])),
        ("chunks of no size", |d, m| both(d, m, [json!(3 * MIB), json!(0)])),
        ("chunks of a byte", |d, m| both(d, m, [json!(1_000_000_000), json!(1)])),
        ("a pebibyte without digests", |d, m| both(d, m, [json!(1_u64 << 50), json!(1_u64 << 36)])),
        ("a negative size", |d, m| both(d, m, [json!(-1), json!(MIB)])),
        ("too few digests", |_, m| drop(m["chunks"].as_array_mut().unwrap().pop())),
        ("too many digests", |_, m| {
            let chunks = m["chunks"].as_array_mut().unwrap();
            chunks.extend(vec![chunks[0].clone(); 40_000]);
        }),
        ("another root", |d, m| (d["root"], m["root"]) = (m["chunks"][0].clone(), m["chunks"][0].clone())),
        ("no root", |d, m| (d["root"], m["root"]) = (Value::Null, Value::Null)),
        ("a digest that is none", |_, m| m["chunks"][1] = json!("\u{1b}[2Jxyz")),
        ("a missing digest", |_, m| m["chunks"][1] = Value::Null),
        ("another file", |_, m| m["file"] = json!(wire::FileId::new())),
        ("overlapping runs", |d, _| d["locations"][0]["runs"] = json!([[0, 2], [1, 3]])),
        ("runs that go backwards", |d, _| d["locations"][0]["runs"] = json!([[2, 1]])),
        ("runs beyond all chunks", |d, _| d["locations"][0]["runs"] = json!([[0, 4_000_000_000_u32]])),
        ("a state with escape codes", |d, _| d["state"] = json!("\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}")),
        ("a server that is no name", |d, _| d["locations"][0]["server"] = json!("\u{1b}[31m/../../x")),
        ("a URL that is none", |d, _| d["locations"][0]["url"] = json!("\u{1b}[2J is none")),
        ("no token", |d, _| drop(d.as_object_mut().unwrap().remove("download"))),
        ("a token that would break a header", |d, _| d["download"]["token"] = json!("x\r\nEvil: 1")),
        ("not published", |d, _| d["state"] = json!("uploading")),
    ];
    let fixture = Fixture::new(3 * MIB, 1).await?;
    for (what, lie) in lies {
        let (mut details, mut manifest) = (fixture.details(), fixture.manifest());
        lie(&mut details, &mut manifest);
        fixture.script(&details, &manifest);
        let before = tree(fixture.folder.path())?;
        let output = fixture.run(&[]).await?;
        assert_eq!(output.status.code(), Some(1), "{what}: {}", said(&output));
        assert!(said(&output).starts_with("ddm-client: "), "{what}: {}", said(&output));
        assert_eq!(tree(fixture.folder.path())?, before, "{what}");
    }
    assert_eq!(fixture.rogues[0].asked(), []);
    Ok(())
}

#[tokio::test]
async fn answers_of_the_catalogue_without_end_or_from_elsewhere_are_not_waited_for() -> anyhow::Result<()> {
    let fixture = Fixture::new(3 * MIB, 1).await?;
    let trap = ddm_testkit::rogue::catalogue::RogueInfoServer::start().await?;
    let deep = "[".repeat(100_000);
    for (path, answer, words) in [
        ("", ScriptedAnswer::Endless("        ".repeat(1000)), "too long"),
        ("/manifest", ScriptedAnswer::Endless("{\"file\":\"x\",".repeat(100)), "too long"),
        ("/manifest", ScriptedAnswer::Json(200, deep), "cannot be used"),
        ("", ScriptedAnswer::Json(200, "\u{1b}[2J".to_owned()), "cannot be used"),
        ("", ScriptedAnswer::Json(200, String::new()), "cannot be used"),
        ("", ScriptedAnswer::Elsewhere(format!("{}/v1/files/x", trap.url())), "it redirects to "),
        ("", ScriptedAnswer::Silence, "does not answer"),
        ("", ScriptedAnswer::Json(500, json!({ "title": "\u{1b}[2J\u{202e}x", "status": 500 }).to_string()), "[2Jx"),
    ] {
        fixture.script(&fixture.details(), &fixture.manifest());
        fixture.info_server.respond(&fixture.path(path), answer);
        let output = fixture.run(&[]).await?;
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).contains(words), "{words}: {}", said(&output));
    }
    assert_eq!(trap.requests(), Vec::<String>::new(), "the login went to another origin");
    Ok(())
}

#[tokio::test]
async fn names_lead_nowhere_but_into_the_folder() -> anyhow::Result<()> {
    let fixture = Fixture::new(MIB, 1).await?;
    let long = "x".repeat(10_000);
    let absolute = fixture.folder.path().join("absolute").display().to_string();
    let before = fixture.outside()?;
    for name in [
        "../climbs",
        "..",
        ".",
        "",
        "a/b",
        "a\\b",
        &absolute,
        "/etc/x",
        "\u{1b}[2Jx",
        "x\r\ny",
        "x\0y",
        "gpj.\u{202e}exe",
        "\u{200b}",
        "-rf",
        &long,
    ] {
        let mut details = fixture.details();
        details["name"] = json!(name);
        fixture.script(&details, &fixture.manifest());
        let output = fixture.run(&[]).await?;
        assert_eq!(output.status.code(), Some(1), "{name:?}: {}", said(&output));
        assert_eq!(names(&fixture.here(""))?, Vec::<String>::new(), "{name:?}");
    }
    // Names that are devices on other systems, or hidden, are changed as those of the web are.
    for (name, local) in [
        ("con", "_con"),
        ("NUL", "_NUL"),
        ("aux.txt", "_aux.txt"),
        ("a:b", "a:b"),
        ("~", "~"),
        ("$HOME", "$HOME"),
        ("%2e%2e%2fx", "%2e%2e%2fx"),
        ("...", ""),
        ("x ", "x"),
    ] {
        let mut details = fixture.details();
        details["name"] = json!(name);
        fixture.script(&details, &fixture.manifest());
        let output = fixture.run(&["--json"]).await?;
        if name != "..." {
            event(&output, "done")?;
            assert_eq!(names(&fixture.here(""))?, [local]);
            fs::remove_file(fixture.here(local))?;
        }
    }
    assert_eq!(fixture.outside()?, before);
    Ok(())
}

#[tokio::test]
async fn what_stands_under_the_name_stays_and_is_never_followed() -> anyhow::Result<()> {
    let fixture = Fixture::new(MIB, 1).await?;
    let bait = fixture.folder.path().join("bait");
    fs::write(&bait, "untouched")?;
    let pipe =
        |path: &Path| rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0);
    for name in ["got.bin", "got.bin.part", "got.bin.part.journal"] {
        let path = fixture.here(name);
        for kind in ["link", "dangling link", "folder", "pipe", "file", "second name"] {
            match kind {
                "link" => std::os::unix::fs::symlink(&bait, &path)?,
                "dangling link" => std::os::unix::fs::symlink(fixture.folder.path().join("nothing"), &path)?,
                "folder" => fs::create_dir(&path)?,
                "pipe" => pipe(&path)?,
                "second name" => fs::hard_link(&bait, &path)?,
                _ => fs::write(&path, "mine")?,
            }
            let before = tree(fixture.folder.path())?;
            let output = fixture.run(&[]).await?;
            // A journal is a hint: one that cannot be believed is overwritten.
            if (name, kind) == ("got.bin.part.journal", "file") {
                assert!(output.status.success(), "{}", said(&output));
                fs::remove_file(fixture.here("got.bin"))?;
                continue;
            }
            assert_eq!(output.status.code(), Some(1), "{name} is a {kind}: {}", said(&output));
            assert!(said(&output).contains(name.trim_end_matches(".journal")), "{name} is a {kind}: {}", said(&output));
            if name == "got.bin" {
                assert!(said(&output).contains("-f replaces it"), "{}", said(&output));
            }
            let mut after = tree(fixture.folder.path())?;
            // An empty beginning may have been made before the journal was looked at.
            if name == "got.bin.part.journal" {
                let part = fixture.here("got.bin.part");
                if after.remove(&part).is_some() {
                    fs::remove_file(part)?;
                }
            }
            assert_eq!(after, before, "{name} is a {kind}");
            if kind == "folder" { fs::remove_dir(&path)? } else { fs::remove_file(&path)? }
        }
    }
    // A device is not replaced either, even with leave to replace.
    for args in [&["-o", "/dev/null"][..], &["-f", "-o", "/dev/null"]] {
        let output = fixture.run(args).await?;
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    }
    assert!(std::os::unix::fs::FileTypeExt::is_char_device(&fs::symlink_metadata("/dev/null")?.file_type()));
    // A link is replaced with leave, what it points to is not.
    std::os::unix::fs::symlink(&bait, fixture.here("got.bin"))?;
    event(&fixture.run(&["--json", "-f"]).await?, "done")?;
    assert!(fixture.is_right("got.bin")? && fs::symlink_metadata(fixture.here("got.bin"))?.is_file());
    assert_eq!(fs::read(&bait)?, b"untouched");
    Ok(())
}

#[tokio::test]
async fn a_chunk_that_no_server_holds_is_named_wherever_a_person_looks() -> anyhow::Result<()> {
    let fixture = Fixture::new(6 * MIB, 2).await?;
    let mut details = fixture.details();
    let both = details["locations"].as_array_mut().unwrap();
    (both[0]["runs"], both[1]["runs"]) = (json!([[0, 3], [4, 6]]), json!([[0, 2], [5, 6]]));
    let lacking = json!({ "unavailable": [[3, 4]], "lost": [] });
    details["missing"] = lacking.clone();
    fixture.script(&details, &fixture.manifest());
    let replica = |server: &str, verified: u32| json!({ "server": server, "zone": "a", "live": true, "assigned": true, "draining": false, "verified": verified });
    let replicas = json!({ "file": fixture.file, "chunks": 6, "replicated": false, "missing": lacking,
                           "zones": { "a": { "wanted": 2, "complete": 0, "servers": 2 } },
                           "replicas": [replica("rogue-0", 5), replica("rogue-1", 3)] });
    fixture.info_server.respond(&fixture.path("/replicas"), ScriptedAnswer::Json(200, replicas.to_string()));
    let missing = "no live server has an intact copy of chunk 3";
    for (args, status, next) in [
        (&["info"][..], 0, "publish the file again"),
        (&["replicas"], 0, "publish the file again"),
        (&["get", "--wait", "1s"], 1, "publish the file again"),
        (&["--json", "info"], 0, r#""missing":{"unavailable":[[3,4]],"lost":[]}"#),
        (&["--json", "replicas"], 0, r#""missing":{"unavailable":[[3,4]],"lost":[]}"#),
    ] {
        let output = fixture.run(args).await?;
        let words = [output.stdout.clone(), output.stderr.clone()].concat();
        let words = String::from_utf8_lossy(&words);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {words}");
        assert!(args[0] == "--json" || words.contains(missing), "{args:?}: {words}");
        assert!(words.contains(next), "{args:?}: {words}");
    }
    // A copy that is compared with the manifest needs neither locations nor a token; one that is repaired does.
    fs::write(fixture.here("mine.bin"), &fixture.content)?;
    let details = format!("GET {}", fixture.path(""));
    let asked =
        || fixture.info_server.requests().iter().filter(|line| line.split('?').next() == Some(&*details)).count();
    let before = asked();
    assert_eq!(fixture.run(&["verify", "mine.bin"]).await?.status.code(), Some(0));
    assert_eq!(asked(), before, "{:?}", fixture.info_server.requests());
    let mut spoiled = fixture.content.to_vec();
    spoiled[0] ^= 1;
    fs::write(fixture.here("mine.bin"), spoiled)?;
    assert_eq!(fixture.run(&["verify", "mine.bin"]).await?.status.code(), Some(1));
    assert_eq!(asked(), before, "{:?}", fixture.info_server.requests());
    assert_eq!(fixture.run(&["verify", "--repair", "mine.bin"]).await?.status.code(), Some(0));
    assert!(asked() > before, "{:?}", fixture.info_server.requests());
    Ok(())
}
