use super::{Context, emit, say};
use crate::session::Logins;

/// Forgets the login here even if the info-server cannot be told.
pub(super) async fn run(context: &Context) -> anyhow::Result<()> {
    let mut logins = Logins::open(&context.common)?;
    let known = logins.token(&context.common.info).is_some();
    let told = if known { context.info_server()?.log_out().await } else { Ok(()) };
    logins.forget(&context.common.info)?;
    match told {
        Ok(()) => {}
        // The session had ended already.
        Err(error) if error.status() == Some(401) => {}
        Err(error) => return Err(error.into()),
    }
    if context.common.json {
        emit(&serde_json::json!({ "event": "logged-out" }));
    } else {
        say(if known { "Logged out." } else { "You were not logged in." });
    }
    Ok(())
}
