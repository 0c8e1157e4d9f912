//! Files: publishing, lists, details, replicas. `tests/http/files.rs` tests them in process.

pub(super) mod adopt_file;
pub(super) mod change_file;
pub(super) mod change_policy;
pub(super) mod commit_file;
pub(super) mod create_file;
pub(super) mod delete_file;
pub(super) mod list_files;
pub(super) mod preheat_file;
pub(super) mod put_replica;
pub(super) mod show_file;
pub(super) mod show_manifest;
pub(super) mod show_metalink;
pub(super) mod show_policy;
pub(super) mod show_replicas;
