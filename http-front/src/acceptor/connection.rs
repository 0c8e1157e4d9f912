//! One connection: hyper between the request filter and the router.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, Method, Request, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use lifecycle::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use wire::Problem;

use super::{
    idle_timer::IdleTimer,
    write_deadline::{PacedWrite, WriteDeadline},
};
use crate::{
    limits::Limits,
    problem_response::ProblemResponse,
    ready::{ReadyResponses, RequestHead},
    request_filter::{Rejections, RequestFilter, Timeouts},
};

/// Size of hyper's read buffer. It holds body bytes: the request filter bounds heads by itself.
const READ_BUFFER_SIZE: usize = 64 * 1024;

/// Address of the peer of a request's connection; `None` if the connection had ended before it could be read.
#[derive(Debug, Clone, Copy)]
pub struct PeerAddress(pub Option<SocketAddr>);

/// hyper service of one connection.
#[derive(Clone)]
pub(super) struct RequestHandler<E, R> {
    pub(super) router: Router,
    pub(super) ready: R,
    pub(super) peer: PeerAddress,
    pub(super) extension: E,
    /// Set if the connection was accepted after shutdown began.
    pub(super) late: bool,
    pub(super) rejections: Arc<Rejections>,
}

impl<E, R> Service<Request<Incoming>> for RequestHandler<E, R>
where
    E: Clone + Send + Sync + 'static,
    R: ReadyResponses<E>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn call(&self, mut request: Request<Incoming>) -> ResponseFuture {
        if let Some(problem) = self.rejections.next() {
            return ready_and_close(ProblemResponse(problem).into_response());
        }
        if *request.method() == Method::OPTIONS && request.uri().path() == "*" {
            return ready(StatusCode::NO_CONTENT.into_response());
        }
        if self.late && !is_for_operators(request.uri().path()) {
            return ready_and_close(stopping());
        }
        let head = RequestHead { method: request.method(), uri: request.uri(), headers: request.headers() };
        if let Some(response) = self.ready.respond(head, &self.extension) {
            return ready(close_if(self.rejections.in_body(), response));
        }
        request.extensions_mut().insert(self.peer);
        request.extensions_mut().insert(self.extension.clone());
        let response = TowerToHyperService::new(self.router.clone()).call(request);
        let (late, rejections) = (self.late, self.rejections.clone());
        ResponseFuture::Routed(Box::pin(async move {
            response.await.map(|response| close_if(late || rejections.in_body(), response))
        }))
    }
}

/// Returns true for the routes that load balancers and monitoring use while a server stops.
fn is_for_operators(path: &str) -> bool {
    matches!(path, "/livez" | "/readyz" | "/metrics")
}

fn stopping() -> Response {
    let problem = Problem::new(503, "stopping", "Server is stopping").detail("use another server, or try again later");
    let mut response = ProblemResponse(problem).into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// Makes the connection end after `response` if part of the request is not read: a client must not put its next request behind
/// a body that is not read to its end (RFC 9112 §9.3).
fn close_if(unread: bool, response: Response) -> Response {
    if unread { close_after(response) } else { response }
}

fn close_after(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Response to a request, with or without a wait.
pub(super) enum ResponseFuture {
    Ready(Option<Response>),
    Routed(Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>),
}

impl Future for ResponseFuture {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Ready(response) => response.take().map_or(Poll::Pending, |response| Poll::Ready(Ok(response))),
            Self::Routed(response) => response.as_mut().poll(cx),
        }
    }
}

fn ready_and_close(response: Response) -> ResponseFuture {
    ready(close_after(response))
}

fn ready(response: Response) -> ResponseFuture {
    ResponseFuture::Ready(Some(response))
}

/// Serves one connection until it ends, or until shutdown drops it.
pub(super) async fn serve<S, E, R>(stream: S, handler: RequestHandler<E, R>, limits: Limits, shutdown: Shutdown)
where
    S: AsyncRead + AsyncWrite + PacedWrite + Unpin + Send + 'static,
    E: Clone + Send + Sync + 'static,
    R: ReadyResponses<E>,
{
    let timeouts = Timeouts { head: limits.head, body: limits.body };
    let filter = RequestFilter::new(stream, timeouts, handler.rejections.clone());
    let idle = limits.idle.max(limits.head);
    let connection = http1::Builder::new()
        .timer(IdleTimer::new(idle))
        // hyper receives whole heads only, so this timeout runs while it waits for the next request.
        .header_read_timeout(idle)
        .max_buf_size(READ_BUFFER_SIZE)
        .serve_connection(TokioIo::new(WriteDeadline::new(filter, limits.write)), handler.clone());
    tokio::pin!(connection);
    let ended = if handler.late {
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
        tracing::debug!(%error, "Connection ended with an error");
    }
}
