//! What a running download learns from its directory.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use wire::catalog::IssuedToken;

use super::{Answer, Course};
use crate::{
    download::{DownloadError, Update, lines::Line},
    progress::Notice,
    source::Source,
};

/// Sources beyond this many are not looked at, whatever a directory says.
const MAX_SOURCES: usize = 256;

impl Course<'_> {
    /// The directory answered, or not.
    pub(super) fn answered(&mut self, answer: Answer) -> Result<(), DownloadError> {
        let news = match answer {
            Answer::Update(update) => self.learn(update),
            // A source that lives serves what the directory, put back to an earlier state perhaps, does not know.
            Answer::Ended(ended) if self.running.is_empty() && !self.schedule.any_lives() => return Err(ended.into()),
            Answer::Ended(_) | Answer::Nothing => false,
        };
        self.asking.answered(news, self.now());
        Ok(())
    }

    /// Waits for what the directory says unasked.
    pub(super) fn await_news(&mut self) {
        let directory = Arc::clone(&self.engine.directory);
        self.news.spawn(async move { directory.news().await });
    }

    /// The directory said something unasked; one that fails at it is not listened to again.
    pub(super) fn heard_news(&mut self, update: Option<Update>) {
        if let Some(update) = update {
            self.learn(update);
            self.await_news();
        }
    }

    fn learn(&mut self, update: Update) -> bool {
        let mut news = false;
        if update.hope {
            self.schedule.hope(self.now());
        }
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
            let news = self.schedule.set_source(key, tier, location.runs.clone());
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
