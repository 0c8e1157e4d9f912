//! The tour for a newcomer: publish, download, lose a server, finish, and the commands to try next.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use client::{
    cli::{Common, DownloadOptions},
    commands::{
        get::{self, FileDownload},
        publish,
    },
    context::Context,
    progress::{self, Display, ProgressFeed},
    session::{Login, Logins},
};
use info_client::UserClient;
use lifecycle::private_file;
use tokio_util::sync::CancellationToken;
use transfer::progress::{Progress, Snapshot};
use wire::{FileId, ServerId, catalogue::NewFile, grammar::counted, server::ServerInfo};

use crate::{
    cli::{CommandLine, Home},
    fleet::{ACCOUNT, Fleet},
    sample,
};

/// Time for the servers to register.
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(20);
/// Progress at which a server is stopped, in percent.
const STOP_AT_PERCENT: u64 = 25;
/// Time between two looks at the progress.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

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
    println!("\nDownloading the file from all servers, verifying every chunk. One server will be stopped midway.");
    download(&context, fleet, file, &downloads).await?;
    if line.once {
        return Ok(());
    }
    if fleet.restart_stopped().await? {
        println!("\nRestarted the stopped server.");
    }
    next_steps(fleet, home, file);
    Ok(())
}

/// Writes a client's settings and login for the user's next commands, and returns the same for this process.
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
        cacert: None,
        origin_ca: None,
        limit_rate: None,
    };
    let login = Login { email: ACCOUNT.to_owned(), session: fleet.session.clone() };
    Logins::open(&common)?.store(&fleet.info, login)?;
    Ok(Context::new(common, CancellationToken::new()))
}

/// Waits until every file server is registered, and returns their addresses and ids.
async fn servers(info: &UserClient, fleet: &Fleet) -> anyhow::Result<Vec<(String, String)>> {
    let (deadline, wanted) = (Instant::now() + REGISTRATION_TIMEOUT, fleet.addresses().len());
    loop {
        let live = info.servers().await?.servers;
        if live.len() >= wanted {
            let address = |url: &url::Url| format!("{}:{}", url.host_str().unwrap_or("?"), url.port().unwrap_or(80));
            return Ok(live.iter().map(|server| (address(&server.url), server.id.to_string())).collect());
        }
        ensure!(
            Instant::now() < deadline,
            "only {} of {} registered in time; run again with --log info to see why",
            live.len(),
            counted(wanted, "file server")
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Publishes the sample, unless an earlier run did, and returns its id.
async fn sample_file(context: &Context, info: &UserClient, home: &Path) -> anyhow::Result<FileId> {
    let known = info.files(sample::NAME, 10, None).await?.files;
    if let Some(file) = known.iter().find(|file| file.sha256.is_some() && file.live_replicas > 1) {
        println!("\nThe sample file {} is already published as {}", file.name, file.id);
        return Ok(file.id);
    }
    println!("\nPublishing a sample file of 256 MiB to every file server");
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
    println!("Published as {}, SHA-256 {}", summary.id, summary.sha256.context("the info-server returned no SHA-256")?);
    Ok(summary.id)
}

/// Downloads the file and stops the busiest server meanwhile.
async fn download(context: &Context, fleet: &mut Fleet, file: FileId, folder: &Path) -> anyhow::Result<()> {
    let options = DownloadOptions {
        output: Some(folder.to_owned()),
        partial_dir: None,
        wait: Duration::from_secs(60),
        replace: true,
        quiet: false,
    };
    let get = FileDownload { file, options, connections: 4 };
    let display = Display::choose(false, false);
    let feed = ProgressFeed::new();
    let progress = feed.progress.clone();
    let servers = context.info_server()?.servers().await?.servers;
    let downloading = get::download(context, &get, display, feed);
    tokio::pin!(downloading);
    // Stored outside of the future: the download may end before the server has stopped.
    let mut stopped = None;
    let downloaded = tokio::select! {
        downloaded = &mut downloading => downloaded,
        outcome = stop_busiest(fleet, &progress, &servers, &mut stopped) => {
            outcome?;
            downloading.await
        }
    };
    let (destination, report) = downloaded?;
    // Printed after the download: until then the bars occupy the terminal.
    if let Some(Stopped { server, percent }) = stopped {
        println!("{server} was stopped in the middle of the download, at {percent} %; the others continued.");
    }
    progress::finish(display, &destination.path(), &report);
    Ok(())
}

/// Server that was stopped during the download.
struct Stopped {
    server: ServerId,
    /// Progress of the download at that time.
    percent: u64,
}

/// Waits until a part of the file is here, then stops the server that sent most of it and stores which in `stopped`.
async fn stop_busiest(
    fleet: &mut Fleet,
    progress: &Progress,
    servers: &[ServerInfo],
    stopped: &mut Option<Stopped>,
) -> anyhow::Result<()> {
    let percent = |now: &Snapshot| (now.bytes_done * 100).checked_div(now.bytes_total).unwrap_or(0);
    let mut now = progress.snapshot();
    while percent(&now) < STOP_AT_PERCENT || servers.len() < 2 {
        tokio::time::sleep(POLL_INTERVAL).await;
        now = progress.snapshot();
    }
    let busiest = now.sources.iter().max_by_key(|source| source.bytes).map(|source| &source.server);
    let Some(server) = servers.iter().find(|server| Some(&server.id) == busiest) else { return Ok(()) };
    *stopped = Some(Stopped { server: server.id.clone(), percent: percent(&now) });
    fleet.drop_file_server(server.url.port()).await
}

fn next_steps(fleet: &Fleet, home: &Path, file: FileId) {
    let beside = client_beside();
    let client =
        beside.as_ref().map_or_else(|| "target/release/ddm-client".to_owned(), |path| path.display().to_string());
    let config = home.join("client.toml");
    let config = config.display();
    println!("\nThe system runs until you press Ctrl-C. Try in another terminal:");
    if beside.is_none() {
        println!("  cargo build --release -p ddm-client    # builds the client; takes a minute or two, once");
    }
    println!("  {client} --config {config} list");
    println!("  {client} --config {config} {file}");
    println!("  {client} --config {config} publish PATH");
    println!("  {client} --config {config} https://…/FILE    # downloaded jointly by all file servers");
    println!("By REST, as {ACCOUNT} (password in {}):", fleet.password_file.display());
    println!("  curl {}v1/sessions --json '{{\"email\":\"{ACCOUNT}\",\"password\":\"…\"}}'", fleet.info);
}

/// Returns the client beside this program, if it was built.
fn client_beside() -> Option<PathBuf> {
    let beside = std::env::current_exe().ok()?.with_file_name("ddm-client");
    beside.is_file().then_some(beside)
}
