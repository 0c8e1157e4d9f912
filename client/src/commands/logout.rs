use crate::{
    context::Context,
    output::{print, print_json},
    session::Logins,
};

/// Logs out. The stored login is deleted even if the info-server cannot be reached.
pub(super) async fn run(context: &Context) -> anyhow::Result<()> {
    let mut logins = Logins::open(&context.common)?;
    let is_stored = logins.token(&context.common.info).is_some();
    let outcome = if is_stored { context.info_server()?.log_out().await } else { Ok(()) };
    logins.remove(&context.common.info)?;
    match outcome {
        Ok(()) => {}
        // The session ended earlier.
        Err(error) if error.status() == Some(401) => {}
        Err(error) => {
            let advice = "the login is removed here, but its session goes on at the info-server: end it with `ddm-client login` and \
                          `ddm-client sessions`, or wait until it expires";
            return Err(anyhow::Error::from(error).context(advice));
        }
    }
    if context.common.json {
        print_json(&serde_json::json!({ "event": "logged-out" }));
    } else {
        print(if is_stored { "Logged out." } else { "You were not logged in." });
    }
    Ok(())
}
