//! One exchange with the info-server: deadline, size limit, bearer token, repetition.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::{
    Client, ClientBuilder, Method, Request, RequestBuilder, Response, StatusCode, header::LOCATION, redirect::Policy,
};
use serde::de::DeserializeOwned;
use url::Url;
use wire::{Problem, token::Token};

use crate::{
    Result,
    error::{InfoError, root_cause},
    name_resolver::NameResolver,
    repetition::{self, Answered, Repetition},
    server_clock::ServerClock,
};

/// Largest answer, in bytes: a manifest of 16,384 digests in hex, with room to spare.
const MAX_ANSWER_LEN: usize = 4 << 20;
/// Longest time that a file server's connection attempt takes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest silence within an answer to a file server.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Returns the settings of a file server's connections to other servers: they follow no redirect and no system proxy.
pub fn server_client_builder() -> ClientBuilder {
    let resolver = Arc::new(NameResolver::default());
    let builder = Client::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT).dns_resolver(resolver);
    builder.redirect(Policy::none()).no_proxy()
}

/// Connection to one info-server with one credential.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    pub(crate) base: Url,
    pub(crate) http: Client,
    /// Session of a user, or secret of a file server.
    pub(crate) credential: Option<Token>,
    /// Longest time that an ordinary answer takes.
    pub(crate) deadline: Duration,
    /// Time within which a request is repeated, see [`Repetition`].
    pub(crate) repeat_for: Duration,
    pub(crate) clock: ServerClock,
}

impl Transport {
    /// Begins an authenticated request with the ordinary deadline.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.request_without_deadline(method, path).timeout(self.deadline)
    }

    /// Begins an authenticated request whose answer has no known end; the caller sets deadlines for its parts.
    pub(crate) fn request_without_deadline(&self, method: Method, path: &str) -> RequestBuilder {
        let key = (method == Method::POST).then(repetition::key);
        let request = self.http.request(method, self.url(path));
        let request = match key {
            Some(key) => request.header(repetition::IDEMPOTENCY_KEY, key),
            None => request,
        };
        match &self.credential {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        }
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/{path}", self.base.path().trim_end_matches('/')));
        url
    }

    /// Sends a request and decodes its JSON answer.
    pub(crate) async fn fetch<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T> {
        let body = self.send(request).await?;
        serde_json::from_slice(&body).map_err(|error| self.unusable(error))
    }

    /// Sends a request and returns the body of its success.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Vec<u8>> {
        let request = request.build().map_err(|error| self.unreachable(root_cause(&error)))?;
        let mut repetition = Repetition::new(request.method(), Instant::now() + self.repeat_for);
        loop {
            let copy = request.try_clone().ok_or_else(|| self.unusable("the request has a stream as its body"))?;
            let outcome = self.exchange(copy).await;
            let Some(pause) = repetition.pause_after(&outcome, Instant::now()) else {
                let answered = outcome.map_err(|error| self.unreachable(root_cause(&error)))?;
                return repetition.result(answered.result);
            };
            tracing::debug!(pause_ms = pause.as_millis(), "A request to the info-server is repeated");
            tokio::time::sleep(pause).await;
        }
    }

    /// Makes one exchange. The outer error is one of the connection.
    async fn exchange(&self, request: Request) -> reqwest::Result<Answered> {
        let answer = self.http.execute(request).await?;
        let retry_after = repetition::retry_after(answer.headers());
        Ok(Answered { result: self.read(answer).await?, retry_after })
    }

    /// Reads the body of a success, or the problem document of a refusal. The outer error is one of the connection.
    pub(crate) async fn read(&self, mut answer: Response) -> reqwest::Result<Result<Vec<u8>>> {
        let status = answer.status();
        self.observe(&answer);
        if status.is_redirection() {
            let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or("http://[");
            return Ok(Err(InfoError::redirected(&self.base, status, location)));
        }
        let body = read_body(&mut answer).await;
        if !status.is_success() {
            // The status counts even where its document is lost: callers act on 404, 409 and 410.
            return Ok(Err(self.refusal(status, &body.ok().flatten().unwrap_or_default())));
        }
        Ok(body?.ok_or_else(|| self.unusable("it is too long")))
    }

    /// Notes the info-server's time of an answer.
    pub(crate) fn observe(&self, answer: &Response) {
        self.clock.read(answer.headers());
    }

    fn refusal(&self, status: StatusCode, body: &[u8]) -> InfoError {
        match serde_json::from_slice::<Problem>(body) {
            Ok(problem) if problem.status == status.as_u16() => InfoError::Refused(Box::new(problem)),
            // A proxy says that it does not reach the info-server, which may be starting.
            Ok(_) | Err(_) if repetition::is_gateway_failure(status) => {
                self.unreachable(format!("a proxy before it answers {status}"))
            }
            Ok(_) | Err(_) => InfoError::unusable_refusal(&self.base, status),
        }
    }

    pub(crate) fn unreachable(&self, reason: impl ToString) -> InfoError {
        InfoError::unreachable(&self.base, reason)
    }

    pub(crate) fn unusable(&self, reason: impl ToString) -> InfoError {
        InfoError::unusable(&self.base, reason)
    }
}

