//! Who is asking: extractors that turn the bearer token into an answer before a handler runs.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
};
use jiff::Timestamp;
use lifecycle::http::bearer;
use wire::{
    Digest, FileId, ServerId,
    token::{Kind, Purpose, Token},
};

use crate::{
    app::State,
    error::{Error, Result},
    store::accounts::{Role, User},
};

/// A signed-in user of any role.
#[derive(Debug, Clone, Copy)]
pub struct Reader {
    /// Who.
    pub user: User,
    /// Their session, for logging out.
    pub session: Digest,
}

/// A signed-in user who may publish.
#[derive(Debug, Clone, Copy)]
pub struct Publisher(pub User);

/// A file server, by its own token.
#[derive(Debug, Clone)]
pub struct FileServer(pub ServerId);

/// Anyone who may see how one file is made: a user, a file server, or the holder of a download token for it.
#[derive(Debug, Clone, Copy)]
pub struct Beholder;

fn presented(parts: &Parts) -> Result<Token> {
    let text = bearer(parts).ok_or(Error::Unauthenticated("send the token of POST /v1/sessions as a bearer token"))?;
    text.parse().map_err(|_| Error::Unauthenticated("this is not a DDM token"))
}

impl FromRequestParts<Arc<State>> for Reader {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self> {
        let token = presented(parts)?;
        if token.kind() != Kind::Session {
            return Err(Error::Unauthenticated("this route takes the token of a log-in"));
        }
        let session = token.hash();
        let user = state.store.session_user(session, Timestamp::now()).await?;
        let user = user.ok_or(Error::Unauthenticated("this log-in has ended: log in again"))?;
        Ok(Self { user, session })
    }
}

impl FromRequestParts<Arc<State>> for Publisher {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self> {
        let Reader { user, .. } = Reader::from_request_parts(parts, state).await?;
        if user.role < Role::Publisher {
            return Err(Error::Forbidden("publishing needs the role publisher or admin"));
        }
        Ok(Self(user))
    }
}

impl FromRequestParts<Arc<State>> for FileServer {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self> {
        let token = presented(parts)?;
        let id = state.registry().by_token(token.hash()).map(|server| server.id.clone());
        id.map(Self).ok_or(Error::Unauthenticated("this route takes the token of an enrolled file server"))
    }
}

impl FileServer {
    /// A server speaks for itself alone.
    ///
    /// # Errors
    /// 403 when `id` is another server.
    pub fn must_be(&self, id: &ServerId) -> Result<()> {
        if self.0 == *id { Ok(()) } else { Err(Error::Forbidden("a file server speaks for itself alone")) }
    }
}

impl FromRequestParts<Arc<State>> for Beholder {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self> {
        match presented(parts)?.kind() {
            Kind::Session => Reader::from_request_parts(parts, state).await.map(|_| Self),
            Kind::Server => FileServer::from_request_parts(parts, state).await.map(|_| Self),
            Kind::Download => {
                let grant = state.store.grant(presented(parts)?.hash(), Timestamp::now()).await?;
                let grant = grant.ok_or(Error::Unauthenticated("this token has ended"))?;
                let asked = asked_file(parts, state).await;
                if grant.purpose == Purpose::Download && asked == Some(grant.file) {
                    Ok(Self)
                } else {
                    Err(Error::Forbidden("this token is for another file"))
                }
            }
            Kind::Upload => Err(Error::Unauthenticated("an upload token only writes")),
        }
    }
}

async fn asked_file(parts: &mut Parts, state: &Arc<State>) -> Option<FileId> {
    let params = RawPathParams::from_request_parts(parts, state).await.ok()?;
    params.iter().find(|(name, _)| *name == "id").and_then(|(_, value)| value.parse().ok())
}
