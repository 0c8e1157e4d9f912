//! What a newcomer sees: publish, download, lose a server, finish, and what to type next.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use client::{
    cli::{Common, Get, Target},
    commands::{Context, get, publish},
    progress::{self, Display},
    session::{Login, Logins},
};
use lifecycle::private_file;
use tokio_util::sync::CancellationToken;
use transfer::{
    info::InfoServer,
    progress::{Progress, Snapshot},
};
use wire::{FileId, ServerId, catalog::NewFile, server::ServerInfo};

use crate::{
    cli::{CommandLine, Home},
    fleet::{ACCOUNT, Fleet},
    sample,
};

/// How long the servers may take to register.
const START: Duration = Duration::from_secs(20);
/// A server is stopped when so much of the file is there, in per cent.
const STOP_AT: u64 = 25;
/// How often to look how far it is.
const GLANCE: Duration = Duration::from_millis(2);

pub(crate) async fn run(line: &CommandLine, home: &Home, fleet: &mut Fleet) -> anyhow::Result<()> {
    let home = home.path();
    let context = context(home, fleet)?;
    let info = context.info_server()?;
    let servers = servers(&info, fleet).await?;
    println!("info-server   {}", fleet.info.as_str().trim_end_matches('/'));
    for (address, server) in servers {
        println!("file server   http://{address}  {server}");
    }
    let file = sample_file(&context, &info, home).await?;
    let downloads = home.join("downloads");
    std::fs::create_dir_all(&downloads)?;
    println!("\nDownloading it from all of them, every chunk checked. One server will be stopped midway.");
    download(&context, fleet, file, &downloads).await?;
    if line.once {
        return Ok(());
    }
    if fleet.restart_stopped().await? {
        println!("\nThe stopped server runs again.");
    }
    next_steps(fleet, home, file);
    Ok(())
}

/// A client's settings and login, written down for whoever types the next command.
fn context(home: &Path, fleet: &Fleet) -> anyhow::Result<Context> {
    let session_file = home.join("logins.json");
    let config = format!("info = {:?}\nsession-file = {:?}\n", fleet.info.as_str(), session_file.display().to_string());
    private_file::write(&home.join("client.toml"), config.as_bytes())?;
    let common = Common {
        info: fleet.info.clone(),
        zone: None,
        json: false,
        session_file: Some(session_file),
        proxy: None,
        origin_proxy: None,
        origin_ca: None,
    };
    let login = Login { email: ACCOUNT.to_owned(), session: fleet.session.clone() };
    Logins::open(&common)?.keep(&fleet.info, login)?;
    Ok(Context { common, cancel: CancellationToken::new(), trace: wire::TraceId::new() })
}

