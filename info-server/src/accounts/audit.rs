//! The audit log: which account did what, when and from where. An entry is stored in the transaction of what it is about.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Kinds of audit entries.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
#[schema(as = Kind)]
pub enum AuditKind {
    /// A token was issued; about its file.
    Grant,
    /// A token was ended before its time; about the token.
    Revocation,
    /// A log-in.
    Login,
    /// Log-ins with a wrong password, or of no open account.
    LoginFailed,
    /// Log-ins that were refused unchecked because too many had failed.
    LoginThrottled,
    /// A session was ended by its owner or an admin.
    Logout,
    /// An account was made.
    UserAdded,
    /// An account's role, password or state was changed.
    UserChanged,
    /// A file was announced.
    FileCreated,
    /// A file was committed.
    FileCommitted,
    /// A file got another name or replication policy.
    FileChanged,
    /// A file was removed.
    FileDeleted,
    /// Chunks of a file are on no file server any more, or on one again.
    ChunksLost,
    /// A URL was asked for, to be fetched together; about the job.
    JobCreated,
    /// A request for a URL was withdrawn; about the job.
    JobCancelled,
    /// A worker reported wrong digests and was excluded; about the file server.
    #[serde(rename = "worker-convicted")]
    #[value(name = "worker-convicted")]
    FaultyWorkerExcluded,
    /// A file server enrolled.
    ServerEnrolled,
    /// The server was started with other settings.
    Settings,
    /// The catalogue was put back from a backup.
    Restored,
}

impl AuditKind {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::Grant,
        Self::Revocation,
        Self::Login,
        Self::LoginFailed,
        Self::LoginThrottled,
        Self::Logout,
        Self::UserAdded,
        Self::UserChanged,
        Self::FileCreated,
        Self::FileCommitted,
        Self::FileChanged,
        Self::FileDeleted,
        Self::ChunksLost,
        Self::JobCreated,
        Self::JobCancelled,
        Self::FaultyWorkerExcluded,
        Self::ServerEnrolled,
        Self::Settings,
        Self::Restored,
    ];

    /// Returns the word in the database and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grant => "grant",
            Self::Revocation => "revocation",
            Self::Login => "login",
            Self::LoginFailed => "login-failed",
            Self::LoginThrottled => "login-throttled",
            Self::Logout => "logout",
            Self::UserAdded => "user-added",
            Self::UserChanged => "user-changed",
            Self::FileCreated => "file-created",
            Self::FileCommitted => "file-committed",
            Self::FileChanged => "file-changed",
            Self::FileDeleted => "file-deleted",
            Self::ChunksLost => "chunks-lost",
            Self::JobCreated => "job-created",
            Self::JobCancelled => "job-cancelled",
            Self::FaultyWorkerExcluded => "worker-convicted",
            Self::ServerEnrolled => "server-enrolled",
            Self::Settings => "settings",
            Self::Restored => "restored",
        }
    }
}

/// An entry on its way into the log.
#[derive(Debug, Clone, Serialize)]
pub struct AuditEntry {
    kind: AuditKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    count: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Value>,
}

impl AuditEntry {
    /// Makes an entry without an account.
    pub const fn new(kind: AuditKind) -> Self {
        Self { kind, user: None, subject: None, address: None, count: 1, detail: None }
    }

    /// Sets the account and the address that it acted from.
    #[must_use]
    pub fn by(mut self, user: impl Into<Option<i64>>, address: Option<IpAddr>) -> Self {
        self.user = user.into();
        self.address = address;
        self
    }

    /// Sets the subject.
    #[must_use]
    pub fn about(mut self, subject: impl ToString) -> Self {
        self.subject = Some(subject.to_string());
        self
    }

    /// Sets how often it was done.
    #[must_use]
    pub fn times(mut self, count: u64) -> Self {
        self.count = i64::try_from(count).unwrap_or(i64::MAX).max(1);
        self
    }

    /// Adds detail. Never a secret.
    #[must_use]
    pub fn with(mut self, detail: Value) -> Self {
        self.detail = Some(detail);
        self
    }
}

/// A row of the log as admins see it.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(as = Entry)]
pub struct AuditRecord {
    /// Its number; higher ones are later.
    pub id: u64,
    /// Time of the entry.
    pub at: Timestamp,
    /// Its kind.
    pub kind: String,
    /// Name of the account; absent for the terminal, file servers and people who are not signed in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Subject: a file, a token, an account, a job or a server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Address that the account acted from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Number of acts that the row stands for.
    pub count: u64,
    /// Further detail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_one_word() {
        for kind in AuditKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
            assert_eq!(clap::ValueEnum::to_possible_value(&kind).unwrap().get_name(), kind.as_str());
        }
    }
}
