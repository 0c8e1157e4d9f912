//! F46, F47: abuse of ranges, and conditions in the order of RFC 9110 §13.2.2.

use ddm_testkit::{cluster::Cluster, process::peak_resident};
use reqwest::{Response, StatusCode, header};
use serde_json::Value;

use super::pair;
use crate::content::{MIB, bytes, file};

const SIZE: u64 = 3 * MIB + 5;

struct Fixture {
    cluster: Cluster,
    id: String,
    url: String,
    token: String,
}

async fn fixture() -> anyhow::Result<Fixture> {
    let cluster = pair(&[]).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 3, SIZE)?, &["--quorum", "1"]).await?;
    let details = cluster.details(&id).await?;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (url, token) = (text(&details["locations"][0]["url"]), text(&details["download"]["token"]));
    Ok(Fixture { cluster, id, url, token })
}

impl Fixture {
    async fn get(&self, fields: &[(&str, &str)]) -> anyhow::Result<Response> {
        let request = self.cluster.http.get(&self.url).bearer_auth(&self.token);
        Ok(fields.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send().await?)
    }
}

#[tokio::test]
async fn ranges_that_ask_for_too_much_cost_a_refusal_and_no_more() -> anyhow::Result<()> {
    let fixture = fixture().await?;
    let all = bytes(3, SIZE);
    let list = |specs: &mut dyn Iterator<Item = String>| format!("bytes={}", specs.collect::<Vec<_>>().join(","));
    let overlapping = list(&mut (0..1_300).map(|n| format!("0-{n}")));
    let suffixes = list(&mut (1..1_300).map(|n| format!("-{n}")));
    let whole_twice = "bytes=0-,0-".to_owned();
    let hundred_and_one = list(&mut (0..101).map(|n| format!("{0}-{0}", 2 * n)));
    let empty_elements = format!("bytes={}", ",".repeat(30_000));
    for range in [
        overlapping.as_str(),
        &suffixes,
        &whole_twice,
        &hundred_and_one,
        &empty_elements,
        "bytes=18446744073709551616-",
        "bytes=18446744073709551615-18446744073709551615",
        "bytes=--1",
        "bytes=-0",
        "bytes=5-4",
        "bytes=",
        "bytes=-",
        "bytes=+1-2",
        "bytes=0x1-2",
        "bytes=1.5-2",
        "bytes=0-1;2-3",
        "bytes=a-b",
        "bytes=3145733-",
    ] {
        let answer = fixture.get(&[("range", range)]).await?;
        let shown: String = range.chars().take(60).collect();
        assert_eq!(answer.status(), StatusCode::RANGE_NOT_SATISFIABLE, "{shown}");
        assert_eq!(answer.headers()[header::CONTENT_RANGE], format!("bytes */{SIZE}"), "{shown}");
        assert_eq!(answer.json::<Value>().await?["status"], 416, "{shown}");
    }
    let huge = format!("bytes=1-{}", "9".repeat(5_000));
    for (range, start, end) in [
        ("bytes=0-18446744073709551616", 0, SIZE),
        (&huge, 1, SIZE),
        ("bytes=-18446744073709551616", 0, SIZE),
        ("bytes=3145732-", SIZE - 1, SIZE),
        ("bytes= 7-8 ,", 7, 9),
    ] {
        let answer = fixture.get(&[("range", range)]).await?;
        assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT, "{range}");
        let shown = format!("bytes {start}-{}/{SIZE}", end - 1);
        assert_eq!(answer.headers()[header::CONTENT_RANGE], shown, "{range}");
        assert!(answer.bytes().await?[..] == all[start as usize..end as usize], "{range}");
    }
    let hundred = list(&mut (0..100).map(|n| format!("{}-{}", 2 * n, 2 * n)));
    let answer = fixture.get(&[("range", &hundred)]).await?;
    assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(answer.bytes().await?.windows(14).filter(|window| window == b"Content-Range:").count(), 100);
    let server = fixture.cluster.servers[0].process.as_ref().unwrap();
    assert!(peak_resident(server.pid()?)? < 96 << 20);
    Ok(())
}

#[tokio::test]
async fn conditions_decide_in_the_order_of_the_rfc() -> anyhow::Result<()> {
    let fixture = fixture().await?;
    let tag = format!("\"{}\"", fixture.id);
    let weak = format!("W/{tag}");
    let list = format!("\"a,b\", {weak}, \"c\"");
    let date = "Sat, 29 Oct 2094 19:43:31 GMT";
    let (part, beyond) = (("range", "bytes=2-3"), ("range", "bytes=9999999-"));
    let rows: Vec<(Vec<(&str, &str)>, u16)> = vec![
        (vec![("if-match", &tag)], 200),
        (vec![("if-match", "*")], 200),
        (vec![("if-match", &weak)], 412),
        (vec![("if-match", "\"other\"")], 412),
        (vec![("if-none-match", &tag)], 304),
        (vec![("if-none-match", &weak)], 304),
        (vec![("if-none-match", &list)], 304),
        (vec![("if-none-match", "*")], 304),
        (vec![("if-none-match", "\"other\"")], 200),
        // The first that fails decides; a range counts only once all hold.
        (vec![("if-match", "\"other\""), ("if-none-match", &tag)], 412),
        (vec![("if-match", &tag), ("if-none-match", &tag), part], 304),
        (vec![("if-match", "\"other\""), beyond], 412),
        (vec![("if-none-match", &tag), beyond], 304),
        (vec![("if-none-match", "\"other\""), beyond], 416),
        (vec![("if-range", &tag), part], 206),
        (vec![("if-range", &weak), part], 200),
        (vec![("if-range", "\"other\""), part], 200),
        (vec![("if-range", date), part], 200),
        (vec![("if-range", "\"other\""), beyond], 200),
        (vec![("if-range", &tag), beyond], 416),
        // There are no dates to compare with (§13.1.3, §13.1.4).
        (vec![("if-modified-since", date)], 200),
        (vec![("if-unmodified-since", "Sat, 29 Oct 1994 19:43:31 GMT")], 200),
    ];
    for (fields, status) in rows {
        let answer = fixture.get(&fields).await?;
        assert_eq!(answer.status(), status, "{fields:?}");
        let of_file = matches!(status, 200 | 206 | 304);
        assert_eq!(answer.headers().get(header::ETAG).is_some_and(|found| *found == tag), of_file, "{fields:?}");
        if status == 304 {
            assert!(answer.bytes().await?.is_empty(), "{fields:?}");
        } else if !of_file {
            assert_eq!(answer.json::<Value>().await?["status"], status, "{fields:?}");
        }
    }
    Ok(())
}