/// Returns the body, or nothing if it exceeds [`MAX_ANSWER_LEN`].
async fn read_body(answer: &mut Response) -> reqwest::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await? {
        if body.len() + part.len() > MAX_ANSWER_LEN {
            return Ok(None);
        }
        body.extend_from_slice(&part);
    }
    Ok(Some(body))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::{
        Router,
        http::{HeaderMap, header::CONTENT_TYPE},
        response::IntoResponse as _,
        routing::get,
    };

    use super::*;

    async fn transport() -> Transport {
        let problem = || async {
            let body = r#"{"type":"urn:ddm:problem:x","title":"Gone\u001b","status":410,"detail":"by its owner"}"#;
            (StatusCode::GONE, [(CONTENT_TYPE, "application/problem+json")], body).into_response()
        };
        let other = || async { (StatusCode::FORBIDDEN, r#"{"status":404}"#) };
        let long = || async { vec![b' '; MAX_ANSWER_LEN + 1] };
        let long_refusal = || async { (StatusCode::CONFLICT, vec![b' '; MAX_ANSWER_LEN + 1]) };
        let routes = [
            ("/p/problem", get(problem)),
            ("/p/other", get(other)),
            ("/p/long", get(long)),
            ("/p/long-refusal", get(long_refusal)),
        ];
        transport_to(routes.into_iter().fold(Router::new(), |router, (path, route)| router.route(path, route))).await
    }

    async fn transport_to(router: Router) -> Transport {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/p/", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let http = server_client_builder().build().unwrap();
        let (deadline, repeat_for) = (Duration::from_secs(10), Duration::ZERO);
        Transport { base, http, credential: None, deadline, repeat_for, clock: ServerClock::default() }
    }

    /// Starts an info-server that two proxies' failures and one refusal stand before. Returns its transport and the keys of requests.
    async fn restarting() -> (Transport, Arc<Mutex<Vec<String>>>) {
        let keys: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = keys.clone();
        let answer = move |method: Method, headers: HeaderMap| {
            let mut seen = seen.lock().unwrap();
            let key = headers.get(repetition::IDEMPOTENCY_KEY).map_or("", |key| key.to_str().unwrap());
            seen.push(key.to_owned());
            let busy = r#"{"type":"urn:ddm:problem:busy","title":"Busy","status":503}"#;
            let answer = match (seen.len(), method) {
                (1, _) => (StatusCode::BAD_GATEWAY, "<html>").into_response(),
                (2, _) => (StatusCode::SERVICE_UNAVAILABLE, [(CONTENT_TYPE, "application/problem+json")], busy)
                    .into_response(),
                (3, _) => (StatusCode::GATEWAY_TIMEOUT, "").into_response(),
                (_, Method::DELETE) => {
                    (StatusCode::NOT_FOUND, r#"{"type":"urn:ddm:problem:not-found","title":"","status":404}"#)
                        .into_response()
                }
                _ => "7".into_response(),
            };
            std::future::ready(answer)
        };
        let mut transport = transport_to(Router::new().fallback(answer)).await;
        transport.repeat_for = Duration::from_secs(60);
        (transport, keys)
    }

    #[tokio::test]
    async fn a_proxy_before_a_server_that_restarts_is_waited_for_and_every_repetition_has_the_key_of_its_request() {
        for method in [Method::GET, Method::POST, Method::PUT] {
            let (transport, keys) = restarting().await;
            let answer: u32 = transport.fetch(transport.request(method.clone(), "x")).await.unwrap();
            let keys = keys.lock().unwrap().clone();
            assert_eq!((answer, keys.len()), (7, 4), "{method}");
            assert!(keys.iter().all(|key| *key == keys[0] && key.is_empty() == (method != Method::POST)), "{keys:?}");
        }
        let (transport, _) = restarting().await;
        transport.send(transport.request(Method::DELETE, "x")).await.expect("the first attempt may have removed it");
    }

    #[tokio::test]
    async fn an_info_server_that_ends_before_it_answers_is_waited_for_and_one_that_is_not_there_is_not() {
        use tokio::io::AsyncReadExt as _;
        for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
            // No outgoing connection takes a port of this address while nothing listens there.
            let listener = tokio::net::TcpListener::bind("127.77.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let mut transport = transport().await;
            transport.base = format!("http://{address}/").parse().unwrap();
            transport.repeat_for = Duration::from_secs(60);
            let killed = async {
                let (mut connection, _) = listener.accept().await.unwrap();
                connection.read_u8().await.unwrap();
                drop((connection, listener));
            };
            let restarted = async {
                killed.await;
                tokio::time::sleep(Duration::from_secs(1)).await;
                let listener = tokio::net::TcpListener::bind(address).await.unwrap();
                axum::serve(listener, Router::new().fallback(|| async { "7" })).await
            };
            let answer = tokio::select! {
                answer = transport.send(transport.request(method.clone(), "x")) => answer,
                ended = restarted => panic!("{ended:?}"),
            };
            assert_eq!(answer.unwrap(), b"7", "{method}");
            let begun = Instant::now();
            transport.http = server_client_builder().build().unwrap();
            let error = transport.send(transport.request(method.clone(), "x")).await.unwrap_err();
            assert!(matches!(error, InfoError::Unreachable { .. }), "{error:?}");
            assert!(begun.elapsed() < Duration::from_secs(30), "{method}: {:?}", begun.elapsed());
        }
    }

    #[tokio::test]
    async fn a_proxy_without_a_server_is_no_answer_of_the_info_server() {
        for status in [502, 503, 504] {
            let status = StatusCode::from_u16(status).unwrap();
            let transport = transport_to(Router::new().fallback(move || async move { status })).await;
            let error = transport.send(transport.request(Method::GET, "x")).await.unwrap_err();
            assert!(matches!(error, InfoError::Unreachable { .. }), "{error:?}");
            assert!(error.to_string().contains(&status.as_u16().to_string()), "{error}");
        }
    }

    #[tokio::test]
    async fn only_a_problem_document_with_the_status_of_its_answer_is_a_refusal() {
        let transport = transport().await;
        let refused = transport.send(transport.request(Method::GET, "problem")).await.unwrap_err();
        assert_eq!((refused.status(), refused.http_status()), (Some(410), Some(410)));
        assert_eq!(refused.to_string(), "Gone: by its owner");
        let unusable = transport.send(transport.request(Method::GET, "other")).await.unwrap_err();
        assert_eq!((unusable.status(), unusable.http_status()), (None, Some(403)));
    }

    #[tokio::test]
    async fn an_answer_without_end_is_not_stored() {
        let transport = transport().await;
        let error = transport.send(transport.request(Method::GET, "long")).await.unwrap_err();
        assert!(matches!(error, InfoError::Unusable { status: None, .. }), "{error}");
    }

    #[tokio::test]
    async fn a_refusal_keeps_its_status_without_its_document() {
        let transport = transport().await;
        let error = transport.send(transport.request(Method::GET, "long-refusal")).await.unwrap_err();
        assert_eq!(error.http_status(), Some(409), "{error}");
    }
}
