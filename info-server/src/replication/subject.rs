//! A file as the planner and its status see it: its policy, resolved, and who has to do with it.

use std::collections::BTreeMap;

use wire::{
    Digest, FileId, ServerId,
    catalog::{FileState, Policy},
};

use super::plan::{Part, Subject, Want};
use crate::{app::State, store::assignments};

/// What is wanted of a published file, and what is there.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    file: FileId,
    size: u64,
    through: Option<ServerId>,
    wants: Vec<Want>,
    parts: BTreeMap<ServerId, Part>,
}

impl Wanted {
    /// Reads it; none when the file is not published, or no longer.
    pub(crate) async fn of(state: &State, id: FileId) -> anyhow::Result<Option<Self>> {
        let Some(file) = state.store.file(id).await?.filter(|file| file.state == FileState::Available) else {
            return Ok(None);
        };
        let root = file.content.map(|content| content.root);
        let policy = state.store.policy(id).await?.unwrap_or_default();
        let preheats = state.store.preheats(id).await?;
        let parts = state.store.parts(id).await?;
        let parts = parts.into_iter().map(|part| (part.server.clone(), standing(&part, root))).collect();
        let wants = wants(&policy, preheats, state.config.replication.default_replicas);
        Ok(Some(Self { file: id, size: file.layout.size(), through: policy.through, wants, parts }))
    }

    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject {
            file: self.file,
            size: self.size,
            through: self.through.as_ref(),
            wants: &self.wants,
            parts: &self.parts,
        }
    }

    pub(crate) const fn size(&self) -> u64 {
        self.size
    }
}

fn standing(part: &assignments::Part, root: Option<Digest>) -> Part {
    let complete = !part.released() && root.is_some() && part.root == root;
    let begun = !part.runs.is_empty() || part.root.is_some();
    Part { assigned: part.assigned(), complete, leaving: part.released() && begun, begun }
}

/// What a policy asks for, each zone once.
fn wants(policy: &Policy, preheats: Vec<Want>, default: u32) -> Vec<Want> {
    let replicas = policy.replicas.unwrap_or(default);
    let mut wants: Vec<Want> = match &policy.zones {
        None => vec![Want { zone: None, replicas }],
        Some(zones) => zones.iter().map(|zone| Want { zone: Some(zone.clone()), replicas }).collect(),
    };
    for preheat in preheats {
        match wants.iter_mut().find(|want| want.zone == preheat.zone) {
            Some(want) => want.replicas = want.replicas.max(preheat.replicas),
            None => wants.push(preheat),
        }
    }
    wants
}
