//! Authentication: extractors that turn the bearer token into a kind of caller before a handler runs.
//!
//! Each kind of caller is a type of its own, so that a route's signature says which callers it has.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
};
use http_front::extract::bearer;
use jiff::Timestamp;
use wire::{
    Digest, FileId, ServerId, Zone,
    account::Role,
    token::{GrantPurpose, Token, TokenKind},
};

use crate::{
    accounts::account::{Session, User},
    catalogue::{file::File, visibility},
    error::{Error, Result, session_ended},
    http::client_ip::ClientIp,
    replication::replica_map::{ReplicaMap, Requester},
    state::State,
    tokens::issue::TokenSubject,
};

/// A signed-in user of any role.
#[derive(Debug, Clone)]
pub(crate) struct SignedInUser {
    pub(crate) user: User,
    /// Hash of the session's token.
    pub(crate) session: Digest,
    /// The zone that was named at the log-in.
    pub(crate) zone: Option<Zone>,
    /// The address of the client, if it can be known.
    pub(crate) address: Option<IpAddr>,
}

/// A signed-in user who may publish.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Publisher(pub(crate) User);

/// A signed-in user who may administer this server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Admin(pub(crate) User);

/// A file server, by its own token.
#[derive(Debug, Clone)]
pub(crate) struct FileServer(pub(crate) ServerId);

/// A caller that wants the chunks of a file.
#[derive(Debug, Clone)]
pub(crate) enum FileReader {
    /// A user.
    User(SignedInUser),
    /// A file server: it gets only the files that it is to hold.
    Server(ServerId),
}

/// A caller that may see the manifest of one file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ManifestReader {
    /// A user, who must be able to see the file.
    User(User),
    /// A file server, or the bearer of a download token for this very file.
    Entitled,
}

fn presented(parts: &Parts) -> Result<Token> {
    let text = bearer(&parts.headers)
        .ok_or(Error::Unauthenticated("send the token of POST /v1/sessions as a bearer token"))?;
    text.parse().map_err(|_| Error::Unauthenticated("this is not a DDM token"))
}

impl FromRequestParts<Arc<State>> for SignedInUser {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self> {
        let token = presented(parts)?;
        if token.kind() != TokenKind::Session {
            return Err(Error::Unauthenticated("this route takes the token of a log-in"));
        }
        let session = token.hash();
        let found = state.db.session_user(session, Timestamp::now()).await?;
        let Session { user, zone } = found.ok_or_else(session_ended)?;
        let Ok(ClientIp(address)) = ClientIp::from_request_parts(parts, state).await;
        Ok(Self { user, session, zone, address })
    }
}

impl SignedInUser {
    /// Returns the account, if it may publish.
    ///
    /// # Errors
    /// 403 for readers.
    pub(crate) fn publisher(&self) -> Result<User> {
        if self.user.role < Role::Publisher {
            return Err(Error::Forbidden("publishing needs the role publisher or admin"));
        }
        Ok(self.user)
    }

    /// Returns the account whose own things alone are shown; none for admins, who see those of every account.
    pub(crate) fn viewer(&self) -> Option<i64> {
        (self.user.role < Role::Admin).then_some(self.user.id)
    }
}

impl FromRequestParts<Arc<State>> for Publisher {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self> {
        SignedInUser::from_request_parts(parts, state).await?.publisher().map(Self)
    }
}

impl FromRequestParts<Arc<State>> for Admin {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self> {
        let SignedInUser { user, .. } = SignedInUser::from_request_parts(parts, state).await?;
        if user.role < Role::Admin {
            return Err(Error::Forbidden("this is for admins"));
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
    /// Refuses a server that speaks for another one.
    ///
    /// # Errors
    /// 403 when `id` is another server.
    pub(crate) fn must_be(&self, id: &ServerId) -> Result<()> {
        if self.0 == *id { Ok(()) } else { Err(Error::Forbidden("a file server speaks for itself alone")) }
    }
}

impl FromRequestParts<Arc<State>> for FileReader {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self> {
        if presented(parts)?.kind() == TokenKind::Server {
            return FileServer::from_request_parts(parts, state).await.map(|server| Self::Server(server.0));
        }
        SignedInUser::from_request_parts(parts, state).await.map(Self::User)
    }
}

impl FileReader {
    /// Returns the file, if the caller may see it. A file server may only read it if [`Self::token_subject`] agrees.
    pub(crate) async fn file(&self, state: &State, id: FileId) -> Result<File> {
        match self {
            Self::User(caller) => visibility::visible(&state.db, id, &caller.user).await,
            Self::Server(_) => visibility::existing(&state.db, id).await,
        }
    }

    /// Returns the party that a token for the file is issued to.
    ///
    /// # Errors
    /// 403 for a file server that neither holds the file nor is to hold it.
    pub(crate) fn token_subject(&self, replicas: &ReplicaMap) -> Result<TokenSubject> {
        match self {
            Self::User(caller) => {
                Ok(TokenSubject::User { id: caller.user.id, session: caller.session, address: caller.address })
            }
            Self::Server(id) if replicas.concerns(id) => Ok(TokenSubject::FileServer),
            Self::Server(_) => Err(Error::Forbidden("a file server asks for the files alone that it is to hold")),
        }
    }

    /// Returns the party that sources are chosen for; `zone` is the one that the request names.
    pub(crate) fn requester<'a>(&'a self, zone: Option<&'a Zone>) -> Requester<'a> {
        match self {
            Self::User(caller) => Requester::Person(zone.or(caller.zone.as_ref())),
            Self::Server(server) => Requester::Server(server),
        }
    }
}

impl FromRequestParts<Arc<State>> for ManifestReader {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self> {
        match presented(parts)?.kind() {
            TokenKind::Session => {
                SignedInUser::from_request_parts(parts, state).await.map(|caller| Self::User(caller.user))
            }
            TokenKind::Server => FileServer::from_request_parts(parts, state).await.map(|_| Self::Entitled),
            TokenKind::Download => {
                let grant = state.db.grant(presented(parts)?.hash(), Timestamp::now()).await?;
                let grant = grant.ok_or(Error::Unauthenticated("this token has ended"))?;
                let requested = requested_file(parts, state).await;
                if grant.purpose == GrantPurpose::Download && requested == Some(grant.file) {
                    Ok(Self::Entitled)
                } else {
                    Err(Error::Forbidden("this token is for another file"))
                }
            }
            TokenKind::Upload => Err(Error::Unauthenticated("an upload token only writes")),
        }
    }
}

async fn requested_file(parts: &mut Parts, state: &Arc<State>) -> Option<FileId> {
    let params = RawPathParams::from_request_parts(parts, state).await.ok()?;
    params.iter().find(|(name, _)| *name == "id").and_then(|(_, value)| value.parse().ok())
}
