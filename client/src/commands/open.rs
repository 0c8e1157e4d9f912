//! Opens a `ddm://` link.

use anyhow::bail;

use super::{
    fetch,
    get::{self, FileDownload},
};
use crate::{
    cli::{DownloadOptions, Fetch, JobOptions, Open, OriginOptions},
    context::Context,
    exit::Exit,
    link::{Link, LinkTarget},
};

/// Runs `open`.
///
/// # Errors
/// When the link names another info-server than the configured one, and as the command that it stands for.
pub(super) async fn run(context: &Context, open: &Open) -> anyhow::Result<Exit> {
    link(context, &open.link, &open.options).await
}

/// Downloads the target of a link.
///
/// # Errors
/// As [`run`].
pub(super) async fn link(context: &Context, link: &Link, options: &DownloadOptions) -> anyhow::Result<Exit> {
    let options = options.clone();
    if !link.agrees(&context.common.info) {
        // A login goes to the info-server that the user chose, never to one that a link chose.
        bail!(
            "the link is for the info-server {}, but yours is {}; if you trust it, log in there and pass it with --info",
            link.info_server.as_deref().unwrap_or_default(),
            context.common.info
        );
    }
    match &link.target {
        LinkTarget::File(file) => get::run(context, &FileDownload { file: *file, options, connections: 4 }).await,
        LinkTarget::Job(job) => fetch::join(context, *job, &options).await,
        LinkTarget::Url(url) => {
            let (urls, job, origin) = (vec![url.clone()], JobOptions::default(), OriginOptions::without_credentials());
            fetch::run(context, &Fetch { urls, options, sha256: None, job, direct: false, origin }).await
        }
    }
}
