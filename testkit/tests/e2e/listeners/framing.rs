//! F51, and every answer that is given before a route is found.

use std::time::Duration;

use ddm_testkit::process::{eventually, peak_resident};

use super::{ask, last, listeners, pair};

/// Bytes that an attacker wants to be parsed as a request.
const SMUGGLED: &str = "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test]
async fn what_could_be_read_in_two_ways_is_refused_with_a_problem_and_nothing_behind_it_is_read() -> anyhow::Result<()>
{
    let cluster = pair(&[]).await?;
    let field = |size: usize| format!("GET /livez HTTP/1.1\r\nhost: x\r\nbig: {}\r\n\r\n", "a".repeat(size));
    let crowd: String = (0..101).map(|n| format!("f{n}: x\r\n")).collect();
    let get = |fields: &str| format!("GET /livez HTTP/1.1\r\n{fields}\r\n");
    let post = |fields: &str, body: &str| format!("POST /livez HTTP/1.1\r\nhost: x\r\n{fields}\r\n{body}");
    let rows: Vec<(&str, String, u16)> = vec![
        ("no request at all", "hello\r\n\r\n".into(), 400),
        ("binary", "\0\0\0\0".into(), 400),
        ("TLS", "\x16\x03\x01\x02\0\x01\0".into(), 400),
        ("HTTP/0.9", "GET /livez\r\n\r\n".into(), 400),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 505),
        ("HTTP/3.0", "GET /livez HTTP/3.0\r\nhost: x\r\n\r\n".into(), 505),
        ("a long target", format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(10_000)), 414),
        ("a target without end", format!("GET /{}", "a".repeat(200_000)), 414),
        ("100 KB of a field", field(100_000), 431),
        ("1 MiB of a field", field(1 << 20), 431),
        ("101 fields", get(&format!("host: x\r\n{crowd}")), 431),
        ("no host", get(""), 400),
        ("two hosts", get("host: x\r\nhost: x\r\n"), 400),
        ("a host that is none", get("host: a b\r\n"), 400),
        ("two authorizations", get("host: x\r\nauthorization: Bearer a\r\nauthorization: Bearer b\r\n"), 400),
        ("a folded field", get("host: x\r\na: b\r\n c: d\r\n"), 400),
        ("a space before the colon", get("host: x\r\ncontent-length : 5\r\n"), 400),
        ("a lone line feed", "GET /livez HTTP/1.1\nhost: x\n\n".into(), 400),
        ("a lone carriage return", get("host: x\r\na: b\rc: d\r\n"), 400),
        ("a NUL in a field", get("host: x\r\na: \0\r\n"), 400),
        ("length and coding", post("content-length: 4\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n"), 400),
        ("coding and length", post("transfer-encoding: chunked\r\ncontent-length: 4\r\n", "0\r\n\r\n"), 400),
        ("two lengths", post("content-length: 4\r\ncontent-length: 5\r\n", "abcde"), 400),
        ("a list of lengths", post("content-length: 4, 5\r\n", "abcde"), 400),
        ("a signed length", post("content-length: +4\r\n", "abcd"), 400),
        ("a length beyond any file", post("content-length: 18446744073709551616\r\n", ""), 413),
        ("another coding", post("transfer-encoding: gzip\r\n", ""), 400),
        ("two codings", post("transfer-encoding: gzip, chunked\r\n", "0\r\n\r\n"), 400),
        ("chunked twice", post("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n"), 400),
        ("a coding in HTTP/1.0", "POST /livez HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".into(), 400),
        ("a proxy's method", "CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n".into(), 501),
        ("an authority for a target", "GET x:80 HTTP/1.1\r\nhost: x\r\n\r\n".into(), 400),
        ("* with GET", "GET * HTTP/1.1\r\nhost: x\r\n\r\n".into(), 400),
        ("a user in the target", "GET http://u:p@x/livez HTTP/1.1\r\nhost: x\r\n\r\n".into(), 400),
        ("another scheme", "GET ftp://x/livez HTTP/1.1\r\nhost: x\r\n\r\n".into(), 400),
    ];
    for (listener, address) in listeners(&cluster)? {
        for (case, request, status) in &rows {
            let answers = ask(address, format!("{request}{SMUGGLED}").as_bytes()).await?;
            let [answer] = answers.as_slice() else { panic!("{listener}, {case}: {answers:?}") };
            assert_eq!(answer.status, *status, "{listener}, {case}: {answer:?}");
            assert!(answer.is_problem(), "{listener}, {case}: {answer:?}");
            assert_eq!(answer.field("connection"), Some("close"), "{listener}, {case}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_chunked_body_that_is_malformed_ends_its_connection_and_carries_no_request() -> anyhow::Result<()> {
    let cluster = pair(&[]).await?;
    for (listener, address) in listeners(&cluster)? {
        for body in [
            "5\nhello\n0\n\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "5 \r\nhello\r\n0\r\n\r\n",
            "g\r\n",
            "5\r\nhello!!0\r\n\r\n",
            "fffffffffffffffff\r\n",
        ] {
            for target in ["/v1/sessions", "/livez", "/v1/nothing"] {
                let head = format!(
                    "POST {target} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
                );
                let answers = ask(address, format!("{head}{body}{SMUGGLED}").as_bytes()).await?;
                let [answer] = answers.as_slice() else { panic!("{listener} {target} {body:?}: {answers:?}") };
                assert!(
                    (400..500).contains(&answer.status) && answer.is_problem(),
                    "{listener} {target} {body:?}: {answer:?}"
                );
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_form_of_request_that_the_rfc_asks_for_is_answered() -> anyhow::Result<()> {
    let cluster = pair(&[]).await?;
    let h2c = "connection: upgrade, http2-settings, close\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n";
    for (listener, address) in listeners(&cluster)? {
        for (case, request, status) in [
            ("origin form", last("GET", "/livez", "", ""), 200),
            ("absolute form", last("GET", "http://elsewhere/livez", "", ""), 200),
            ("OPTIONS *", last("OPTIONS", "*", "", ""), 204),
            ("HTTP/1.0", "GET /livez HTTP/1.0\r\n\r\n".to_owned(), 200),
            ("HTTP/1.0 with a host", "GET /livez HTTP/1.0\r\nhost: x\r\n\r\n".to_owned(), 200),
            ("an empty line before", format!("\r\n\r\n{}", last("GET", "/livez", "", "")), 200),
            ("an upgrade to HTTP/2", format!("GET /livez HTTP/1.1\r\nhost: x\r\n{h2c}\r\n"), 200),
            ("a body where none is read", last("GET", "/livez", "content-length: 5\r\n", "hello"), 200),
            (
                "a chunked body",
                last("GET", "/livez", "transfer-encoding: chunked\r\n", "5;x=y\r\nhello\r\n0\r\nt: v\r\n\r\n"),
                200,
            ),
            ("an unknown method", last("BREW", "/livez", "", ""), 405),
            ("an unknown address", last("GET", "/nothing", "", ""), 404),
        ] {
            let answers = ask(address, request.as_bytes()).await?;
            let [answer] = answers.as_slice() else { panic!("{listener}, {case}: {answers:?}") };
            assert_eq!(answer.status, status, "{listener}, {case}: {answer:?}");
            assert!(status < 400 || answer.is_problem(), "{listener}, {case}: {answer:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order_up_to_the_first_that_is_refused() -> anyhow::Result<()> {
    let cluster = pair(&[]).await?;
    let one = |target: &str| format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n");
    let posted = "POST /nothing HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nGET / HTT";
    let bad = "GET /a/../livez HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut all = String::new();
    for _ in 0..10 {
        all += &format!("{}{}{posted}", one("/livez"), one("/nothing"));
    }
    all += &format!("{bad}{}", one("/livez"));
    let expected: Vec<u16> = [200, 404, 404].repeat(10).into_iter().chain([400]).collect();
    for (listener, address) in listeners(&cluster)? {
        let statuses: Vec<u16> = ask(address, all.as_bytes()).await?.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, expected, "{listener}");
    }
    Ok(())
}

#[tokio::test]
async fn heads_that_are_too_large_are_not_gathered() -> anyhow::Result<()> {
    super::many_sockets();
    let cluster = pair(&[]).await?;
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\nbig: {}", "a".repeat(1 << 20));
    for (listener, address) in listeners(&cluster)? {
        let asked = (0..200).map(|_| ask(address, head.as_bytes()));
        for answers in futures::future::join_all(asked).await {
            let statuses: Vec<u16> = answers?.iter().map(|answer| answer.status).collect();
            assert_eq!(statuses, [431], "{listener}");
        }
    }
    for server in [&cluster.info, &cluster.servers[0].process].into_iter().flatten() {
        let peak = peak_resident(server.pid()?)?;
        assert!(peak < (64 << 20) + 200 * (256 << 10), "{peak}");
    }
    // Still there.
    eventually("both answer", Duration::from_secs(10), async || {
        for (_, address) in listeners(&cluster)? {
            let answers = ask(address, last("GET", "/livez", "", "").as_bytes()).await?;
            if answers.first().map(|answer| answer.status) != Some(200) {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
    .await
}
