//! Error messages: the causes, the next step, and the trace id for the servers' logs.

use info_client::{CERTIFICATE_ADVICE, InfoError};
use transfer::{download::DownloadError, sink::SinkError};
use url::Url;
use wire::problem::Problem;

use crate::{
    context::Context,
    missing_chunks,
    output::{print_json, status},
};

/// Prints an error, and a hint at the next step where there is one.
pub(crate) fn print(context: &Context, error: &anyhow::Error) {
    let (message, trace) = (describe(error, &context.common.info), context.trace);
    if context.common.json {
        print_json(&serde_json::json!({ "event": "error", "message": message, "trace": trace.to_string() }));
    }
    status(&format!("ddm-client: {message}"));
    if let Some(hint) = hint(error) {
        status(&hint);
    }
    if reached_a_server(error) {
        status(&format!("trace {trace} (search the servers' logs for it)"));
    }
}

/// Returns true if a server took part in the failure, so that its log may contain the trace.
fn reached_a_server(error: &anyhow::Error) -> bool {
    // Of a wrong value the message says all, and no log says more.
    let is_wrong_value = |problem: &Problem| matches!(problem.status, 400 | 422);
    let by_info_server = matches!(error.downcast_ref(), Some(InfoError::Refused(problem)) if !is_wrong_value(problem));
    let local = matches!(error.downcast_ref(), Some(DownloadError::Sink(_) | DownloadError::Manifest(_)));
    let by_file_server = error.is::<DownloadError>() && !local;
    by_file_server || (by_info_server && !lacks_login(error) && !is_wrong_password(error))
}

/// Joins the causes from the outermost to the innermost. A cause that an outer one repeats is left out.
fn describe(error: &anyhow::Error, info: &Url) -> String {
    error.chain().fold(String::new(), |message, cause| {
        let cause = match cause.downcast_ref() {
            Some(refusal @ InfoError::Refused(_)) => describe_refusal(refusal, info),
            _ => cause.to_string(),
        };
        match () {
            () if message.is_empty() => cause,
            () if message.contains(&cause) => message,
            () => format!("{message}: {cause}"),
        }
    })
}

/// Describes a refusal in the words of this program: the info-server's are for every program.
fn describe_refusal(refusal: &InfoError, info: &Url) -> String {
    let base = info.as_str().trim_end_matches('/');
    match refusal.problem() {
        Some(problem) if problem.status == 401 && problem.detail.contains("/v1/sessions") => {
            format!("you are not logged in at {base}")
        }
        Some(problem) if problem.kind.ends_with(":not-found") && problem.detail.is_empty() => {
            format!("{base} has nothing of the kind")
        }
        _ => refusal.to_string(),
    }
}

fn hint(error: &anyhow::Error) -> Option<String> {
    let refusal = error.downcast_ref::<InfoError>();
    let hint = match (error.downcast_ref(), refusal.and_then(InfoError::status)) {
        (Some(DownloadError::Sink(SinkError::Exists(_))), _) => "hint: -f replaces it, -o chooses another name",
        (Some(DownloadError::Sink(SinkError::Foreign(_))), _) => {
            "hint: -f replaces it and starts over, -o chooses another name"
        }
        (Some(DownloadError::NoSources { lost: Some(_), .. }), _) => {
            return Some(format!("hint: {}; a URL can be fetched with --direct", missing_chunks::RECOVERY_ADVICE));
        }
        (Some(DownloadError::Lost { .. }), _) => {
            return Some(format!("hint: {}", missing_chunks::LOSS_ADVICE));
        }
        (Some(DownloadError::Sink(SinkError::NotADownload(_) | SinkError::NotOwn(_))), _) => {
            "hint: -o chooses another name or folder, --partial-dir another folder for incomplete files"
        }
        // The message of a failed login is complete.
        (_, Some(401)) if is_wrong_password(error) => return None,
        (Some(DownloadError::Refused { .. }), _) | (_, Some(401)) => "hint: log in with `ddm-client login`",
        (_, Some(404)) if refusal.and_then(InfoError::problem).is_some_and(|it| it.kind.ends_with(":not-found")) => {
            "hint: check what you named, and that --info (or DDM_INFO_URL) is the address of the info-server"
        }
        // The reason contains the address to use.
        _ if refusal.is_some_and(InfoError::has_advice) => return None,
        _ if refusal.is_some_and(InfoError::is_about_certificate) => {
            return Some(format!("hint: {CERTIFICATE_ADVICE}"));
        }
        _ if lacks_answer(error) => {
            "hint: check the address of the info-server (--info or DDM_INFO_URL) and that it is running"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

fn lacks_login(error: &anyhow::Error) -> bool {
    error.downcast_ref::<InfoError>().and_then(InfoError::status) == Some(401)
}

fn lacks_answer(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(InfoError::Unreachable { .. } | InfoError::Unusable { .. }))
}

fn is_wrong_password(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(InfoError::Refused(problem)) if problem.kind.ends_with(":wrong-password"))
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_cause_is_named_once() {
        let inner = io::Error::other("no such thing");
        let path = "x".into();
        let sink = SinkError::Io { doing: "open", path, source: inner };
        let info: Url = "http://127.0.0.1:8000".parse().unwrap();
        let error = anyhow::Error::from(DownloadError::from(sink));
        assert_eq!(describe(&error, &info), "cannot open x: no such thing");
        assert!(!reached_a_server(&error), "no log has it");
        let outer = Err::<(), _>(io::Error::other("no such thing")).context("outside").unwrap_err();
        assert_eq!(describe(&outer, &info), "outside: no such thing");
    }

    fn refusal(status: u16, kind: &str, detail: &str) -> anyhow::Error {
        let problem = serde_json::json!({
            "type": format!("urn:ddm:problem:{kind}"), "title": "Title", "status": status, "detail": detail,
        });
        InfoError::Refused(Box::new(serde_json::from_value(problem).unwrap())).into()
    }

    #[test]
    fn a_refusal_is_worded_for_a_person_at_a_command_line() {
        let info: Url = "http://127.0.0.1:8000".parse().unwrap();
        let rest = "send the token of POST /v1/sessions as a bearer token";
        for (status, kind, detail, message, hinted, traced) in [
            (401, "unauthorized", rest, "you are not logged in at http://127.0.0.1:8000", "`ddm-client login`", false),
            (
                401,
                "unauthorized",
                "this log-in has ended: log in again",
                "Title: this log-in has ended",
                "login",
                false,
            ),
            (401, "wrong-password", "", "Title", "", false),
            (404, "not-found", "", "http://127.0.0.1:8000 has nothing of the kind", "--info", true),
            (404, "no-such-file", "01a22865", "Title: 01a22865", "", true),
            (409, "too-few-servers", "why", "Title: why", "", true),
            (422, "invalid-value", "name: too long", "Title: name: too long", "", false),
        ] {
            let error = refusal(status, kind, detail).context("cannot publish x");
            let shown = describe(&error, &info);
            assert!(shown.starts_with(&format!("cannot publish x: {message}")), "{shown}");
            let hint = hint(&error).unwrap_or_default();
            assert!(hint.contains(hinted) && hint.is_empty() == hinted.is_empty(), "{kind}: {hint}");
            assert_eq!(reached_a_server(&error), traced, "{kind}");
        }
    }
}
