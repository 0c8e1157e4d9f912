use std::sync::{Arc, LazyLock};

use axum::{
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use http_front::extract::Path;
use utoipa_swagger_ui::Config;

use crate::error::{Error, Result};

/// Content policy: nothing from elsewhere, and no embedding in other pages. The viewer styles its elements one by one.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const HEADERS: [(HeaderName, &str); 3] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
];

// Relative, so that it also works behind a proxy that adds a prefix.
static CONFIG: LazyLock<Arc<Config<'static>>> =
    LazyLock::new(|| Arc::new(Config::from("../openapi.json").validator_url("none").persist_authorization(false)));

/// `GET /docs`: the page that shows the description of these routes and tries them.
#[utoipa::path(get, path = "/docs", tag = "Operators", security(()),
    responses((status = 308, description = "The page is at `docs/index.html`")))]
pub(crate) async fn show_docs() -> Response {
    (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, "docs/index.html")]).into_response()
}

/// `GET /docs/{file}`: the page and what it is made of; all of it comes with this program.
#[utoipa::path(get, path = "/docs/{file}", tag = "Operators", security(()),
    params(("file" = String, Path, description = "`index.html`, or what it asks for")),
    responses((status = 200, description = "The file", content_type = "text/html", body = String)))]
pub(crate) async fn show_docs_file(Path(file): Path<String>) -> Result<Response> {
    let file = utoipa_swagger_ui::serve(&file, CONFIG.clone()).map_err(|error| anyhow::anyhow!("/docs: {error}"))?;
    let file = file.ok_or(Error::NotFound)?;
    Ok((HEADERS, [(header::CONTENT_TYPE, file.content_type)], file.bytes.into_owned()).into_response())
}
