//! One request on a connection of its own, to a server that writes `http/1.1` in lower case or a carriage return within a header
//! field: other programs read that, the HTTP library does not.

mod stream;

use std::{
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::Empty;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use reqwest::{
    Response,
    header::{ACCEPT, HOST, HeaderMap, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT},
};
use url::Position;
use wire::{OriginUrl, job::JobReason};

use self::stream::LenientStream;
use crate::{
    connector::{self, Connector},
    error::OriginError,
    limits::{MAX_RESPONSE_HEADERS, USER_AGENT as OWN_NAME},
};

type Stream = TokioIo<LenientStream>;

/// Sends a GET request. The connection ends with the response.
pub(crate) async fn get(url: &OriginUrl, headers: HeaderMap, connector: &Connector) -> Result<Response, OriginError> {
    let stream = connector.connect(url).await.map_err(|error| OriginError::unreachable(error.to_string()))?;
    let stream = TokioIo::new(LenientStream::new(stream));
    let mut builder = http1::Builder::new();
    builder
        .max_headers(MAX_RESPONSE_HEADERS)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true)
        .ignore_invalid_headers_in_responses(true);
    let failed = |error: hyper::Error| {
        let reason = if error.is_parse() { JobReason::Garbled } else { JobReason::Unreachable };
        OriginError::new(reason, error.to_string())
    };
    let mut has_ended = false;
    let (mut sender, mut connection) = builder.handshake::<_, Empty<Bytes>>(stream).await.map_err(failed)?;
    let proxy = connector.forwarding_proxy(url);
    // RFC 9112 §3.2: a proxy gets the whole URL.
    let start = if proxy.is_some() { Position::BeforeScheme } else { Position::BeforePath };
    let mut request = hyper::Request::get(&url.url()[start..Position::AfterQuery]);
    if let Some(fields) = request.headers_mut() {
        fields.extend(HeaderValue::from_str(authority(url)).ok().map(|value| (HOST, value)));
        fields.insert(ACCEPT, HeaderValue::from_static("*/*"));
        fields.insert(USER_AGENT, HeaderValue::from_static(OWN_NAME));
        fields.extend(headers);
        let authorization = proxy.and_then(connector::authorization).and_then(Result::ok);
        fields.extend(authorization.map(|value| (PROXY_AUTHORIZATION, value)));
    }
    let request = request.body(Empty::new()).map_err(|error| OriginError::garbled(error.to_string()))?;
    let response = {
        let mut sending = pin!(sender.send_request(request));
        tokio::select! {
            biased;
            response = &mut sending => response,
            // It may end with a short response, or with the failure that the request returns.
            _ = &mut connection => {
                has_ended = true;
                sending.await
            }
        }
    };
    let response = response.map_err(failed)?;
    let connection = (!has_ended).then_some(connection);
    // The sender is kept: without it the connection counts as unused and ends.
    let response = response.map(|body| reqwest::Body::wrap(ConnectedBody { body, connection, _sender: sender }));
    Ok(response.into())
}

fn authority(url: &OriginUrl) -> &str {
    &url.url()[Position::BeforeHost..Position::AfterPort]
}

/// A body with the connection that brings it, which runs while the body is read.
struct ConnectedBody {
    body: Incoming,
    connection: Option<http1::Connection<Stream, Empty<Bytes>>>,
    _sender: http1::SendRequest<Empty<Bytes>>,
}

impl HttpBody for ConnectedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        // Its failures reach the body, too.
        if let Some(connection) = &mut self.connection
            && Pin::new(connection).poll(cx).is_ready()
        {
            self.connection = None;
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
