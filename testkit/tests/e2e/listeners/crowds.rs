//! F39, F49: readers that never read, sockets that sleep, descriptors that run out.

use std::{
    net::SocketAddr,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use ddm_testkit::{
    cluster::{Cluster, Plan},
    netns::{Host, Net},
    process::{Server, eventually, peak_resident, tool},
    window,
};
use reqwest::StatusCode;
use rustix::process::{Resource, Rlimit, prlimit};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};

use super::{HANG_TIMEOUT, ask, last, listeners, many_sockets, pair};
use crate::content::{MIB, bytes, file};

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// A published file's address and a token for it.
async fn published(cluster: &Cluster, size: u64) -> anyhow::Result<(String, String)> {
    let name = format!("{size}.bin");
    let id = cluster.publish(&file(cluster, &name, size, size)?, &["--quorum", "1"]).await?;
    let details = cluster.details(&id).await?;
    Ok((text(&details["locations"][0]["url"]), text(&details["download"]["token"])))
}

fn content_request(url: &str, token: &str) -> String {
    let path = url.splitn(4, '/').last().unwrap();
    format!("GET /{path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n")
}

#[tokio::test]
async fn readers_that_never_read_are_cut_and_others_are_served_meanwhile() -> anyhow::Result<()> {
    const READERS: u64 = 500;
    many_sockets();
    let limit = window(Duration::from_secs(10), Duration::from_secs(30));
    let cluster = pair(&["--write-timeout", &format!("{}s", limit.as_secs())]).await?;
    let [_, (_, address)] = listeners(&cluster)?;
    let server = cluster.servers[0].process.as_ref().context("a file server")?;
    let (url, token) = published(&cluster, 64 * MIB).await?;
    let request = content_request(&url, &token);
    let mut stalled = Vec::new();
    for _ in 0..READERS {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        stalled.push(stream);
    }
    let running = async || {
        let metrics = cluster.http.get(format!("http://{address}/metrics")).send().await?.text().await?;
        let line =
            metrics.lines().find(|line| line.starts_with("ddm_file_server_bodies_running ")).context("a gauge")?;
        anyhow::Ok(line.rsplit(' ').next().context("a number")?.parse::<u64>()?)
    };
    eventually("all run", Duration::from_secs(20), async || Ok((running().await? > READERS / 2).then_some(()))).await?;
    let answer = cluster.http.get(&url).bearer_auth(&token).header("range", "bytes=0-1048575").send().await?;
    assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
    assert!(answer.bytes().await?[..] == bytes(64 * MIB, 64 * MIB)[..MIB as usize]);
    eventually("all are cut", limit + Duration::from_secs(30), async || Ok((running().await? == 0).then_some(())))
        .await?;
    let peak = peak_resident(server.pid()?)?;
    assert!(peak < (64 << 20) + READERS * (256 << 10), "{peak}");
    for mut stream in stalled {
        // What the kernel had taken may still be read; then it ends, before the file does.
        let (mut all, mut buffer) = (0, vec![0; 1 << 20]);
        while let Ok(n @ 1..) = timeout(HANG_TIMEOUT, stream.read(&mut buffer)).await? {
            all += n;
        }
        assert!(all < (64 * MIB) as usize);
    }
    Ok(())
}

#[tokio::test]
async fn sleepy_sockets_keep_nobody_from_being_served() -> anyhow::Result<()> {
    const SLEEPERS: usize = 2_000;
    many_sockets();
    // The real windows: none of the sleepers is cut while it is measured.
    let cluster = pair(&[]).await?;
    let (url, token) = published(&cluster, 8 * MIB).await?;
    let stalled = content_request(&url, &token);
    let idle = "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n".to_owned();
    let [(_, info), (_, file_server)] = listeners(&cluster)?;
    for (listener, address) in [("info-server", info), ("file-server", file_server)] {
        let mut sleepers = Vec::new();
        for n in 0..SLEEPERS {
            let mut stream = TcpStream::connect(address).await?;
            let said = match n % 3 {
                0 => "GET /livez HTTP/1.1\r\nho",
                1 => &idle,
                _ if listener == "file-server" => &stalled,
                _ => "",
            };
            stream.write_all(said.as_bytes()).await?;
            sleepers.push(stream);
        }
        let mut times = Vec::new();
        for _ in 0..200 {
            let asked = Instant::now();
            let answers = ask(address, last("GET", "/livez", "", "").as_bytes()).await?;
            assert_eq!(answers[0].status, 200, "{listener}");
            times.push(asked.elapsed());
        }
        times.sort();
        // Generous: the machine may be busy. What is measured stands in benchmarks/README.md.
        assert!(times[197] < Duration::from_secs(1), "{listener}: {:?}", times[197]);
        drop(sleepers);
    }
    Ok(())
}

