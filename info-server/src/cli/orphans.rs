//! `unknown`: orphaned files, which servers hold and the catalogue does not list.

use std::io::{self, Write as _};

use wire::ServerId;

use crate::{catalogue::orphan::OrphanKey, config::Config, db::Database};

/// Rows that are read at once.
const PAGE_SIZE: u32 = 500;

/// The orphaned files to print.
#[derive(Debug, clap::Args)]
pub struct OrphanArgs {
    /// Show only the files of this server
    #[arg(long, value_name = "ID")]
    pub server: Option<ServerId>,
    /// Print one JSON object per line instead of text
    #[arg(long)]
    pub json: bool,
}

/// Prints orphaned files.
///
/// # Errors
/// The database's.
pub async fn print(args: OrphanArgs, config: &Config) -> anyhow::Result<()> {
    let db = Database::open(&config.existing_database()?).await?;
    let printed = print_pages(&db, &args).await;
    db.close().await;
    printed
}

async fn print_pages(db: &Database, args: &OrphanArgs) -> anyhow::Result<()> {
    let mut after = None;
    let mut out = io::stdout().lock();
    loop {
        let page = db.orphans(args.server.as_ref(), after.as_ref(), PAGE_SIZE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(OrphanKey::from(last));
        for orphan in &page {
            let line = if args.json {
                serde_json::to_string(orphan)?
            } else {
                format!("{} {} since {}", orphan.server, orphan.file, orphan.since)
            };
            match writeln!(out, "{line}") {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                written => written?,
            }
        }
    }
}
