//! Measures a verified download from three local nginx against one curl that checks nothing.
//!
//! `cargo run --release -p ddm-transfer --example measure -- /dev/shm 1024 5` moves 1024 MiB in that folder, five times
//! each. It needs nginx and curl, starts and stops its own nginx on free ports, and removes what it made. On a real disk,
//! curl is followed by `sync` of its file, because the download is synced too.

use std::{
    error::Error,
    fs::{self, File},
    io::{BufWriter, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use ddm_transfer::{
    download::{Directory, DownloadPlan, Engine, RefreshReason, Settings, Update},
    progress::Progress,
    sink::Destination,
    source::{Source, client_builder},
};
use tokio_util::sync::CancellationToken;
use wire::{
    ChunkLayout, Digest, FileId, TokenId,
    catalogue::{IssuedToken, Location, Manifest},
    token::{Token, TokenKind},
};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

const SERVERS: usize = 3;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "get", folder, ref ports @ ..] => get(Path::new(folder), ports),
        [_, folder, mib, rounds] => measure(Path::new(folder), mib.parse()?, rounds.parse()?),
        _ => Err("usage: measure FOLDER MIB ROUNDS".into()),
    }
}

fn measure(parent: &Path, mib: u64, rounds: usize) -> Result<()> {
    let folder = tempfile::tempdir_in(parent)?;
    let manifest = make_file(folder.path(), mib << 20)?;
    let servers = (0..SERVERS).map(|n| Nginx::start(folder.path(), n, manifest.file)).collect::<Result<Vec<_>>>()?;
    let (mut curl, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        curl.push(run_curl(folder.path(), servers.first().ok_or("no server")?, manifest.file)?);
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("get").arg(folder.path()).args(servers.iter().map(|server| server.port.to_string()));
        let output = command.stderr(Stdio::inherit()).output()?;
        let text = String::from_utf8(output.stdout)?;
        print!("{text}");
        ours.push(text.split_whitespace().next().ok_or("no time")?.parse::<f64>()?);
    }
    let (one, other) = (median(curl).ok_or("no rounds")?, median(ours).ok_or("no rounds")?);
    println!("median: curl {one:.3} s, verified from {SERVERS} sources {other:.3} s, ratio {:.2}", other / one);
    Ok(())
}

fn median(mut times: Vec<f64>) -> Option<f64> {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}

fn run_curl(folder: &Path, server: &Nginx, file: FileId) -> Result<f64> {
    let url = format!("http://127.0.0.1:{}/v1/files/{file}/content", server.port);
    let target = folder.join("curl");
    let started = Instant::now();
    let status = Command::new("curl").args(["--silent", "--fail", "--output"]).arg(&target).arg(url).status()?;
    Command::new("sync").arg(&target).status()?;
    let elapsed = started.elapsed();
    fs::remove_file(target)?;
    if status.success() { Ok(elapsed.as_secs_f64()) } else { Err("curl failed".into()) }
}

struct NoDirectory;

#[async_trait]
impl Directory for NoDirectory {
    async fn refresh(&self, _: RefreshReason) -> Result<Update> {
        Err("there is no directory".into())
    }
}

