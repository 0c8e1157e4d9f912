//! One connection: hyper between the request filter and the router.

use std::{convert::Infallible, future::Future, net::SocketAddr, pin::Pin, sync::Arc};

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
use lifecycle::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use wire::Problem;

use super::write_deadline::{PacedWrite, WriteDeadline};
use crate::{
    limits::Limits,
    problem_response::ProblemResponse,
    request_filter::{Rejections, RequestFilter, Timeouts},
};

/// Size of hyper's read buffer. It holds body bytes: the request filter bounds heads by itself.
const READ_BUFFER_SIZE: usize = 64 * 1024;

/// Address of the peer of a request's connection; `None` if the connection had ended before it could be read.
#[derive(Debug, Clone, Copy)]
pub struct PeerAddress(pub Option<SocketAddr>);

/// hyper service of one connection.
#[derive(Clone)]
pub(super) struct RequestHandler<E> {
    pub(super) router: Router,
    pub(super) peer: PeerAddress,
    pub(super) extension: E,
    /// Set if the connection was accepted after shutdown began.
    pub(super) late: bool,
    pub(super) rejections: Arc<Rejections>,
}

impl<E: Clone + Send + Sync + 'static> Service<Request<Incoming>> for RequestHandler<E> {
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
        request.extensions_mut().insert(self.peer);
        request.extensions_mut().insert(self.extension.clone());
        let response = TowerToHyperService::new(self.router.clone()).call(request);
        let (late, rejections) = (self.late, self.rejections.clone());
        Box::pin(async move {
            // A client must not put its next request behind a body that is not read to its end (RFC 9112 §9.3).
            response.await.map(|response| if late || rejections.in_body() { close_after(response) } else { response })
        })
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

fn close_after(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

type ResponseFuture = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

fn ready_and_close(response: Response) -> ResponseFuture {
    ready(close_after(response))
}

fn ready(response: Response) -> ResponseFuture {
    Box::pin(std::future::ready(Ok(response)))
}

/// Serves one connection until it ends, or until shutdown drops it.
pub(super) async fn serve<S, E>(stream: S, handler: RequestHandler<E>, limits: Limits, shutdown: Shutdown)
where
    S: AsyncRead + AsyncWrite + PacedWrite + Unpin + Send + 'static,
    E: Clone + Send + Sync + 'static,
{
    let timeouts = Timeouts { head: limits.head, body: limits.body };
    let filter = RequestFilter::new(stream, timeouts, handler.rejections.clone());
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // hyper receives whole heads only, so this timeout runs while it waits for the next request.
        .header_read_timeout(limits.idle.max(limits.head))
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
