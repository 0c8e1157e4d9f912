//! The continuation of what is held, after a cut and under another link.

use super::*;

#[tokio::test]
async fn a_cut_line_is_resumed_without_a_strong_validator_if_the_bytes_held_are_the_same() {
    for fields in ["", "ETag: W/\"v1\"\r\n", "Last-Modified: Tue, 15 Nov 1994 12:45:26 GMT\r\n"] {
        let bytes = content(1, 6 * MIB);
        let served = bytes.clone();
        let origin = OddOrigin::start(move |asked| {
            let answer = Answer::content(asked, &served, fields);
            if asked.n < 2 { answer.cut(2 * MIB + 7) } else { answer }
        })
        .await;
        let folder = TempDir::new().unwrap();
        let file = fetch(folder.path(), &origin.url("/a.bin"), &[]).await.unwrap();
        assert!(std::fs::read(&file.path).unwrap() == bytes, "{fields}");
        // Each request begins with the last MiB held.
        assert_eq!(origin.starts(), [0, MIB + 7, 2 * MIB + 14], "{fields}");
        assert!(origin.asked().iter().all(|asked| asked.field("if-range").is_none()), "{fields}");
        assert!(origin.sent() <= bytes.len() + 2 * MIB, "{fields}: {}", origin.sent());
        assert_eq!(file.checked, Checked::Unchecked);
        assert!(
            file.unchecked_reason.unwrap().contains("the last bytes held were the same"),
            "{:?}",
            file.unchecked_reason
        );
        // With a SHA-256 nothing is left to doubt.
        let sha256 = Digest::of(&bytes).to_string();
        let folder = TempDir::new().unwrap();
        let file = fetch(folder.path(), &origin.url("/a.bin"), &["--sha256", &sha256]).await.unwrap();
        assert_eq!((file.checked, file.unchecked_reason), (Checked::Sha256, None));
    }
}

#[tokio::test]
async fn a_line_that_is_cut_within_each_comparison_ends_the_download() {
    let served = content(1, 3 * MIB);
    let origin = OddOrigin::start(move |asked| {
        let answer = Answer::content(asked, &served, "");
        answer.cut(if asked.n == 0 { 2 * MIB } else { 1 })
    })
    .await;
    let folder = TempDir::new().unwrap();
    let error = fetch(folder.path(), &origin.url("/a.bin"), &["--wait", "4s"]).await.unwrap_err().to_string();
    assert!(error.contains("start again to resume"), "{error}");
    // The comparison went on where it was cut.
    assert_eq!(origin.starts()[..4], [0, MIB, MIB + 1, MIB + 2]);
    assert!(origin.asked().len() <= 6, "{}", origin.asked().len());
}

#[tokio::test]
async fn another_version_without_a_strong_validator_is_begun_anew() {
    let (one, two) = (content(1, 3 * MIB), content(2, 3 * MIB));
    for (first, then) in [
        // Nothing but the bytes tells them apart.
        ("", ""),
        ("ETag: W/\"v1\"\r\n", "ETag: W/\"v2\"\r\n"),
        ("Last-Modified: Tue, 15 Nov 1994 12:45:26 GMT\r\n", "Last-Modified: Tue, 15 Nov 1994 12:45:27 GMT\r\n"),
        ("Last-Modified: Tue, 15 Nov 1994 12:45:26 GMT\r\n", ""),
    ] {
        let (old, new) = (one.clone(), two.clone());
        let origin = OddOrigin::start(move |asked| match asked.n {
            0 => Answer::content(asked, &old, first).cut(2 * MIB),
            _ => Answer::content(asked, &new, then),
        })
        .await;
        let folder = TempDir::new().unwrap();
        let file = fetch(folder.path(), &origin.url("/a.bin"), &[]).await.unwrap();
        assert!(std::fs::read(&file.path).unwrap() == two, "{first} {then}");
        assert_eq!(origin.starts().last(), Some(&0), "{first} {then}");
        assert!(!file.unchecked_reason.unwrap().contains("cut"), "nothing was added to anything");
    }
}

