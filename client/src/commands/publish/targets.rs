//! The chance of an upload's servers to reach its quorum. Pure.

use transfer::upload::UploadError;
use wire::{catalogue::UploadPlan, server::ServerInfo};

/// Returns the number of targets that are live at the address of the plan.
pub(super) fn count_live(plan: &UploadPlan, live: &[ServerInfo]) -> u32 {
    let live_targets = plan.targets.iter().filter(|target| {
        live.iter().any(|server| server.id == target.server && server.url.origin() == target.url.origin())
    });
    u32::try_from(live_targets.count()).unwrap_or(u32::MAX)
}

/// Returns true if the targets with room are fewer than the quorum, even if all failures of other kinds pass.
pub(super) fn lack_room(error: &UploadError) -> bool {
    let UploadError::Quorum { alive, quorum, failed, full, .. } = error else { return false };
    let may_come_back = failed.saturating_sub(*full);
    *full > 0 && usize::try_from(*quorum).is_ok_and(|quorum| alive + may_come_back < quorum)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use wire::{
        FileId, TokenId,
        catalogue::{IssuedToken, UploadTarget},
        token::{Token, TokenKind},
    };

    use super::*;

    fn plan(servers: &[&str]) -> UploadPlan {
        let target = |id: &&str| UploadTarget {
            server: id.parse().unwrap(),
            zone: "eu".parse().unwrap(),
            url: format!("http://{id}:9000/v1/files/x/chunks").parse().unwrap(),
        };
        let (token, expires_at) = (Token::generate(TokenKind::Upload), Timestamp::MAX);
        UploadPlan {
            id: FileId::new(),
            chunk_size: 1 << 20,
            quorum: 2,
            upload: IssuedToken { token, token_id: TokenId::new(), expires_at, lifetime_s: None },
            targets: servers.iter().map(target).collect(),
        }
    }

    fn server(id: &str, url: &str) -> ServerInfo {
        ServerInfo {
            id: id.parse().unwrap(),
            zone: "eu".parse().unwrap(),
            url: url.parse().unwrap(),
            load: 0,
            free_bytes: 0,
            last_seen: Timestamp::UNIX_EPOCH,
            weight: 1,
            draining: true,
        }
    }

    #[test]
    fn a_target_is_live_if_it_is_listed_at_the_address_of_the_plan() {
        let plan = plan(&["a", "b", "c"]);
        assert_eq!(count_live(&plan, &[]), 0);
        let live = [server("a", "http://a:9000"), server("b", "http://b:9001"), server("d", "http://d:9000")];
        assert_eq!(count_live(&plan, &live), 1, "b has another address now");
        let live = ["a", "b", "c"].map(|id| server(id, &format!("http://{id}:9000/behind/a/path")));
        assert_eq!(count_live(&plan, &live), 3);
    }

    #[test]
    fn room_is_lacking_when_too_few_targets_may_come_back() {
        for (alive, failed, full, lacking) in
            [(1, 1, 1, true), (0, 2, 2, true), (0, 2, 1, true), (1, 2, 1, false), (1, 1, 0, false), (0, 0, 0, false)]
        {
            let error = UploadError::Quorum { alive, quorum: 2, failed, full, reasons: String::new() };
            assert_eq!(lack_room(&error), lacking, "{error:?}");
        }
        assert!(!lack_room(&UploadError::Interrupted));
    }
}