/// The child process: its memory is that of the download alone.
#[tokio::main]
async fn get(folder: &Path, ports: &[&str]) -> Result<()> {
    let manifest: Manifest = serde_json::from_reader(File::open(folder.join("manifest"))?)?;
    let layout = manifest.check()?;
    let source = |(n, port): (usize, &&str)| -> Result<Source> {
        let url = format!("http://127.0.0.1:{port}/v1/files/{}/content", manifest.file).parse()?;
        let location =
            Location { server: format!("nginx-{n}").parse()?, zone: "a".parse()?, url, runs: layout.all(), cost: 0 };
        Ok(Source { location, tier: 0 })
    };
    let sources = ports.iter().enumerate().map(source).collect::<Result<_>>()?;
    let expires_at = jiff::Timestamp::now() + Duration::from_secs(900);
    let token = IssuedToken {
        token: Token::generate(TokenKind::Download),
        token_id: TokenId::new(),
        expires_at,
        lifetime_s: None,
    };
    let mut settings = Settings::default();
    if let Ok(connections) = std::env::var("CONNECTIONS") {
        settings.connections = connections.parse()?;
    }
    let engine = Engine {
        client: client_builder().build()?,
        settings,
        directory: Arc::new(NoDirectory),
        progress: Progress::new().0,
        cancel: CancellationToken::new(),
    };
    let destination = Destination { folder: folder.into(), name: "got".parse()?, partial_folder: None, replace: false };
    let report = engine.download(DownloadPlan { manifest, sources, token }, &destination).await?;
    fs::remove_file(destination.path())?;
    let usage = fs::read_to_string("/proc/self/stat")?;
    let ticks: u32 = usage.split_whitespace().skip(13).take(2).filter_map(|ticks| ticks.parse::<u32>().ok()).sum();
    // Linux counts in hundredths of a second here, whatever its own clock does.
    let cpu = f64::from(ticks) / 100.0;
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    let requests: u32 = report.sources.iter().map(|source| source.requests).sum();
    println!(
        "{:.3} s, {cpu:.2} CPU-s, {peak}, {requests} requests, {} bytes wasted",
        report.elapsed.as_secs_f64(),
        report.wasted
    );
    Ok(())
}

/// A file of pseudo-random bytes (xorshift64), and its manifest.
fn make_file(folder: &Path, size: u64) -> Result<Manifest> {
    let file = FileId::new();
    let layout = ChunkLayout::of(size)?;
    let content = folder.join(format!("v1/files/{file}/content"));
    fs::create_dir_all(content.parent().ok_or("no parent")?)?;
    let mut writer = BufWriter::new(File::create(content)?);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut chunks = Vec::new();
    for chunk in layout.chunks() {
        let len = usize::try_from(layout.bytes_of(chunk).end - layout.bytes_of(chunk).start)?;
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend(state.to_le_bytes());
        }
        bytes.truncate(len);
        writer.write_all(&bytes)?;
        chunks.push(Digest::of(&bytes));
    }
    writer.into_inner()?.sync_all()?;
    let root = Some(Digest::root_of(&chunks));
    let chunks = chunks.into_iter().map(Some).collect();
    let manifest = Manifest { file, size, chunk_size: layout.chunk_size(), sha256: None, root, chunks };
    fs::write(folder.join("manifest"), serde_json::to_vec(&manifest)?)?;
    Ok(manifest)
}

/// An nginx of our own, stopped when dropped.
struct Nginx {
    port: u16,
    child: Child,
}

impl Nginx {
    fn start(root: &Path, n: usize, file: FileId) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let home: PathBuf = root.join(format!("nginx-{n}"));
        fs::create_dir(&home)?;
        let (home_text, root_text) = (home.display(), root.display());
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        let config = format!(
            "{user} worker_processes 1; daemon off; pid {home_text}/pid; error_log {home_text}/error.log;\n\
             events {{ worker_connections 256; }}\n\
             http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000; etag off;\n\
             client_body_temp_path {home_text}/b; proxy_temp_path {home_text}/p; fastcgi_temp_path {home_text}/f;\n\
             uwsgi_temp_path {home_text}/u; scgi_temp_path {home_text}/s;\n\
             server {{ listen 127.0.0.1:{port}; root {root_text}; add_header ETag '\"{file}\"'; }} }}\n"
        );
        let path = home.join("nginx.conf");
        fs::write(&path, config)?;
        let child = Command::new("nginx").arg("-c").arg(&path).arg("-p").arg(&home).stderr(Stdio::null()).spawn()?;
        let started = Self { port, child };
        for _ in 0..500 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(started);
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err(format!("nginx did not start: {}", fs::read_to_string(home.join("error.log"))?).into())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM lets the master end its worker; a kill would leave the worker behind.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}
