//! A plain download of a file of the web: from its first byte to its last, resumed when versions can be told apart.

use std::time::{Duration, Instant};

use anyhow::bail;
use origin::{Fault, Origins, Whole};
use tokio::time;
use transfer::{
    download::DownloadError,
    journal::origin_mark,
    sink::{Place, SinkError, WholeFile},
};
use wire::{
    Digest,
    job::{Checked, Reason, Validator},
};

use super::{Fetched, Wanted, Why, differs};
use crate::{
    commands::{Context, get},
    progress::{self, Display, Line},
};

/// The first pause after a failure, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(8));
/// How often it is begun from the first byte again, when the origin's versions cannot be told apart.
const BEGINNINGS: u32 = 5;

/// Downloads it from here alone, and says why.
///
/// # Errors
/// What kept the file from standing under its name; what can be resumed is kept.
pub(crate) async fn alone(context: &Context, wanted: &Wanted, why: Why, display: Display) -> anyhow::Result<Fetched> {
    progress::alone(display, &why);
    let started = Instant::now();
    let origins = context.origins()?;
    let mut download = Alone { wanted, origins, display, file: None, beginnings: 0 };
    let outcome = context.cancel.run_until_cancelled(download.run()).await;
    if let Some((file, _)) = &mut download.file {
        file.save();
    }
    let (place, size, (checked, sha256)) = outcome.ok_or(DownloadError::Interrupted)??;
    let elapsed = started.elapsed();
    Ok(Fetched {
        path: place.path(),
        size,
        checked,
        sha256: Some(sha256),
        alone: Some(why),
        report: None,
        job: None,
        saved_seconds: None,
        elapsed,
    })
}

struct Alone<'a> {
    wanted: &'a Wanted,
    origins: Origins,
    display: Display,
    file: Option<(WholeFile, Place)>,
    beginnings: u32,
}

/// Why one try ended.
enum Failed {
    /// The origin did not give it all.
    Origin(Fault),
    /// It cannot be kept.
    Here(anyhow::Error),
}

impl From<SinkError> for Failed {
    fn from(error: SinkError) -> Self {
        Self::Here(DownloadError::from(error).into())
    }
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self::Origin(fault)
    }
}

impl Alone<'_> {
    async fn run(&mut self) -> anyhow::Result<(Place, u64, (Checked, Digest))> {
        let (mut pause, mut proven, mut had) = (PAUSES.0, Instant::now(), self.received());
        loop {
            let fault = match self.attempt().await {
                Ok(told) => return self.finish(told),
                Err(Failed::Here(error)) => return Err(error),
                Err(Failed::Origin(fault)) => fault,
            };
            tracing::debug!(%fault, "a plain download broke");
            if self.received() > had {
                (pause, proven) = (PAUSES.0, Instant::now());
            }
            had = self.received();
            let passing = matches!(fault.reason, Reason::Unreachable | Reason::Busy | Reason::Changed);
            let tired = proven.elapsed() + pause > self.wanted.target.wait || self.beginnings >= BEGINNINGS;
            if !passing || tired {
                let kept = if had > 0 { "; start again to resume" } else { "" };
                // Its user may reach the origin, and so may know what it says.
                bail!("{fault}{kept}");
            }
            progress::note(self.display, "retry", &format!("{}: trying again", fault.reason.sentence()));
            time::sleep(fault.retry_after.map_or(pause, |asked| asked.min(self.wanted.target.wait))).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    fn received(&self) -> u64 {
        self.file.as_ref().map_or(0, |(file, _)| file.received())
    }

    /// One request, or two: its body to the end. Returns the SHA-256 that the origin gives.
    async fn attempt(&mut self) -> Result<Option<Digest>, Failed> {
        self.take_up();
        let resume = self.file.as_ref().and_then(|(file, _)| file.resumable());
        let mut whole = self.ask(resume).await?;
        if self.file.is_none() {
            let place = get::place(&self.wanted.target, &whole.name).map_err(Failed::Here)?;
            let file = WholeFile::open(&place, origin_mark(&self.wanted.url))?;
            // An earlier run left bytes of this very version: the rest will do.
            if let Some((from, validator)) = file.resumable().filter(|(_, left)| *left == whole.validator) {
                whole = self.ask(Some((from, validator))).await?;
            }
            self.file = Some((file, place));
        }
        self.receive(whole).await
    }

    /// Asks for what follows the first bytes of a version, or for all. An origin that has another version now and gives a part of
    /// it all the same, or no sense, is asked for all: the condition was there for that.
    async fn ask(&mut self, resume: Option<(u64, Validator)>) -> Result<Whole, Fault> {
        let conditional = resume.is_some();
        match self.origins.whole(&self.wanted.url, resume).await {
            Err(fault) if conditional && matches!(fault.reason, Reason::Changed | Reason::Garbled) => {
                tracing::debug!(%fault, "what is here cannot be gone on with");
                self.beginnings += 1;
                self.origins.whole(&self.wanted.url, None).await
            }
            answered => answered,
        }
    }

    /// Goes on with what an earlier run left under the name that the URL gives, if that is what it is: then the origin is not
    /// asked for the beginning first, to learn the name.
    fn take_up(&mut self) {
        let place = get::place(&self.wanted.target, &self.wanted.url.file_name()).ok();
        let Some(place) = place.filter(|place| self.file.is_none() && place.part_path().is_file()) else { return };
        let left = WholeFile::open(&place, origin_mark(&self.wanted.url)).ok();
        self.file = left.filter(|left| left.resumable().is_some()).map(|left| (left, place));
    }

    async fn receive(&mut self, mut whole: Whole) -> Result<Option<Digest>, Failed> {
        let Some((file, place)) = &mut self.file else { return Ok(None) };
        if whole.start == 0 && whole.validator == Validator::None {
            self.beginnings += 1;
        }
        if let Some(size) = whole.size {
            file.expect(size.saturating_sub(whole.start))?;
        }
        file.begin(whole.start, whole.validator.clone())?;
        let mut line = Line::new(self.display, &place.name, whole.size, whole.start);
        while let Some(bytes) = whole.body.next().await? {
            file.add(&bytes)?;
            line.show(file.received());
        }
        Ok(whole.sha256)
    }

    /// Compares the whole with what it should be, and names it.
    fn finish(&mut self, told: Option<Digest>) -> anyhow::Result<(Place, u64, (Checked, Digest))> {
        let Some((file, place)) = self.file.take() else { bail!("nothing came") };
        let sha256 = file.sha256();
        let (expected, checked) = match (self.wanted.sha256, told) {
            (Some(asked), _) => (asked, Checked::Sha256),
            (None, Some(told)) => (told, Checked::Origin),
            (None, None) => (sha256, Checked::Unchecked),
        };
        if sha256 != expected {
            // Nothing of it is worth going on with.
            file.discard();
            return Err(differs((expected, checked), sha256));
        }
        let size = file.received();
        file.finish().map_err(DownloadError::from)?;
        Ok((place, size, (checked, sha256)))
    }
}
