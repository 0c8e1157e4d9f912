//! What a running download learns from its directory.

use std::time::Duration;

use jiff::Timestamp;
use wire::catalog::IssuedToken;

use super::{Answer, Course};
use crate::{
    download::{Update, lines::Line},
    progress::Notice,
    source::Source,
};

/// Sources beyond this many are not looked at, whatever a directory says.
const MAX_SOURCES: usize = 256;

impl Course<'_> {
    /// The directory answered, or not.
    pub(super) fn answered(&mut self, answer: Answer) {
        let news = answer.is_some_and(|update| self.learn(update));
        self.asking.answered(news, self.now());
    }

    fn learn(&mut self, update: Update) -> bool {
        let mut news = false;
        if let Some(manifest) = update.manifest.filter(|manifest| manifest.check() == Ok(self.layout)) {
            // A digest that is known is never replaced: bytes may have been verified with it.
            if manifest.file == self.job.manifest.file {
                for (known, new) in self.job.manifest.chunks.iter_mut().zip(manifest.chunks) {
                    *known = known.or(new);
                }
                news |= self.learn_digests();
            }
        }
        if let Some(token) = update.token {
            self.job.token = token;
            self.use_token();
            self.schedule.token_renewed();
            self.engine.progress.notice(Notice::TokenRenewed);
        }
        for source in update.sources.into_iter().flatten() {
            news |= self.learn_source(source);
        }
        news
    }

    pub(super) fn use_token(&mut self) {
        let IssuedToken { expires_at, .. } = self.job.token;
        // A clock that is wrong makes this early or late; a refused token is renewed in any case.
        let lifetime = Duration::try_from(expires_at.duration_since(Timestamp::now())).unwrap_or_default();
        self.asking.token_in_use(lifetime, self.now());
    }

    pub(super) fn learn_digests(&mut self) -> bool {
        let known = (0..).zip(&self.job.manifest.chunks).filter(|(_, digest)| digest.is_some());
        self.schedule.add_digests(&known.map(|(n, _): (u32, _)| n..n + 1).collect())
    }

    pub(super) fn learn_source(&mut self, source: Source) -> bool {
        let Source { location, tier } = source;
        let known = self.lines.iter_mut().enumerate().find(|(_, line)| line.location.server == location.server);
        if let Some((key, line)) = known {
            let news = self.schedule.set_runs(key, location.runs.clone());
            line.location = location;
            return news;
        }
        let room = self.lines.len() < MAX_SOURCES;
        if room {
            self.schedule.add_source(tier, location.runs.clone());
            self.lines.push(Line::new(location));
        }
        room
    }
}
