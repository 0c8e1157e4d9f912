//! Who is asking: extractors that turn the bearer token into an answer before a handler runs.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
};
use jiff::Timestamp;
use lifecycle::http::bearer;
use wire::{
    Digest, FileId, ServerId, Zone,
    token::{Kind, Purpose, Token},
};

use crate::{
    app::State,
    catalogue,
    error::{Error, Result},
    peer::Client,
    replication::standing::Standing,
    store::{
        accounts::{Presence, Role, User},
        files::File,
    },
};

/// A signed-in user of any role.
#[derive(Debug, Clone)]
pub struct Reader {
    /// Who.
    pub user: User,
    /// Their session, for logging out.
    pub session: Digest,
    /// Where they said to be when they logged in.
    pub zone: Option<Zone>,
    /// From where they ask, if it can be known.
    pub address: Option<IpAddr>,
}

/// A signed-in user who may publish, and their session.
#[derive(Debug, Clone, Copy)]
pub struct Publisher(pub User, pub Digest);

/// A signed-in user who may administer this server.
#[derive(Debug, Clone, Copy)]
pub struct Admin(pub User);

/// A file server, by its own token.
#[derive(Debug, Clone)]
pub struct FileServer(pub ServerId);

/// Somebody who wants a file: a user, or a file server.
#[derive(Debug, Clone)]
pub enum Downloader {
    /// A user.
    User(Reader),
    /// A file server, which may want those files alone that it is to hold.
    Server(ServerId),
}

/// Anyone who may see how one file is made: a user, a file server, or the holder of a download token for it.
#[derive(Debug, Clone, Copy)]
pub enum Beholder {
    /// A user, whom the file must be visible to.
    User(User),
    /// A file server, or somebody with a token for this very file.
    Entitled,
}

/// The refusal of a session that is no more.
pub(crate) const fn ended() -> Error {
    Error::Unauthenticated("this log-in has ended: log in again")
}

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
        let presence = state.store.session_user(session, Timestamp::now()).await?;
        let Presence { user, zone } = presence.ok_or_else(ended)?;
        let Ok(Client(address)) = Client::from_request_parts(parts, state).await;
        Ok(Self { user, session, zone, address })
    }
}

impl Reader {
    /// Their account, if it may publish.
    ///
    /// # Errors
    /// 403 for readers.
    pub fn publisher(&self) -> Result<User> {
        if self.user.role < Role::Publisher {
            return Err(Error::Forbidden("publishing needs the role publisher or admin"));
        }
        Ok(self.user)
    }
}

impl FromRequestParts<Arc<State>> for Publisher {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self> {
        let reader = Reader::from_request_parts(parts, state).await?;
        Ok(Self(reader.publisher()?, reader.session))
    }
}

impl FromRequestParts<Arc<State>> for Admin {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self> {
        let Reader { user, .. } = Reader::from_request_parts(parts, state).await?;
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
    /// A server speaks for itself alone.
    ///
    /// # Errors
    /// 403 when `id` is another server.
    pub fn must_be(&self, id: &ServerId) -> Result<()> {
        if self.0 == *id { Ok(()) } else { Err(Error::Forbidden("a file server speaks for itself alone")) }
    }
}

impl FromRequestParts<Arc<State>> for Downloader {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self> {
        if presented(parts)?.kind() == Kind::Server {
            return FileServer::from_request_parts(parts, state).await.map(|server| Self::Server(server.0));
        }
        Reader::from_request_parts(parts, state).await.map(Self::User)
    }
}

impl Downloader {
    /// The file, if the caller may see it; whether a file server may is for [`Self::holder`] to say.
    pub(crate) async fn file(&self, state: &State, id: FileId) -> Result<File> {
        match self {
            Self::User(reader) => catalogue::visible(state, id, &reader.user).await,
            Self::Server(_) => catalogue::existing(state, id).await,
        }
    }

    /// For whom a token for the file would be.
    ///
    /// # Errors
    /// 403 for a file server that has nothing to do with the file.
    pub(crate) fn holder(&self, standing: &Standing) -> Result<Holder> {
        match self {
            Self::User(reader) => Ok(Holder::Person(reader.clone())),
            Self::Server(id) if standing.concerns(id) => Ok(Holder::Nobody),
            Self::Server(_) => Err(Error::Forbidden("a file server asks for the files alone that it is to hold")),
        }
    }
}

/// For whom a token is.
#[derive(Debug, Clone)]
pub(crate) enum Holder {
    /// It ends with their account.
    Person(Reader),
    /// A file server: no person asked for it.
    Nobody,
}

impl FromRequestParts<Arc<State>> for Beholder {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self> {
        match presented(parts)?.kind() {
            Kind::Session => Reader::from_request_parts(parts, state).await.map(|reader| Self::User(reader.user)),
            Kind::Server => FileServer::from_request_parts(parts, state).await.map(|_| Self::Entitled),
            Kind::Download => {
                let grant = state.store.grant(presented(parts)?.hash(), Timestamp::now()).await?;
                let grant = grant.ok_or(Error::Unauthenticated("this token has ended"))?;
                let asked = asked_file(parts, state).await;
                if grant.purpose == Purpose::Download && asked == Some(grant.file) {
                    Ok(Self::Entitled)
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
