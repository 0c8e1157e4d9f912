use info_client::InfoError;
use wire::SessionId;

use crate::{
    context::Context,
    entry_ref::EntryRef,
    lookup,
    output::{print, print_json},
};

/// Lists the open sessions of the account.
pub(super) async fn list(context: &Context) -> anyhow::Result<()> {
    let sessions = context.info_server()?.sessions().await?.sessions;
    if context.common.json {
        sessions.iter().for_each(print_json);
        return Ok(());
    }
    print(&format!("{:<36}  {:<20}  {:<20}  FROM", "SESSION", "SINCE", "UNTIL"));
    for session in sessions {
        let from = session.address.map_or_else(|| "-".to_owned(), |address| address.to_string());
        let this = if session.current { "  (this one)" } else { "" };
        print(&format!("{}  {:<20.0}  {:<20.0}  {from}{this}", session.id, session.created_at, session.expires_at));
    }
    Ok(())
}

/// Ends one session.
pub(super) async fn close(context: &Context, session: &EntryRef) -> anyhow::Result<()> {
    let info = context.info_server()?;
    let id = lookup::session(&info, session).await?;
    info.close_session(id).await.map_err(|error| explain(id, error))?;
    print_closed(context, "Session ended.");
    Ok(())
}

/// Explains a 404: no session has this id, or it is another account's.
fn explain(id: SessionId, error: InfoError) -> anyhow::Error {
    match error.status() {
        Some(404) => anyhow::anyhow!("you have no session {id}; `ddm-client sessions` lists them"),
        _ => error.into(),
    }
}

/// Ends all sessions except the one of this client.
pub(super) async fn close_others(context: &Context) -> anyhow::Result<()> {
    context.info_server()?.close_other_sessions().await?;
    print_closed(context, "All other sessions ended.");
    Ok(())
}

fn print_closed(context: &Context, text: &str) {
    if context.common.json {
        print_json(&serde_json::json!({ "event": "sessions-closed" }));
    } else {
        print(text);
    }
}
