use wire::SessionId;

use super::{Context, emit, say};

/// Lists the open sessions of the account.
pub(super) async fn list(context: &Context) -> anyhow::Result<()> {
    let sessions = context.info_server()?.sessions().await?.sessions;
    if context.common.json {
        sessions.iter().for_each(emit);
        return Ok(());
    }
    say(&format!("{:<36}  {:<20}  {:<20}  FROM", "SESSION", "SINCE", "UNTIL"));
    for session in sessions {
        let from = session.address.map_or_else(|| "-".to_owned(), |address| address.to_string());
        let this = if session.current { "  (this one)" } else { "" };
        say(&format!("{}  {:<20.0}  {:<20.0}  {from}{this}", session.id, session.created_at, session.expires_at));
    }
    Ok(())
}

/// Ends one session.
pub(super) async fn close(context: &Context, id: SessionId) -> anyhow::Result<()> {
    context.info_server()?.close_session(id).await?;
    told(context, "The session is ended.");
    Ok(())
}

/// Ends all sessions but the one that asks.
pub(super) async fn close_others(context: &Context) -> anyhow::Result<()> {
    context.info_server()?.close_other_sessions().await?;
    told(context, "All other sessions are ended.");
    Ok(())
}

fn told(context: &Context, text: &str) {
    if context.common.json {
        emit(&serde_json::json!({ "event": "sessions-closed" }));
    } else {
        say(text);
    }
}
