//! Search for the files and jobs that users name by an id, the beginning of one, or a name.

use info_client::UserClient;
use wire::{
    FileId, JobId, ServerId, SessionId,
    catalogue::{FileState, FileSummary, SessionInfo},
    id::IdPrefix,
    job::JobInfo,
    name::plain,
    server::ServerInfo,
};

use crate::{context::Context, entry_ref::EntryRef, exit::UsageError, text};

/// Matches that an error lists.
const MAX_SHOWN_MATCHES: usize = 20;
/// Length of the shortest beginning of a server's id that counts as one: three characters after `fs-`.
const MIN_SERVER_PREFIX_LEN: usize = 6;
/// Rows of a page of a list.
const PAGE_SIZE: u32 = 500;
/// Pages that are read at most, at an info-server that does not search for ids itself.
const MAX_PAGES: usize = 200;

/// Files that a command works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Published ones; others only where no published one has the name.
    Published,
    /// All, unfinished uploads included.
    Any,
}

/// Returns the id of the file that a text names.
///
/// # Errors
/// [`UsageError`] if the text names several files; its message lists them.
pub(crate) async fn file(info: &UserClient, wanted: &EntryRef, scope: Scope) -> anyhow::Result<FileId> {
    if let Ok(id) = wanted.as_str().parse() {
        return Ok(id);
    }
    let mut found = files_called(info, wanted).await?;
    if let Some(prefix) = wanted.id_prefix() {
        for file in files_with_id(info, wanted.as_str(), prefix).await? {
            if !found.iter().any(|known| known.id == file.id) {
                found.push(file);
            }
        }
    }
    let row = |file: &FileSummary| {
        format!(
            "{}  {:>10}  {:<9}  {:.0}  {}",
            file.id,
            text::size(file.size),
            file.state.as_str(),
            file.created_at,
            file.name
        )
    };
    choose(wanted, "file", narrowed(found, scope), row).map(|file| file.id)
}

/// Returns the id of the published file that a user named.
///
/// # Errors
/// As [`file`].
pub(crate) async fn published(context: &Context, wanted: &EntryRef) -> anyhow::Result<FileId> {
    file(&context.info_server()?, wanted, Scope::Published).await
}

/// Leaves unfinished uploads aside where a published file has the name.
fn narrowed(found: Vec<FileSummary>, scope: Scope) -> Vec<FileSummary> {
    let is_published = |file: &FileSummary| file.state == FileState::Available;
    if scope == Scope::Published && found.iter().any(is_published) {
        return found.into_iter().filter(is_published).collect();
    }
    found
}

async fn files_called(info: &UserClient, wanted: &EntryRef) -> anyhow::Result<Vec<FileSummary>> {
    let (mut found, mut cursor) = (Vec::new(), None::<String>);
    for _ in 0..MAX_PAGES {
        let page = info.files(wanted.as_str(), PAGE_SIZE, cursor.as_deref()).await?;
        found.extend(page.files.into_iter().filter(|file| file.name.as_str() == wanted.as_str()));
        cursor = page.next_cursor;
        if cursor.is_none() || found.len() > MAX_SHOWN_MATCHES {
            break;
        }
    }
    Ok(found)
}

async fn files_with_id(info: &UserClient, text: &str, prefix: IdPrefix) -> anyhow::Result<Vec<FileSummary>> {
    let (mut found, mut cursor) = (Vec::new(), None::<String>);
    for _ in 0..MAX_PAGES {
        let page = info.files_by_id(text, PAGE_SIZE, cursor.as_deref()).await?;
        found.extend(page.files.into_iter().filter(|file| prefix.includes(file.id.as_bytes())));
        cursor = page.next_cursor;
        if cursor.is_none() || found.len() > MAX_SHOWN_MATCHES {
            break;
        }
    }
    Ok(found)
}

/// Returns the id of the job that a text names. Jobs are searched among those that the account requested.
///
/// # Errors
/// [`UsageError`] if the text names several jobs; its message lists them.
pub(crate) async fn job(info: &UserClient, wanted: &EntryRef) -> anyhow::Result<JobId> {
    if let Ok(id) = wanted.as_str().parse() {
        return Ok(id);
    }
    let (mut found, mut cursor) = (Vec::new(), None::<String>);
    for _ in 0..MAX_PAGES {
        let page = info.jobs(PAGE_SIZE.min(200), cursor.as_deref()).await?;
        found.extend(page.jobs.into_iter().filter(|job| wanted.denotes(job.id.as_bytes(), job.name.as_str())));
        cursor = page.next_cursor;
        if cursor.is_none() || found.len() > MAX_SHOWN_MATCHES {
            break;
        }
    }
    let row = |job: &JobInfo| format!("{}  {:<9}  {}", job.id, job.state.as_str(), job.name);
    choose(wanted, "job", found, row).map(|job| job.id)
}

