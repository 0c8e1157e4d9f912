//! Expected permissions: every operation of both servers, and its allowed callers.

/// Allowed callers of an operation: kinds of tokens as the description names them, and the least role of a person.
pub(super) struct Gate {
    pub(super) operation: &'static str,
    pub(super) kinds: &'static [&'static str],
    pub(super) role: &'static str,
}

const fn gate(operation: &'static str, kinds: &'static [&'static str], role: &'static str) -> Gate {
    Gate { operation, kinds, role }
}

pub(super) const INFO: &[Gate] = &[
    gate("show_docs", &[], ""),
    gate("show_docs_file", &[], ""),
    gate("show_livez", &[], ""),
    gate("show_root", &[], ""),
    gate("show_metrics", &[], ""),
    gate("show_openapi", &[], ""),
    gate("show_readyz", &[], ""),
    gate("create_session", &[], ""),
    gate("list_audit", &["session"], "admin"),
    gate("list_files", &["session"], "reader"),
    gate("create_file", &["session"], "publisher"),
    gate("show_file", &["session", "server"], "reader"),
    // Its own publisher too: this test's files are the admin's.
    gate("change_file", &["session"], "admin"),
    gate("delete_file", &["session"], "admin"),
    gate("show_policy", &["session"], "reader"),
    gate("change_policy", &["session"], "admin"),
    gate("commit_file", &["session"], "publisher"),
    gate("show_manifest", &["session", "download", "server"], "reader"),
    gate("show_metalink", &["session"], "reader"),
    gate("adopt_file", &["session"], "admin"),
    gate("preheat_file", &["session"], "publisher"),
    gate("show_replicas", &["session"], "reader"),
    gate("put_replica", &["server"], ""),
    gate("create_token", &["session", "server"], "reader"),
    gate("list_unknown", &["session"], "admin"),
    gate("list_servers", &["session"], "reader"),
    gate("put_server", &["server", "join"], ""),
    gate("delete_server", &["server"], ""),
    gate("show_drain", &["session"], "reader"),
    gate("drain_server", &["session"], "admin"),
    gate("undrain_server", &["session"], "admin"),
    gate("show_events", &["server"], ""),
    gate("reconcile", &["server"], ""),
    gate("list_sessions", &["session"], "reader"),
    gate("delete_other_sessions", &["session"], "reader"),
    gate("delete_session", &["session"], "reader"),
    gate("delete_named_session", &["session"], "reader"),
    gate("introspect_token", &["server"], ""),
    gate("delete_token", &["session"], "reader"),
    gate("list_users", &["session"], "admin"),
    // Anyone where registration is open: this row's is not.
    gate("create_user", &["session"], "admin"),
    gate("change_user", &["session"], "admin"),
    gate("create_job", &["session"], "reader"),
    gate("list_jobs", &["session"], "reader"),
    gate("show_job", &["session"], "reader"),
    gate("delete_job", &["session"], "reader"),
    gate("show_job_events", &["session"], "reader"),
    gate("put_job_progress", &["session"], "reader"),
    gate("claim_lease", &["server"], ""),
    gate("report_lease", &["server"], ""),
];

pub(super) const FILE_SERVER: &[Gate] = &[
    gate("livez", &[], ""),
    gate("readyz", &[], ""),
    gate("metrics", &[], ""),
    gate("show_openapi", &[], ""),
    gate("list_chunks", &["upload", "download"], ""),
    gate("put_chunk", &["upload"], ""),
    gate("get_content", &["download"], ""),
    gate("verify_chunk", &["download"], ""),
];
