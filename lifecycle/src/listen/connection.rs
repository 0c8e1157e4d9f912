//! One connection: hyper between the gate and the routes.

use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc};

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, Method, Request, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::io::{AsyncRead, AsyncWrite};
use wire::Problem;

use super::{
    Limits, PeerAddress,
    deadline::WriteDeadline,
    gate::{Gate, Patience, Refusals},
};
use crate::{Shutdown, http::Refusal};

/// hyper's read buffer: the gate bounds heads, so this is for bodies.
const READ_BUFFER: usize = 64 * 1024;

/// What answers the requests of one connection.
#[derive(Clone)]
pub(super) struct Answers<A> {
    pub(super) router: Router,
    pub(super) peer: PeerAddress,
    pub(super) attachment: A,
    /// Whether the connection came after the program was asked to stop.
    pub(super) late: bool,
    pub(super) refusals: Arc<Refusals>,
}

impl<A: Clone + Send + Sync + 'static> Service<Request<Incoming>> for Answers<A> {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        if let Some(problem) = self.refusals.next() {
            return last(Refusal(problem).into_response());
        }
        if *request.method() == Method::OPTIONS && request.uri().path() == "*" {
            return answered(StatusCode::NO_CONTENT.into_response());
        }
        if self.late && !is_for_operators(request.uri().path()) {
            return last(stopping());
        }
        request.extensions_mut().insert(self.peer);
        request.extensions_mut().insert(self.attachment.clone());
        let answer = TowerToHyperService::new(self.router.clone()).call(request);
        let (late, refusals) = (self.late, self.refusals.clone());
        Box::pin(async move {
            // A client must not put its next request behind a body that nobody reads to its end (RFC 9112 §9.3).
            answer.await.map(|answer| if late || refusals.in_body() { closing(answer) } else { answer })
        })
    }
}

/// What is asked of a program that stops, by those who decide where requests go.
fn is_for_operators(path: &str) -> bool {
    matches!(path, "/livez" | "/readyz" | "/metrics")
}

fn stopping() -> Response {
    let problem = Problem::new(503, "stopping", "This server is stopping").detail("ask another one, or try again");
    let mut response = Refusal(problem).into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// The answer after which the connection is closed.
fn last(response: Response) -> Answer {
    answered(closing(response))
}

fn answered(response: Response) -> Answer {
    Box::pin(std::future::ready(Ok(response)))
}

/// Serves one connection to its end.
pub(super) async fn serve<S, A>(stream: S, answers: Answers<A>, limits: Limits, shutdown: Shutdown)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Clone + Send + Sync + 'static,
{
    let patience = Patience { head: limits.head, body: limits.body };
    let gate = Gate::new(stream, patience, answers.refusals.clone());
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // hyper sees whole heads only, so what it waits for is the next request.
        .header_read_timeout(limits.idle.max(limits.head))
        .max_buf_size(READ_BUFFER)
        .serve_connection(TokioIo::new(WriteDeadline::new(gate, limits.write)), answers.clone());
    tokio::pin!(connection);
    let ended = if answers.late {
        tokio::select! {
            ended = connection => ended,
            () = shutdown.aborting().cancelled() => Ok(()),
        }
    } else {
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = shutdown.finishing().cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => ended,
                    () = shutdown.aborting().cancelled() => Ok(()),
                }
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}