/// Returns the id of the session that a text names, among those of the account.
///
/// # Errors
/// [`UsageError`] if the text names several sessions; its message lists them.
pub(crate) async fn session(info: &UserClient, wanted: &EntryRef) -> anyhow::Result<SessionId> {
    if let Ok(id) = wanted.as_str().parse() {
        return Ok(id);
    }
    let mut found = info.sessions().await?.sessions;
    found.retain(|session| wanted.denotes(session.id.as_bytes(), ""));
    let row = |session: &SessionInfo| format!("{}  since {:.0}", session.id, session.created_at);
    choose(wanted, "session", found, row).map(|session| session.id)
}

/// Returns the id of the live file server whose id begins so.
///
/// # Errors
/// [`UsageError`] if several ids do; its message lists them.
pub(crate) async fn server(info: &UserClient, wanted: &ServerId) -> anyhow::Result<ServerId> {
    let mut found = info.servers().await?.servers;
    found.retain(|server| server.id == *wanted || is_server_prefix(wanted.as_str(), server.id.as_str()));
    let row = |server: &ServerInfo| format!("{}  {}", server.id, server.zone);
    choose(&wanted.as_str().parse()?, "file server", found, row).map(|server| server.id)
}

/// Returns true for a beginning of the id of a server that is long enough to be meant as one.
fn is_server_prefix(text: &str, id: &str) -> bool {
    text.len() >= MIN_SERVER_PREFIX_LEN && id.starts_with(text)
}

/// Returns the only match.
fn choose<T>(wanted: &EntryRef, noun: &str, found: Vec<T>, row: impl Fn(&T) -> String) -> anyhow::Result<T> {
    let wanted = plain(wanted.as_str(), wire::name::MAX_NAME_LEN);
    let rows: Vec<String> = found.iter().take(MAX_SHOWN_MATCHES).map(|entry| format!("  {}", row(entry))).collect();
    let (count, mut matches) = (found.len(), found.into_iter());
    match (matches.next(), matches.next()) {
        (None, _) => anyhow::bail!(
            "no {noun} is called '{wanted}' and no id begins so; `ddm-client {}` shows them all",
            match noun {
                "job" => "jobs",
                "session" => "sessions",
                "file server" => "servers",
                _ => "list",
            }
        ),
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => {
            let more = if count > rows.len() { "\n  …" } else { "" };
            let count =
                if count > MAX_SHOWN_MATCHES { format!("more than {MAX_SHOWN_MATCHES}") } else { count.to_string() };
            Err(UsageError::refusal(format!(
                "'{wanted}' stands for {count} {noun}s; give one of these ids:\n{}{more}",
                rows.join("\n")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn summary(id: &str, name: &str, state: &str) -> FileSummary {
        serde_json::from_value(json!({
            "id": id, "name": name, "size": 1, "sha256": null, "chunk_size": 1 << 20, "state": state,
            "created_at": "2026-01-01T00:00:00Z", "live_replicas": 2,
        }))
        .unwrap()
    }

    #[test]
    fn several_matches_are_a_usage_error_that_lists_them() {
        let [one, two] = ["01a22865-ac96-774b-bcce-b302099a8057", "01a22866-ac96-774b-bcce-b302099a8057"];
        let wanted: EntryRef = "01a2".parse().unwrap();
        let row = |id: &&str| (*id).to_owned();
        let error = choose(&wanted, "file", vec![one, two], row).unwrap_err();
        assert!(
            error.is::<UsageError>() && error.to_string().contains(one) && error.to_string().contains(two),
            "{error}"
        );
        assert_eq!(choose(&wanted, "file", vec![one], row).unwrap(), one);
        let error = choose(&wanted, "file", Vec::<&str>::new(), row).unwrap_err();
        assert!(!error.is::<UsageError>() && error.to_string().contains("ddm-client list"), "{error}");
    }

    #[test]
    fn a_server_is_named_by_a_beginning_of_its_id_that_is_no_accident() {
        for (text, found) in
            [("fs-01a", true), ("fs-01ab23cd45ef", true), ("fs-01", false), ("01ab", false), ("fs-02ab", false)]
        {
            assert_eq!(is_server_prefix(text, "fs-01ab23cd45ef"), found, "{text}");
        }
    }

    #[test]
    fn an_unfinished_upload_hides_no_published_file_from_a_download() {
        let [one, two] = ["01a22865-ac96-774b-bcce-b302099a8057", "01a22866-ac96-774b-bcce-b302099a8057"];
        let both = || vec![summary(one, "x", "uploading"), summary(two, "x", "available")];
        let ids = |scope| narrowed(both(), scope).iter().map(|file| file.id.to_string()).collect::<Vec<_>>();
        assert_eq!(ids(Scope::Published), [two]);
        assert_eq!(ids(Scope::Any), [one, two]);
        assert_eq!(narrowed(vec![summary(one, "x", "uploading")], Scope::Published).len(), 1);
    }
}
