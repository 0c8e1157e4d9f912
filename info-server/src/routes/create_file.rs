use std::{collections::BTreeSet, sync::Arc};

use axum::{extract::State as Shared, http::StatusCode};
use jiff::Timestamp;
use lifecycle::http::Json;
use wire::{
    FileId, Layout, TokenId, Zone,
    catalog::{FileState, IssuedToken, NewFile, Target, UploadPlan},
    event::{Fact, Stream},
    server::ServerInfo,
    token::{Grant, Kind, Purpose, Token},
};

use crate::{
    app::State,
    caller::Publisher,
    error::{Error, Result, conflict, invalid},
    placement::{self, Shortage, Wish},
    probe::address,
    store::{
        accounts::User,
        files::{self, File},
        outbox,
        tokens::{self, NewToken},
    },
};

const MAX_MEDIA_TYPE: usize = 255;

/// `POST /v1/files`: announces a file and says where its chunks go.
pub(super) async fn create_file(
    Shared(state): Shared<Arc<State>>,
    Publisher(user): Publisher,
    Json(new): Json<NewFile>,
) -> Result<(StatusCode, axum::Json<UploadPlan>)> {
    let file = announced(&state, user, &new)?;
    let policy = new.policy.unwrap_or_default();
    let wish = Wish {
        file: file.id,
        size: file.layout.size(),
        policy: &policy,
        quorum: file.quorum,
        replicas: state.config.replication.replicas,
    };
    let servers = placement::targets(&wish, &state.live()).map_err(|short| refused(&short))?;
    let token = Token::generate(Kind::Upload);
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
    store(&state, &file, grant, &servers).await?;
    tracing::info!(file = %file.id, size_bytes = file.layout.size(), targets = servers.len(), "announced");
    let targets = servers.into_iter().map(|server| target(file.id, server)).collect::<Result<_>>()?;
    let plan = UploadPlan { id: file.id, chunk_size: file.layout.chunk_size(), quorum: file.quorum, upload, targets };
    Ok((StatusCode::CREATED, axum::Json(plan)))
}

fn refused(short: &Shortage) -> Error {
    let Shortage { quorum, fit, without } = short;
    let detail = match without {
        Some(server) => format!("{server}, through which it is published, is not live or has no room for the file"),
        None => format!(
            "the quorum needs {quorum} file servers, {fit} live with room for the file and fit its policy: start more, \
             or publish with a smaller quorum"
        ),
    };
    let problem = conflict("too-few-servers", "Too few file servers").detail(detail);
    Error::Refused(problem.with("quorum", *quorum).with("live", *fit))
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
    })
}

/// One transaction: the file, the right to write it, and the event that tells the targets' zones.
async fn store(state: &State, file: &File, grant: Grant, servers: &[ServerInfo]) -> Result<()> {
    let zones: BTreeSet<&Zone> = servers.iter().map(|server| &server.zone).collect();
    let mut newest = 0;
    let mut write = state.store.write().await?;
    files::add(&mut write, file).await?;
    tokens::add_tokens(&mut write, &[NewToken { grant: grant.clone(), user_id: file.owner }]).await?;
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