/// Connections that a program on a host has open until its input ends; it says how many of those that it tried are served.
async fn connect(host: &Host, server: SocketAddr, count: usize) -> anyhow::Result<(usize, tokio::process::Child)> {
    const SCRIPT: &str = "
import socket, sys
served = []
for _ in range(int(sys.argv[3])):
    try:
        peer = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
        peer.sendall(b'GET /livez HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n')
        if peer.recv(12) == b'HTTP/1.1 200':
            served.append(peer)
    except OSError:
        pass
print(len(served), flush=True)
sys.stdin.read()
";
    let mut words = host.prefix().into_iter();
    let mut program = tool(words.next().context("a program")?);
    program.args(words).args(["/usr/bin/python3", "-c", SCRIPT]);
    program.args([server.ip().to_string(), server.port().to_string(), count.to_string()]);
    let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut said = BufReader::new(child.stdout.take().context("its words")?).lines();
    let line = timeout(HANG_TIMEOUT, said.next_line()).await??.context("it says nothing: this row needs python3")?;
    Ok((line.parse()?, child))
}

#[tokio::test]
async fn one_address_has_so_many_connections_and_takes_none_from_another() -> anyhow::Result<()> {
    const EACH: usize = 8;
    let Some(net) = Net::start(&["eu"])? else { return Ok(()) };
    let args: Vec<String> = ["--connections-per-address".to_owned(), EACH.to_string()].to_vec();
    let plan = Plan { net: Some(net.clone()), info_args: args.clone(), file_server_args: args, ..Plan::zones(&["eu"]) };
    let cluster = Cluster::start(&plan).await?;
    let (first, second) = (net.host("eu")?, net.host("eu")?);
    for (name, server) in listeners(&cluster)? {
        let (served, open) = connect(&first, server, EACH + 5).await?;
        assert_eq!(served, EACH, "{name}");
        let (others, _open) = connect(&second, server, EACH).await?;
        assert_eq!(others, EACH, "{name}: another address lost its share");
        drop(open);
        eventually("there is room again", HANG_TIMEOUT, async || {
            let (served, _) = connect(&first, server, EACH).await?;
            Ok((served == EACH).then_some(()))
        })
        .await?;
    }
    Ok(())
}

/// P8 at the info-server: many who wait for something, each with a request open.
#[tokio::test]
async fn many_open_requests_at_the_info_server_take_little_memory_each() -> anyhow::Result<()> {
    const OPEN: u64 = 400;
    many_sockets();
    let cluster = pair(&[]).await?;
    let info = cluster.info.as_ref().context("an info-server")?;
    let identity: Value = serde_json::from_str(&std::fs::read_to_string(cluster.path("file-server-0/identity.json"))?)?;
    let path = format!("/v1/servers/{}/events", cluster.servers[0].id);
    let asked = cluster.http.get(format!("{}{path}", cluster.info_url())).bearer_auth(text(&identity["secret"]));
    let known = asked.send().await?.error_for_status()?.text().await?;
    let header: Value = serde_json::from_str(known.lines().next().context("a header")?)?;
    // Nothing more happens: a request for the next event waits.
    let path = format!("{path}?epoch={}&after={}&wait=20", text(&header["epoch"]), header["as_of"]);
    let fields = format!("authorization: Bearer {}\r\n", text(&identity["secret"]));
    let at_rest = info.resident()?;
    assert!(at_rest <= 64 << 20, "{at_rest} at rest");
    let mut open = Vec::new();
    for _ in 0..OPEN {
        let mut stream = TcpStream::connect(info.address()).await?;
        stream.write_all(last("GET", &path, &fields, "").as_bytes()).await?;
        open.push(stream);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut byte = [0];
    let waiting = open.iter().filter(|stream| stream.try_read(&mut byte).is_err()).count();
    let resident = info.resident()?;
    println!("{waiting} of {OPEN} wait; {} KiB each", resident.saturating_sub(at_rest) / 1024 / OPEN);
    assert!(waiting as u64 > OPEN / 2, "{waiting} of {OPEN} requests are open");
    assert!(resident <= (64 << 20) + OPEN * (256 << 10), "{resident}");
    assert_eq!(ask(info.address(), last("GET", "/livez", "", "").as_bytes()).await?[0].status, 200);
    Ok(())
}

/// Leaves a process as many descriptors as it has open; gives them back when it is dropped.
struct Exhausted<'a>(&'a Server, Rlimit);

