//! Authorization: before everything else about a request.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::request::Parts;
use lifecycle::http::bearer;
use wire::{
    Digest, FileId,
    token::{Grant, Token},
};

use crate::{
    error::Error,
    server::Server,
    tokens::{Need, Presented, Undecidable, allows},
};

/// A request that may go on.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) file: FileId,
    pub(super) grant: Arc<Grant>,
}

/// The token a request carries, before anything is known of it.
pub(super) struct Claim {
    token: Token,
    hash: Digest,
}

impl Claim {
    /// Reads the header. What is not one of our tokens is refused without a look-up.
    pub(super) fn read(server: &Server, parts: &Parts) -> Result<Self, Error> {
        let text = bearer(parts).ok_or(Error::NoToken)?;
        let token: Token = text.parse().map_err(|_| refused(server))?;
        let hash = token.hash();
        Ok(Self { token, hash })
    }

    /// The token's hash.
    pub(super) const fn hash(&self) -> Digest {
        self.hash
    }

    /// Judges the token for `file` as it stands in the path. An id that cannot be read is just another file than the
    /// token's own.
    pub(super) async fn judge(self, server: &Server, file: &str, need: Need) -> Result<Access, Error> {
        let presented = server.tokens.find(&self.token).await.map_err(|Undecidable| Error::Undecidable)?;
        let Presented::Granted(grant) = presented else { return Err(refused(server)) };
        let file = file.parse::<FileId>().map_err(|_| refused(server))?;
        let here = (&server.identity.id, &server.zone);
        if allows(&grant, file, need, here, server.clock.now()) {
            Ok(Access { file, grant })
        } else {
            Err(refused(server))
        }
    }
}

/// Of several processes with one identity only the registered one serves: the others do not hear what was revoked.
pub(super) async fn only_one(
    State(server): State<Arc<Server>>,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    let for_people = request.uri().path().starts_with("/v1/");
    if for_people && *server.usurped.borrow() { Err(Error::Usurped) } else { Ok(next.run(request).await) }
}

fn refused(server: &Server) -> Error {
    server.metrics.refused.inc();
    Error::Forbidden
}