/// Waits until every file server is registered; their addresses and ids.
async fn servers(info: &InfoServer, fleet: &Fleet) -> anyhow::Result<Vec<(String, String)>> {
    let (deadline, wanted) = (Instant::now() + START, fleet.addresses().len());
    loop {
        let live = info.servers().await?.servers;
        if live.len() >= wanted {
            let place = |url: &url::Url| format!("{}:{}", url.host_str().unwrap_or("?"), url.port().unwrap_or(80));
            return Ok(live.iter().map(|server| (place(&server.url), server.id.to_string())).collect());
        }
        ensure!(Instant::now() < deadline, "only {} of {wanted} file servers registered in time", live.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Publishes the sample, unless an earlier run did.
async fn sample_file(context: &Context, info: &InfoServer, home: &Path) -> anyhow::Result<FileId> {
    let known = info.files(sample::NAME, 10, None).await?.files;
    if let Some(file) = known.iter().find(|file| file.sha256.is_some() && file.live_replicas > 1) {
        println!("\nThe sample file {} is published already: {}", file.name, file.id);
        return Ok(file.id);
    }
    println!("\nPublishing a sample file of 256 MiB on every file server.");
    let folder = home.to_owned();
    let path: PathBuf = tokio::task::spawn_blocking(move || sample::make(&folder)).await??;
    let new = NewFile {
        name: sample::NAME.parse()?,
        size: sample::SIZE,
        media_type: None,
        policy: None,
        quorum: None,
        zone: None,
    };
    let (summary, _) = publish::send(context, info, std::fs::File::open(&path)?, &new).await?;
    std::fs::remove_file(&path).context("cannot remove the local copy of the sample")?;
    println!("Published as {}, SHA-256 {}.", summary.id, summary.sha256.context("a digest")?);
    Ok(summary.id)
}

/// Downloads the file, and stops the busiest server on the way.
async fn download(context: &Context, fleet: &mut Fleet, file: FileId, folder: &Path) -> anyhow::Result<()> {
    let target = Target {
        output: Some(folder.to_owned()),
        partial_dir: None,
        wait: Duration::from_secs(60),
        replace: true,
        quiet: false,
    };
    let get = Get { file, target, connections: 4 };
    let display = Display::choose(false, false);
    let (progress, notices) = Progress::new();
    let servers = context.info_server()?.servers().await?.servers;
    let fetching = get::fetch(context, &get, display, (progress.clone(), notices));
    tokio::pin!(fetching);
    // Whoever was told to stop counts, also when the others are done before it has stopped.
    let mut stopped = None;
    let fetched = tokio::select! {
        fetched = &mut fetching => fetched,
        dropped = stop_busiest(fleet, &progress, (&servers, &mut stopped)) => {
            dropped?;
            fetching.await
        }
    };
    let (place, report) = fetched?;
    // Told now: while the bars were drawn the terminal was theirs.
    if let Some((server, percent)) = stopped {
        println!("{server} was stopped in the middle of the download, at {percent} %; the others went on.");
    }
    progress::finish(display, &place.path(), &report);
    Ok(())
}

/// Waits until some of the file is there, then drops the server that gave most of it; notes which, and when.
async fn stop_busiest(
    fleet: &mut Fleet,
    progress: &Progress,
    (servers, stopped): (&[ServerInfo], &mut Option<(ServerId, u64)>),
) -> anyhow::Result<()> {
    let percent = |now: &Snapshot| (now.bytes_done * 100).checked_div(now.bytes_total).unwrap_or(0);
    let mut now = progress.snapshot();
    while percent(&now) < STOP_AT || servers.len() < 2 {
        tokio::time::sleep(GLANCE).await;
        now = progress.snapshot();
    }
    let busiest = now.sources.iter().max_by_key(|source| source.bytes).map(|source| &source.server);
    let Some(server) = servers.iter().find(|server| Some(&server.id) == busiest) else { return Ok(()) };
    *stopped = Some((server.id.clone(), percent(&now)));
    fleet.drop_file_server(server.url.port()).await
}

fn next_steps(fleet: &Fleet, home: &Path, file: FileId) {
    let client = client_command();
    let config = home.join("client.toml");
    let config = config.display();
    println!("\nThe system stays up until Ctrl-C. In another terminal:");
    println!("  {client} --config {config} list");
    println!("  {client} --config {config} {file}");
    println!("  {client} --config {config} publish PATH");
    println!("  {client} --config {config} https://…/FILE    # fetched by all of them together");
    println!("By REST, as {ACCOUNT} with the password in {}:", fleet.password_file.display());
    println!("  curl {}v1/sessions --json '{{\"email\":\"{ACCOUNT}\",\"password\":\"…\"}}'", fleet.info);
}

/// The client beside this program, or the way to build and run it.
fn client_command() -> String {
    let beside = std::env::current_exe().ok().map(|exe| exe.with_file_name("ddm-client"));
    match beside.filter(|path| path.is_file()) {
        Some(path) => path.display().to_string(),
        None => "cargo run --release -p ddm-client --".to_owned(),
    }
}