impl<'a> Exhausted<'a> {
    fn begin(server: &'a Server) -> anyhow::Result<Self> {
        let pid = server.pid()?;
        let open = std::fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero()))?.count();
        let limit = Rlimit { current: Some(u64::try_from(open)?), maximum: Some(20_000) };
        let before = prlimit(Some(pid), Resource::Nofile, limit)?;
        Ok(Self(server, before))
    }
}

impl Drop for Exhausted<'_> {
    fn drop(&mut self) {
        if let Ok(pid) = self.0.pid() {
            prlimit(Some(pid), Resource::Nofile, self.1).unwrap();
        }
    }
}

fn ticks(server: &Server) -> anyhow::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid()?.as_raw_nonzero()))?;
    let fields: Vec<&str> = stat.rsplit(')').next().context("fields")?.split_whitespace().collect();
    Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
}

#[tokio::test]
async fn a_listener_without_descriptors_waits_for_some_and_serves_again() -> anyhow::Result<()> {
    let cluster = pair(&[]).await?;
    let info = cluster.info.as_ref().context("an info-server")?;
    let file_server = cluster.servers[0].process.as_ref().context("a file server")?;
    for server in [info, file_server] {
        let exhausted = Exhausted::begin(server)?;
        // More than are left: the first may still find a place that another connection gave back.
        let mut waiting = Vec::new();
        for _ in 0..20 {
            let mut stream = TcpStream::connect(server.address()).await?;
            stream.write_all(last("GET", "/livez", "", "").as_bytes()).await?;
            waiting.push(stream);
        }
        let before = ticks(server)?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let spent = ticks(server)? - before;
        assert!(spent < 100, "a busy loop: {spent} ticks in two seconds");
        drop(exhausted);
        let healed = Instant::now();
        let answers = ask(server.address(), last("GET", "/livez", "", "").as_bytes()).await?;
        assert_eq!(answers[0].status, 200);
        assert!(healed.elapsed() < Duration::from_secs(10), "{:?}", healed.elapsed());
        for mut stream in waiting {
            let mut came = Vec::new();
            timeout(HANG_TIMEOUT, stream.read_to_end(&mut came)).await??;
            assert!(came.starts_with(b"HTTP/1.1 200"), "the clients that waited are served too");
        }
        let complaints = server.log()?.matches("Cannot accept connections").count();
        assert!(complaints <= 3, "{complaints} lines");
    }
    Ok(())
}

#[tokio::test]
async fn a_blob_that_cannot_be_opened_for_want_of_descriptors_is_asked_for_again() -> anyhow::Result<()> {
    let mut cluster = pair(&[]).await?;
    let mut files = Vec::new();
    for size in [100, 200, 300] {
        files.push((size, published(&cluster, size).await?));
    }
    // Nothing is open then.
    cluster.take_server(0)?.stop().await?;
    cluster.restart_server(0).await?;
    let server = cluster.servers[0].process.as_ref().context("a file server")?;
    eventually("it answers", Duration::from_secs(20), async || {
        Ok(cluster
            .http
            .get(format!("http://{}/readyz", server.address()))
            .send()
            .await
            .ok()
            .filter(|a| a.status() == 200))
    })
    .await?;
    let get = async |url: &str, token: &str| anyhow::Ok(cluster.http.get(url).bearer_auth(token).send().await?);
    // The connection is open before there is no descriptor left for another; so is the token's row.
    let (size, (url, token)) = &files[0];
    assert!(get(url, token).await?.bytes().await?[..] == bytes(*size, *size));
    for (_, (url, token)) in &files {
        let answer = cluster.http.head(url).bearer_auth(token).header("if-match", "\"x\"").send().await?;
        assert_eq!(answer.status(), StatusCode::PRECONDITION_FAILED);
    }
    let exhausted = Exhausted::begin(server)?;
    for _ in 0..30 {
        for (size, (url, token)) in &files {
            let answer = get(url, token).await?;
            match answer.status() {
                StatusCode::OK => assert!(answer.bytes().await?[..] == bytes(*size, *size)),
                StatusCode::SERVICE_UNAVAILABLE => assert!(answer.headers().contains_key("retry-after")),
                other => panic!("{other}"),
            }
        }
    }
    drop(exhausted);
    for (size, (url, token)) in &files {
        let answer = get(url, token).await?;
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(answer.bytes().await?[..] == bytes(*size, *size));
    }
    Ok(())
}
