//! Whether the servers that an upload was begun on can still make its quorum. Pure.

use transfer::upload::UploadError;
use wire::{catalog::UploadPlan, server::ServerInfo};

/// What a server without room answers, in the words of the engine.
const FULL: &str = "status 507";

/// How many of a plan's targets live where the plan says.
pub(super) fn living(plan: &UploadPlan, live: &[ServerInfo]) -> u32 {
    let lives = plan.targets.iter().filter(|target| {
        live.iter().any(|server| server.id == target.server && server.url.origin() == target.url.origin())
    });
    u32::try_from(lives.count()).unwrap_or(u32::MAX)
}

/// Whether so many targets have no room that the others cannot make the quorum, however well they are another time.
pub(super) fn lack_room(error: &UploadError) -> bool {
    let UploadError::Quorum { alive, quorum, reasons } = error else { return false };
    let (full, others): (Vec<&str>, Vec<&str>) = reasons.split("; ").partition(|reason| reason.ends_with(FULL));
    !full.is_empty() && usize::try_from(*quorum).is_ok_and(|quorum| alive + others.len() < quorum)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use wire::{
        FileId, TokenId,
        catalog::{IssuedToken, Target},
        token::{Kind, Token},
    };

    use super::*;

    fn plan(servers: &[&str]) -> UploadPlan {
        let target = |id: &&str| Target {
            server: id.parse().unwrap(),
            zone: "eu".parse().unwrap(),
            url: format!("http://{id}:9000/v1/files/x/chunks").parse().unwrap(),
        };
        let (token, expires_at) = (Token::generate(Kind::Upload), Timestamp::MAX);
        UploadPlan {
            id: FileId::new(),
            chunk_size: 1 << 20,
            quorum: 2,
            upload: IssuedToken { token, token_id: TokenId::new(), expires_at },
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
    fn targets_live_that_are_listed_at_the_address_of_the_plan() {
        let plan = plan(&["a", "b", "c"]);
        assert_eq!(living(&plan, &[]), 0);
        let live = [server("a", "http://a:9000"), server("b", "http://b:9001"), server("d", "http://d:9000")];
        assert_eq!(living(&plan, &live), 1, "b stands elsewhere now");
        let live = ["a", "b", "c"].map(|id| server(id, &format!("http://{id}:9000/behind/a/path")));
        assert_eq!(living(&plan, &live), 3);
    }

    #[test]
    fn room_is_lacking_when_those_that_may_come_back_are_too_few() {
        let failed = |alive, reasons: &str| UploadError::Quorum { alive, quorum: 2, reasons: reasons.to_owned() };
        for (alive, reasons, lacking) in [
            (1, "a: chunk 3: status 507", true),
            (0, "a: chunk 3: status 507; b: chunk 4: status 507", true),
            (0, "a: chunk 3: status 507; b: chunk 4: connection refused", true),
            (1, "a: chunk 3: status 507; b: chunk 4: connection refused", false),
            (1, "a: chunk 3: connection refused", false),
            (1, "a: chunk 3: status 503", false),
            (0, "", false),
        ] {
            assert_eq!(lack_room(&failed(alive, reasons)), lacking, "{alive}, {reasons}");
        }
        assert!(!lack_room(&UploadError::Interrupted));
    }
}