#[tokio::test]
async fn servers_that_make_different_tags_of_the_same_content_cost_no_byte_that_is_held() {
    let bytes = content(1, 4 * MIB);
    // Two servers take turns; or, after the first request, there is another one for good.
    for servers in [2, usize::MAX] {
        for sha256 in [Some(Digest::of(&bytes).to_string()), None] {
            let served = bytes.clone();
            let origin = OddOrigin::start(move |asked| {
                let tag =
                    if servers == 2 { format!("\"v{}\"", asked.n % 2) } else { format!("\"v{}\"", asked.n.min(1)) };
                let mut asked = asked.clone();
                if asked.field("if-range").is_some_and(|condition| condition != tag) {
                    asked = asked.without_range();
                }
                let answer = Answer::content(&asked, &served, &format!("ETag: {tag}\r\n"));
                if asked.n == 0 { answer.cut(3 * MIB) } else { answer }
            })
            .await;
            let folder = TempDir::new().unwrap();
            let args: Vec<&str> = sha256.iter().flat_map(|sha256| ["--sha256", sha256.as_str()]).collect();
            let file = fetch(folder.path(), &origin.url("/a.bin"), &args).await.unwrap();
            assert!(std::fs::read(&file.path).unwrap() == bytes);
            let last = *origin.starts().last().unwrap();
            let expected = match (servers, &sha256) {
                (2, _) => 3 * MIB,
                (_, Some(_)) => 2 * MIB,
                // Without a SHA-256 another strong tag is another version.
                (_, None) => 3 * MIB,
            };
            assert_eq!(last, expected, "{servers} {sha256:?}");
        }
    }
}

#[tokio::test]
async fn a_fresh_link_to_the_same_object_goes_on_where_the_old_one_ended() {
    let bytes = content(1, 4 * MIB);
    let served = bytes.clone();
    let origin = OddOrigin::start(move |asked| match (asked.n, asked.target.contains("sig=1")) {
        (0, _) => Answer::content(asked, &served, "ETag: \"v1\"\r\n").cut(3 * MIB),
        (_, true) => Answer::status("403 Expired", ""),
        (_, false) => Answer::content(asked, &served, "ETag: \"v1\"\r\n"),
    })
    .await;
    let folder = TempDir::new().unwrap();
    let expired = fetch(folder.path(), &origin.url("/a.bin?sig=1"), &[]).await.unwrap_err().to_string();
    assert!(expired.contains("status 403"), "{expired}");
    let file = fetch(folder.path(), &origin.url("/a.bin?sig=2"), &[]).await.unwrap();
    assert!(std::fs::read(&file.path).unwrap() == bytes);
    assert_eq!(origin.starts(), [0, 3 * MIB, 2 * MIB], "it goes on by a comparison of the last MiB");
}

#[tokio::test]
async fn a_fresh_link_to_another_object_leaves_what_is_held_alone() {
    let (one, two) = (content(1, 3 * MIB), content(2, 3 * MIB));
    let origin = OddOrigin::start(move |asked| match (asked.n, asked.target.contains("id=1")) {
        (0, _) => Answer::content(asked, &one, "").cut(2 * MIB),
        (_, true) => Answer::status("403 Expired", ""),
        (_, false) => Answer::content(asked, &two, ""),
    })
    .await;
    let folder = TempDir::new().unwrap();
    fetch(folder.path(), &origin.url("/a.bin?id=1"), &[]).await.unwrap_err();
    let held = std::fs::read(folder.path().join("a.bin.part")).unwrap();
    let refused = fetch(folder.path(), &origin.url("/a.bin?id=2"), &[]).await.unwrap_err().to_string();
    assert!(refused.contains("a.bin.part"), "{refused}");
    assert!(std::fs::read(folder.path().join("a.bin.part")).unwrap() == held);
}

#[tokio::test]
async fn a_line_that_gives_a_part_of_each_response_gives_the_file_under_every_kind_of_validator() {
    const TAG: &str = "ETag: \"v1\"\r\n";
    let date = "Last-Modified: Tue, 15 Nov 1994 12:45:26 GMT\r\n";
    let weak = format!("ETag: W/\"v1\"\r\n{date}");
    let downloads = [("", 3), ("ETag: W/\"v1\"\r\n", 3), (date, 3), (weak.as_str(), 3), (TAG, 3), ("", 8)].map(
        |(fields, part)| async move {
            let bytes = content(7, 5 * MIB);
            let (served, own) = (bytes.clone(), fields.to_owned());
            let origin = OddOrigin::start(move |asked| {
                let answer = Answer::content(asked, &served, &own);
                // Of the last bytes no part is left to give.
                let len = answer.body.len();
                answer.cut(if len < 64 << 10 { len } else { len * part / 10 })
            })
            .await;
            let folder = TempDir::new().unwrap();
            let file = fetch(folder.path(), &origin.url("/a.bin"), &[]).await.unwrap();
            assert!(std::fs::read(&file.path).unwrap() == bytes, "{fields} {part}");
            let compared = if fields == TAG { 0 } else { 3 * MIB };
            assert!(origin.sent() <= bytes.len() + compared, "{fields} {part}: {} of {}", origin.sent(), bytes.len());
        },
    );
    futures::future::join_all(downloads).await;
}
