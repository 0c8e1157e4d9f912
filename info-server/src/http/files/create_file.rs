use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use axum::{extract::State as Shared, http::StatusCode};
use http_front::{extract::Json, openapi::Conflict};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use wire::{
    ChunkLayout, ChunkSet, Digest, FileId, ProblemKind, TokenId, Zone,
    catalogue::{FileState, IssuedToken, NewFile, Policy, UploadPlan, UploadTarget},
    event::{EventPayload, Stream},
    grammar::counted,
    server::ServerInfo,
    token::{Grant, GrantPurpose, Token, TokenKind},
};

use crate::{
    accounts::{
        account::User,
        audit::{AuditEntry, AuditKind},
        store::audit,
    },
    catalogue::{self, file::File},
    db::idempotency::{self, Made},
    error::{Error, Result, conflict, invalid, session_ended},
    events::outbox,
    fleet::address_check::endpoint,
    http::{
        auth::SignedInUser,
        client_ip::ClientIp,
        idempotency::{IN_USE, Key, check_request},
    },
    replication::{
        placement::{self, PlacementRequest, Shortage},
        policy,
        store::assignments,
    },
    state::State,
    tokens::{self, store::NewToken},
};

const MAX_MEDIA_TYPE_BYTES: usize = 255;

/// `POST /v1/files`: announces a file and returns the servers that its chunks go to.
#[utoipa::path(
    post,
    path = "/v1/files",
    tag = "Files",
    request_body = NewFile, security(("session" = [])),
    responses((status = 201, description = "Announced", body = UploadPlan), Conflict)
)]
pub(crate) async fn create_file(
    Shared(state): Shared<Arc<State>>,
    caller: SignedInUser,
    ClientIp(address): ClientIp,
    Key(key): Key,
    Json(new): Json<NewFile>,
) -> Result<(StatusCode, axum::Json<UploadPlan>)> {
    let (user, session) = (caller.publisher()?, caller.session);
    let uploader = Uploader { user: user.id, session, address };
    let request_hash = Digest::of(&serde_json::to_vec(&new)?);
    let _in_use = match key {
        Some(key) => Some(state.keys_in_use.reserve(key).ok_or(IN_USE)?),
        None => None,
    };
    if let Some(key) = key
        && let Some(made) = state.db.made(key, Timestamp::now()).await?
    {
        check_request(&made, request_hash)?;
        return Ok((StatusCode::CREATED, axum::Json(repeat(&state, &made, uploader).await?)));
    }
    let file = announced(&state, user, &new)?;
    let policy = policy::resolve(new.policy.unwrap_or_default(), &state.config.replication, file.quorum)?;
    let request = PlacementRequest {
        file: file.id,
        size: file.layout.size(),
        policy: &policy,
        quorum: file.quorum,
        publisher: new.zone.as_ref().or(caller.zone.as_ref()),
    };
    let servers = placement::targets(&request, &state.live()).map_err(|short| refused(&short))?;
    let token = Token::generate(TokenKind::Upload);
    let grant = Grant {
        token_hash: token.hash(),
        token_id: TokenId::new(),
        file: file.id,
        zones: None,
        expires_at: file.created_at.checked_add(state.config.access.upload_lifetime)?,
        purpose: GrantPurpose::Upload {
            size: file.layout.size(),
            chunk_size: file.layout.chunk_size(),
            targets: servers.iter().map(|server| server.id.clone()).collect(),
        },
    };
    let lifetime_s = Some(state.config.access.upload_lifetime.as_secs());
    let upload = IssuedToken { token, token_id: grant.token_id, expires_at: grant.expires_at, lifetime_s };
    let targets = servers.iter().map(|server| target(file.id, server)).collect::<Result<_>>()?;
    let plan = UploadPlan { id: file.id, chunk_size: file.layout.chunk_size(), quorum: file.quorum, upload, targets };
    let made = match key {
        Some(key) => Some(made(key, request_hash, &plan, &grant)?),
        None => None,
    };
    let announcement = Announcement { file: &file, policy: &policy, targets: &servers, made: made.as_ref() };
    store(&state, announcement, uploader.token(grant)).await?;
    tracing::info!(file = %file.id, size_bytes = file.layout.size(), targets = servers.len(), "File {} announced",
        file.id);
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
            "the quorum needs {}, {fit} live{place} with room for the file and fit its policy: start more, or publish with a \
             smaller quorum",
            counted(*quorum, "file server")
        ),
    };
    let problem = conflict(ProblemKind::TooFewServers, "Too few file servers").detail(detail);
    Error::Refused(problem.with("quorum", *quorum).with("live", *fit))
}

