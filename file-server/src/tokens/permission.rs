//! The decision whether a grant allows a request. Pure.

use jiff::Timestamp;
use wire::{
    FileId, ServerId, Zone,
    token::{Grant, GrantPurpose},
};

/// Access that a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequiredAccess {
    /// Read content.
    Read,
    /// Write chunks.
    Write,
    /// List the stored chunks.
    List,
}

/// Everything about a request that a grant must allow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AccessRequest<'a> {
    pub(crate) file: FileId,
    pub(crate) access: RequiredAccess,
    /// The server that received the request.
    pub(crate) server: &'a ServerId,
    /// The server's zone.
    pub(crate) zone: &'a Zone,
    pub(crate) now: Timestamp,
}

/// Returns true if `grant` allows `request`.
pub(crate) fn allows(grant: &Grant, request: AccessRequest<'_>) -> bool {
    let AccessRequest { file, access, server, zone, now } = request;
    let purpose = match (&grant.purpose, access) {
        (GrantPurpose::Download, RequiredAccess::Read | RequiredAccess::List) => true,
        (GrantPurpose::Upload { targets, .. }, RequiredAccess::Write | RequiredAccess::List) => {
            targets.contains(server)
        }
        (GrantPurpose::Download, RequiredAccess::Write) | (GrantPurpose::Upload { .. }, RequiredAccess::Read) => false,
    };
    purpose
        && grant.file == file
        && now < grant.expires_at
        && grant.zones.as_ref().is_none_or(|zones| zones.contains(zone))
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use wire::{Digest, TokenId};

    use super::*;

    #[test]
    fn a_grant_allows_its_own_file_purpose_place_and_time_only() {
        let now: Timestamp = "2026-05-01T10:00:00Z".parse().unwrap();
        let (server, zone): (ServerId, Zone) = ("fs-a".parse().unwrap(), "eu".parse().unwrap());
        let file = FileId::new();
        let download = Grant {
            token_hash: Digest::of(b"x"),
            token_id: TokenId::new(),
            file,
            zones: None,
            expires_at: now + SignedDuration::from_secs(1),
            purpose: GrantPurpose::Download,
        };
        let upload = Grant {
            purpose: GrantPurpose::Upload { size: 1, chunk_size: 1 << 20, targets: vec![server.clone()] },
            ..download.clone()
        };
        let zoned = |zones: &[&str]| Grant {
            zones: Some(zones.iter().map(|zone| zone.parse().unwrap()).collect()),
            ..download.clone()
        };
        let elsewhere = Grant {
            purpose: GrantPurpose::Upload { size: 1, chunk_size: 1 << 20, targets: vec!["fs-b".parse().unwrap()] },
            ..download.clone()
        };
        let other = FileId::new();
        let late = now + SignedDuration::from_secs(1);
        for (grant, file, access, now, expected) in [
            (&download, file, RequiredAccess::Read, now, true),
            (&download, file, RequiredAccess::List, now, true),
            (&download, file, RequiredAccess::Write, now, false),
            (&download, other, RequiredAccess::Read, now, false),
            (&download, file, RequiredAccess::Read, late, false),
            (&zoned(&["eu", "us"]), file, RequiredAccess::Read, now, true),
            (&zoned(&["us"]), file, RequiredAccess::Read, now, false),
            (&zoned(&[]), file, RequiredAccess::Read, now, false),
            (&upload, file, RequiredAccess::Write, now, true),
            (&upload, file, RequiredAccess::List, now, true),
            (&upload, file, RequiredAccess::Read, now, false),
            (&elsewhere, file, RequiredAccess::Write, now, false),
        ] {
            let request = AccessRequest { file, access, server: &server, zone: &zone, now };
            assert_eq!(allows(grant, request), expected, "{grant:?} {request:?}");
        }
    }
}
