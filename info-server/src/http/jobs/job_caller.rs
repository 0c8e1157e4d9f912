//! The callers of requests about jobs.

use wire::{account::Role, job::RequesterQuery};

use crate::{
    http::auth::SignedInUser,
    jobs::{
        coordinator::{queries::JobViewer, requests::Caller},
        model::{job::view::ServerZones, record::RequesterKey},
    },
    state::State,
};

/// Returns the party of a request about a job.
pub(super) fn caller(reader: &SignedInUser, query: RequesterQuery) -> Caller {
    let requester = RequesterKey { user: reader.user.id, process: query.requester };
    Caller { requester, viewer: viewer(reader) }
}

/// Returns whose jobs the caller may see.
pub(super) fn viewer(reader: &SignedInUser) -> JobViewer {
    if reader.user.role < Role::Admin { JobViewer::Account(reader.user.id) } else { JobViewer::Admin }
}

/// Returns the zones of all servers that ever enrolled.
pub(super) fn server_zones(state: &State) -> ServerZones {
    let registry = state.registry();
    let ids = registry.ids().into_iter();
    ids.filter_map(|id| registry.get(&id).map(|server| server.zone.clone()).map(|zone| (id, zone))).collect()
}