fn announced(state: &State, user: User, new: &NewFile) -> Result<File> {
    let layout = ChunkLayout::of(new.size).map_err(|error| invalid(error.to_string()))?;
    let quorum = new.quorum.unwrap_or(state.config.replication.quorum);
    if quorum == 0 {
        return Err(invalid("quorum must be at least 1"));
    }
    let media_type_fits = |text: &String| {
        (1..=MAX_MEDIA_TYPE_BYTES).contains(&text.len())
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
        lost_chunks: ChunkSet::new(),
    })
}

/// The party that uploads.
#[derive(Debug, Clone, Copy)]
struct Uploader {
    user: i64,
    session: Digest,
    address: Option<IpAddr>,
}

impl Uploader {
    fn token(self, grant: Grant) -> NewToken {
        NewToken { grant, user_id: self.user, session: Some(self.session), address: self.address }
    }
}

/// The parts of a plan that are kept for a repetition of its request: all but the token.
#[derive(Debug, Serialize, Deserialize)]
struct KeptPlan {
    id: FileId,
    chunk_size: u64,
    quorum: u32,
    targets: Vec<UploadTarget>,
    expires_at: Timestamp,
    purpose: GrantPurpose,
}

fn made(key: Digest, request: Digest, plan: &UploadPlan, grant: &Grant) -> Result<Made> {
    let UploadPlan { id, chunk_size, quorum, .. } = *plan;
    let (targets, expires_at, purpose) = (plan.targets.clone(), grant.expires_at, grant.purpose.clone());
    let body = serde_json::to_string(&KeptPlan { id, chunk_size, quorum, targets, expires_at, purpose })?;
    Ok(Made { key, request, subject: id.to_string(), status: StatusCode::CREATED.as_u16(), body })
}

/// Returns the plan that a request with this key made, with a new token: the first one may have been lost with its answer.
async fn repeat(state: &State, made: &Made, uploader: Uploader) -> Result<UploadPlan> {
    let KeptPlan { id, chunk_size, quorum, targets, expires_at, purpose } = serde_json::from_str(&made.body)?;
    let token = Token::generate(TokenKind::Upload);
    let grant =
        Grant { token_hash: token.hash(), token_id: TokenId::new(), file: id, zones: None, expires_at, purpose };
    let left = expires_at.duration_since(Timestamp::now()).as_secs();
    let lifetime_s = Some(u64::try_from(left).unwrap_or(0));
    let upload = IssuedToken { token, token_id: grant.token_id, expires_at, lifetime_s };
    let zones: BTreeSet<Zone> = targets.iter().map(|target| target.zone.clone()).collect();
    state.tokens.commit(uploader.token(grant), zones.into_iter().collect()).await?;
    tracing::info!(file = %id, "The announcement of file {id} was repeated");
    Ok(UploadPlan { id, chunk_size, quorum, upload, targets })
}

/// An announced file with its policy and the servers that take the upload.
#[derive(Debug, Clone, Copy)]
struct Announcement<'a> {
    file: &'a File,
    policy: &'a Policy,
    targets: &'a [ServerInfo],
    /// Result that the request's key stands for, if it has one.
    made: Option<&'a Made>,
}

/// Stores the file, the right to write it, and the event for the targets' zones, in one transaction.
async fn store(state: &State, announcement: Announcement<'_>, token: NewToken) -> Result<()> {
    let Announcement { file, policy, targets, made } = announcement;
    let zones: BTreeSet<&Zone> = targets.iter().map(|server| &server.zone).collect();
    let mut newest = 0;
    let mut write = state.db.write().await?;
    if let Some(made) = made {
        idempotency::note(&mut write, made, file.created_at).await?;
    }
    catalogue::store::add(&mut write, file, policy).await?;
    for server in targets {
        assignments::expect(&mut write, file.id, &server.id, file.created_at).await?;
    }
    let detail = json!({ "name": file.name, "size": file.layout.size() });
    let entry = AuditEntry::new(AuditKind::FileCreated).by(token.user_id, token.address).about(file.id).with(detail);
    audit::record(&mut write, &[entry], file.created_at).await?;
    let grant = token.grant.clone();
    if tokens::store::add_tokens(&mut write, &[token]).await?.is_empty() {
        return Err(session_ended());
    }
    for zone in zones {
        let granted = EventPayload::TokenGranted { grants: vec![grant.clone()] };
        newest = outbox::append(&mut write, &Stream::Zone(zone.clone()), &granted, file.created_at).await?;
    }
    write.commit().await?;
    state.log.announce(newest);
    Ok(())
}

fn target(file: FileId, server: &ServerInfo) -> Result<UploadTarget> {
    let url = endpoint(&server.url, &format!("v1/files/{file}/chunks")).parse()?;
    Ok(UploadTarget { server: server.id.clone(), zone: server.zone.clone(), url })
}
