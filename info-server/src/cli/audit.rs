//! `audit`: the audit log as text or JSON.

use std::io::{self, Write as _};

use crate::{
    accounts::audit::{AuditKind, AuditRecord},
    config::Config,
    db::Database,
};

/// Rows that are read at once.
const PAGE_SIZE: u32 = 500;

/// The part of the audit log to print.
#[derive(Debug, clap::Args)]
pub struct AuditArgs {
    /// Maximum number of entries
    #[arg(long, default_value_t = 100, value_name = "COUNT")]
    pub limit: u32,
    /// Show only entries of this kind
    #[arg(long)]
    pub kind: Option<AuditKind>,
    /// Print one JSON object per line instead of text
    #[arg(long)]
    pub json: bool,
}

/// Prints the audit log, newest first: one line a row, or one JSON object.
///
/// # Errors
/// The database's.
pub async fn print(args: AuditArgs, config: &Config) -> anyhow::Result<()> {
    let db = Database::open(&config.existing_database()?).await?;
    let printed = print_pages(&db, &args).await;
    db.close().await;
    printed
}

async fn print_pages(db: &Database, args: &AuditArgs) -> anyhow::Result<()> {
    let (mut left, mut before) = (args.limit, None);
    let mut out = io::stdout().lock();
    while left > 0 {
        let page = db.audit(before, left.min(PAGE_SIZE), args.kind).await?;
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        left = left.saturating_sub(u32::try_from(page.len())?);
        for entry in &page {
            let line = if args.json { serde_json::to_string(entry)? } else { in_words(entry) };
            match writeln!(out, "{line}") {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                written => written?,
            }
        }
    }
    Ok(())
}

fn in_words(entry: &AuditRecord) -> String {
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let detail = entry.detail.as_ref().map(ToString::to_string).unwrap_or_default();
    let (user, address, subject) = (or_dash(&entry.user), or_dash(&entry.address), or_dash(&entry.subject));
    let times = if entry.count > 1 { format!(" x{}", entry.count) } else { String::new() };
    // Names were checked when they were taken, but a terminal must not be spoken to by any of them.
    let line = format!("{} {}{times} {user} {address} {subject} {detail}", entry.at, entry.kind);
    line.chars().filter(|c| !c.is_control()).collect()
}
