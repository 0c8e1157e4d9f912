//! Opens a `ddm://` link.

use anyhow::bail;

use super::{
    fetch,
    get::{self, FileDownload},
};
use crate::{
    cli::{DownloadOptions, Fetch, Open, UrlOptions},
    context::Context,
    exit::Exit,
    link::{Link, LinkTarget},
};

/// Runs `open`.
///
/// # Errors
/// When the link names another info-server than the configured one, and as the command that it stands for.
pub(super) async fn run(context: &Context, open: &Open) -> anyhow::Result<Exit> {
    let url = UrlOptions::without_credentials(open.settings.clone(), open.limits.clone());
    let how = LinkOptions { options: &open.options, connections: open.connections, url };
    link(context, &open.link, how).await
}

/// Options of the download that a link stands for.
pub(super) struct LinkOptions<'a> {
    pub(super) options: &'a DownloadOptions,
    /// Parallel requests per server.
    pub(super) connections: u16,
    /// Options of URLs, without credentials: another person chose the link.
    pub(super) url: UrlOptions,
}

/// Downloads the target of a link.
///
/// # Errors
/// As [`run`].
pub(super) async fn link(context: &Context, link: &Link, how: LinkOptions<'_>) -> anyhow::Result<Exit> {
    let LinkOptions { options, connections, url } = how;
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
        LinkTarget::File(file) => get::run(context, &FileDownload { file: *file, options, connections }).await,
        LinkTarget::Job(job) => fetch::join(context, *job, &options, url.origin).await,
        LinkTarget::Url(target) => fetch::run(context, &Fetch { urls: vec![target.clone()], options, url }).await,
    }
}
