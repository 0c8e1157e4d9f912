//! Downloads what `get` was given: files, URLs and links, one or several.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, ensure};

use super::{
    batch, fetch,
    get::{self, FileDownload},
    open::{self, LinkOptions},
};
use crate::{
    cli::{Fetch, Get, UrlOptions},
    context::Context,
    exit::{Exit, UsageError},
    lookup::{self, Scope},
    target::{self, Target},
    text,
};

/// Longest list of targets that is read, in bytes.
const MAX_LIST_LEN: u64 = 4 << 20;

/// Runs `get`.
///
/// # Errors
/// Any failure before the file has its name; verified chunks are kept for the next run. Several files print their own errors.
pub(super) async fn run(context: &Context, get: &Get) -> anyhow::Result<Exit> {
    let mut targets = get.targets.clone();
    if let Some(list) = get.input.clone() {
        let reading = context.cancel.run_until_cancelled(read_list(list)).await;
        let Some(listed) = reading else { return Ok(Exit::Interrupted) };
        targets.extend(listed?);
    }
    check_url_options(&get.url, &targets)?;
    if let [only] = targets.as_slice() {
        return one(context, get, only).await;
    }
    if targets.is_empty() {
        return Err(UsageError::refusal("the list names nothing to download"));
    }
    batch::check_options(&get.options)?;
    let mut distinct: Vec<Target> = Vec::new();
    targets.into_iter().for_each(|target| {
        if !distinct.contains(&target) {
            distinct.push(target)
        }
    });
    let get = Arc::new(get.clone());
    batch::run(context, distinct, get.parallel.into(), |context, target| {
        let get = Arc::clone(&get);
        Box::pin(async move { one(&context, &get, &target).await })
    })
    .await
}

/// Refuses options that change nothing for what is to be downloaded.
fn check_url_options(options: &UrlOptions, targets: &[Target]) -> anyhow::Result<()> {
    let urls = targets.iter().filter(|target| matches!(target, Target::Url(_))).count();
    if options.need_url() && urls == 0 {
        return Err(UsageError::refusal("--sha256, --header, --keep, --at and --in are for URLs, and none is given"));
    }
    if options.sha256.is_some() && urls > 1 {
        return Err(UsageError::refusal("--sha256 needs exactly one URL"));
    }
    Ok(())
}

/// Reads a list of targets, from standard input if it is called `-`. The read may block; dropping this future leaves it behind.
async fn read_list(path: PathBuf) -> anyhow::Result<Vec<Target>> {
    let read = move || {
        let mut text = String::new();
        let limit = MAX_LIST_LEN + 1;
        if path == Path::new("-") {
            std::io::stdin().take(limit).read_to_string(&mut text)
        } else {
            std::fs::File::open(&path).and_then(|file| file.take(limit).read_to_string(&mut text))
        }
        .with_context(|| format!("cannot read the list {}", text::path(&path)))?;
        ensure!(u64::try_from(text.len())? <= MAX_LIST_LEN, "the list {} is too long; split it", text::path(&path));
        target::parse_list(&text).map_err(|error| UsageError::refusal(format!("{}: {error}", text::path(&path))))
    };
    tokio::task::spawn_blocking(read).await?
}

/// Downloads one target.
async fn one(context: &Context, get: &Get, target: &Target) -> anyhow::Result<Exit> {
    let options = &get.options;
    match target {
        Target::File(wanted) => {
            let info = context.info_server()?;
            let found = context.cancel.run_until_cancelled(lookup::file(&info, wanted, Scope::Published)).await;
            let Some(found) = found else { return Ok(Exit::Interrupted) };
            let (options, connections) = (options.clone(), get.connections);
            get::run(context, &FileDownload { file: found?, options, connections }).await
        }
        Target::Url(url) => {
            let (urls, options, url) = (vec![url.clone()], options.clone(), get.url.clone());
            fetch::run(context, &Fetch { urls, options, url }).await
        }
        Target::Link(link, _) => {
            let (settings, limits) = (get.url.settings.clone(), get.url.origin.limits.clone());
            let url = UrlOptions::without_credentials(settings, limits);
            open::link(context, link, LinkOptions { options, connections: get.connections, url }).await
        }
    }
}
