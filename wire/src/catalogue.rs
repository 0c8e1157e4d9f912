//! Bodies of the routes between users and the info-server.

mod file;
mod manifest;
mod publication;
mod replica;
mod session;
mod token;

pub use file::{FileChange, FileDetails, FileList, FileState, FileSummary, Location};
pub use manifest::{Manifest, ManifestError};
pub use publication::{Adoption, CommitRequest, NewFile, UploadPlan, UploadTarget};
pub use replica::{
    DigestConflict, FilePolicy, MissingCause, MissingChunks, MissingReason, Policy, PolicyChange, PolicyOutcome,
    PreheatRequest, ReplicaInfo, ReplicaStatus, ZoneStatus,
};
pub use session::{IssuedSession, LoginRequest, SessionInfo, SessionList};
pub use token::{IssuedToken, TokenRequest};
