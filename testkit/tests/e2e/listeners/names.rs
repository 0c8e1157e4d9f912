//! F50: names and paths that lead elsewhere, in every route.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{ask, last, listeners, pair};
use crate::content::{MIB, bytes, file};

/// All positions of names in routes.
const INFO_ROUTES: [(&str, &str); 12] = [
    ("GET", "/v1/files/{}"),
    ("DELETE", "/v1/files/{}"),
    ("GET", "/v1/files/{}/manifest"),
    ("POST", "/v1/files/{}/tokens"),
    ("POST", "/v1/files/{}/commit"),
    ("PUT", "/v1/files/{}/replicas/x"),
    ("PUT", "/v1/files/019a0000-0000-7000-8000-000000000000/replicas/{}"),
    ("DELETE", "/v1/tokens/{}"),
    ("PUT", "/v1/servers/{}"),
    ("DELETE", "/v1/servers/{}"),
    ("GET", "/v1/servers/{}/events"),
    ("GET", "/{}"),
];
const FILE_SERVER_ROUTES: [(&str, &str); 5] = [
    ("GET", "/v1/files/{}/content"),
    ("GET", "/v1/files/{}/chunks"),
    ("PUT", "/v1/files/{}/chunks/0"),
    ("PUT", "/v1/files/019a0000-0000-7000-8000-000000000000/chunks/{}"),
    ("GET", "/{}"),
];

#[tokio::test]
async fn names_that_lead_elsewhere_are_refused_in_every_route() -> anyhow::Result<()> {
    let cluster = pair(&[]).await?;
    let long = "a".repeat(4096);
    let hostile = [
        "..",
        ".",
        "%2e%2e",
        ".%2E",
        "..%2f..%2fetc%2fpasswd",
        "../../etc/passwd",
        "..%5c..",
        "a\\b",
        "%00",
        "a%00b",
        "a%0d%0aX-Evil:%201",
        "/etc/passwd",
        "//",
        "%",
        "%zz",
        "%ff%fe",
        "%c0%ae%c0%ae",
        "%25%ff",
        "%61",
        &long,
    ];
    let authorization = format!("authorization: Bearer {}\r\n", cluster.token);
    let [(_, info), (_, file_server)] = listeners(&cluster)?;
    let before = crate::content::names(&cluster.path("file-server-0/partial"))?;
    for (address, routes) in [(info, INFO_ROUTES.as_slice()), (file_server, FILE_SERVER_ROUTES.as_slice())] {
        for (method, route) in routes {
            for name in hostile {
                let target = route.replace("{}", name);
                let answers = ask(address, last(method, &target, &authorization, "").as_bytes()).await?;
                let [answer] = answers.as_slice() else { panic!("{method} {target}: {answers:?}") };
                let refused = matches!(answer.status, 400 | 404 | 414);
                assert!(refused && answer.is_problem(), "{method} {target}: {answer:?}");
                assert!(answer.field("x-evil").is_none(), "{method} {target}");
            }
        }
    }
    assert_eq!(crate::content::names(&cluster.path("file-server-0/partial"))?, before);
    Ok(())
}

#[tokio::test]
async fn names_of_another_kind_are_found_nowhere() -> anyhow::Result<()> {
    let cluster = pair(&[]).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 1, 100)?, &["--quorum", "1"]).await?;
    for name in
        [id.to_uppercase(), id.replace('-', ""), format!("{{{id}}}"), format!("urn:uuid:{id}"), format!("{id}%20")]
    {
        for route in ["/v1/files/{}", "/v1/files/{}/manifest"] {
            let target = route.replace("{}", &name);
            let answer = cluster.request(Method::GET, &target).send().await?;
            assert!(matches!(answer.status().as_u16(), 400 | 404), "{target}: {}", answer.status());
            let problem: Value = answer.json().await?;
            assert!(problem["type"].as_str().is_some(), "{target}: {problem}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_chunk_has_one_number() -> anyhow::Result<()> {
    let cluster = pair(&[]).await?;
    let announced = json!({ "name": "x.bin", "size": MIB, "quorum": 1, "policy": { "replicas": 1 } });
    let made: Value =
        cluster.request(Method::POST, "/v1/files").json(&announced).send().await?.error_for_status()?.json().await?;
    let url = made["targets"][0]["url"].as_str().unwrap();
    let chunk = bytes(1, MIB);
    let digest = wire::Digest::of(&chunk).to_field();
    let put = async |n: &str| {
        let request = cluster.http.put(format!("{url}/{n}")).header("content-digest", &digest).body(chunk.clone());
        anyhow::Ok(request.bearer_auth(made["upload"]["token"].as_str().unwrap()).send().await?)
    };
    for n in ["00", "+0", "-0", "0000000000", "0x0", "0.0", "%30", "%2B0", "0%20", "4294967296", "1", "zero"] {
        let answer = put(n).await?;
        assert!(matches!(answer.status().as_u16(), 400 | 404), "{n}: {}", answer.status());
        assert!(answer.json::<Value>().await?["type"].as_str().is_some(), "{n}");
    }
    assert_eq!(put("0").await?.status(), StatusCode::CREATED);
    Ok(())
}
