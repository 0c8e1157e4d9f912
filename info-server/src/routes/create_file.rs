use std::{collections::BTreeSet, sync::Arc};

use axum::{extract::State as Shared, http::StatusCode};
use jiff::Timestamp;
use lifecycle::{api::Conflict, http::Json};
use serde_json::json;
use wire::{
    FileId, Layout, TokenId, Zone,
    catalog::{FileState, IssuedToken, NewFile, Policy, Target, UploadPlan},
    event::{Fact, Stream},
    server::ServerInfo,
    token::{Grant, Kind as TokenKind, Purpose, Token},
};

use crate::{
    app::State,
    caller::{Reader, ended},
    error::{Error, Result, conflict, invalid},
    peer::Client,
    placement::{self, Shortage, Wish},
    probe::address,
    store::{
        accounts::User,
        assignments,
        audit::{self, Deed, Kind},
        files::{self, File},
        outbox,
        tokens::{self, NewToken},
    },
};

const MAX_MEDIA_TYPE: usize = 255;
/// Zones in one policy.
const MAX_ZONES: usize = 32;
/// Replicas in one zone.
pub(super) const MAX_REPLICAS: u32 = 1000;

/// `POST /v1/files`: announces a file and says where its chunks go.
#[utoipa::path(
    post,
    path = "/v1/files",
    tag = "Files",
    request_body = NewFile, security(("session" = [])),
    responses((status = 201, description = "Announced", body = UploadPlan), Conflict)
)]
pub(super) async fn create_file(
    Shared(state): Shared<Arc<State>>,
    reader: Reader,
    Client(address): Client,
    Json(new): Json<NewFile>,
) -> Result<(StatusCode, axum::Json<UploadPlan>)> {
    let (user, session) = (reader.publisher()?, reader.session);
    let file = announced(&state, user, &new)?;
    let policy = resolved(&state, new.policy.unwrap_or_default(), file.quorum)?;
    let wish = Wish {
        file: file.id,
        size: file.layout.size(),
        policy: &policy,
        quorum: file.quorum,
        publisher: new.zone.as_ref().or(reader.zone.as_ref()),
    };
    let servers = placement::targets(&wish, &state.live()).map_err(|short| refused(&short))?;
    let token = Token::generate(TokenKind::Upload);
    let grant = Grant {
        token_hash: token.hash(),
        token_id: TokenId::new(),
        file: file.id,
        zones: None,
        expires_at: file.created_at.checked_add(state.config.access.upload_lifetime)?,
        purpose: Purpose::Upload {
            size: file.layout.size(),
            chunk_size: file.layout.chunk_size(),
            targets: servers.iter().map(|server| server.id.clone()).collect(),
        },
    };
    let upload = IssuedToken { token, token_id: grant.token_id, expires_at: grant.expires_at };
    store(&state, (&file, &policy), NewToken { grant, user_id: user.id, session: Some(session), address }, &servers)
        .await?;
    tracing::info!(file = %file.id, size_bytes = file.layout.size(), targets = servers.len(), "announced");
    let targets = servers.into_iter().map(|server| target(file.id, server)).collect::<Result<_>>()?;
    let plan = UploadPlan { id: file.id, chunk_size: file.layout.chunk_size(), quorum: file.quorum, upload, targets };
    Ok((StatusCode::CREATED, axum::Json(plan)))
}

fn refused(short: &Shortage) -> Error {
    let Shortage { quorum, fit, zone, without } = short;
    let place = zone.as_ref().map(|zone| format!(" in the zone {zone}, which takes the upload,")).unwrap_or_default();
    let detail = match without {
        Some(server) => {
            format!("{server}, through which it is published, is not live{place} or has no room for the file")
        }
        None => format!(
            "the quorum needs {quorum} file servers, {fit} live{place} with room for the file and fit its policy: start more, \
             or publish with a smaller quorum"
        ),
    };
    let problem = conflict("too-few-servers", "Too few file servers").detail(detail);
    Error::Refused(problem.with("quorum", *quorum).with("live", *fit))
}

/// The policy with nothing left to defaults; never fewer replicas than the quorum.
pub(super) fn resolved(state: &State, asked: Policy, quorum: u32) -> Result<Policy> {
    let defaults = &state.config.replication;
    let zones = asked.zones.or_else(|| (!defaults.default_zones.is_empty()).then(|| defaults.default_zones.clone()));
    let zones = zones.map(|mut zones| {
        let mut seen = BTreeSet::new();
        zones.retain(|zone| seen.insert(zone.clone()));
        zones
    });
    if zones.as_ref().is_some_and(|zones| !(1..=MAX_ZONES).contains(&zones.len())) {
        return Err(invalid(format!("policy.zones must name 1 to {MAX_ZONES} zones; leave it out for any")));
    }
    let replicas = asked.replicas.unwrap_or(defaults.default_replicas);
    if !(1..=MAX_REPLICAS).contains(&replicas) {
        return Err(invalid(format!("policy.replicas must be between 1 and {MAX_REPLICAS}")));
    }
    Ok(Policy { replicas: Some(replicas.max(quorum)), zones, through: asked.through })
}

fn announced(state: &State, user: User, new: &NewFile) -> Result<File> {
    let layout = Layout::of(new.size).map_err(|error| invalid(error.to_string()))?;
    let quorum = new.quorum.unwrap_or(state.config.replication.quorum);
    if quorum == 0 {
        return Err(invalid("quorum must be at least 1"));
    }
    let media_type_fits = |text: &String| {
        (1..=MAX_MEDIA_TYPE).contains(&text.len())
            && text.contains('/')
            && text.bytes().all(|b| (0x20..0x7f).contains(&b))
    };
    if !new.media_type.as_ref().is_none_or(media_type_fits) {
        return Err(invalid("media_type must look like type/subtype"));
    }
    Ok(File {
        id: FileId::new(),
        name: new.name.clone(),
        layout,
        media_type: new.media_type.clone(),
        state: FileState::Uploading,
        quorum,
        owner: user.id,
        created_at: Timestamp::now(),
        content: None,
        job: None,
    })
}

/// One transaction: the file, the right to write it, and the event that tells the targets' zones.
async fn store(state: &State, (file, policy): (&File, &Policy), token: NewToken, servers: &[ServerInfo]) -> Result<()> {
    let zones: BTreeSet<&Zone> = servers.iter().map(|server| &server.zone).collect();
    let mut newest = 0;
    let mut write = state.store.write().await?;
    files::add(&mut write, file, policy).await?;
    for server in servers {
        assignments::expect(&mut write, file.id, &server.id, file.created_at).await?;
    }
    let detail = json!({ "name": file.name, "size": file.layout.size() });
    let deed = Deed::new(Kind::FileCreated).by(token.user_id, token.address).about(file.id).with(detail);
    audit::record(&mut write, &[deed], file.created_at).await?;
    let grant = token.grant.clone();
    if tokens::add_tokens(&mut write, &[token]).await?.is_empty() {
        return Err(ended());
    }
    for zone in zones {
        let fact = Fact::TokenGranted { grants: vec![grant.clone()] };
        newest = outbox::append(&mut write, &Stream::Zone(zone.clone()), &fact, file.created_at).await?;
    }
    write.commit().await?;
    state.log.committed(newest);
    Ok(())
}

fn target(file: FileId, server: ServerInfo) -> Result<Target> {
    let url = address(&server.url, &format!("v1/files/{file}/chunks")).parse()?;
    Ok(Target { server: server.id, zone: server.zone, url })
}
