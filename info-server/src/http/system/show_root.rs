use axum::{
    http::{HeaderName, header},
    response::{IntoResponse as _, Response},
};

/// Page for people who open the address in a browser. Its links are relative, so that they work behind a proxy with a prefix too.
const PAGE: &str = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>DDM info-server</title></head><body>\n\
<h1>DDM info-server</h1>\n\
<p>This is the info-server of DDM, the distributed download manager. It keeps the catalogue, and tells clients which file servers \
hold a file.</p>\n\
<ul>\n\
<li>To publish and download files, use <code>ddm-client</code> with this address as <code>--info</code>.</li>\n\
<li><a href=\"docs/index.html\">Its routes, to read and to try</a></li>\n\
<li><a href=\"openapi.json\">Their OpenAPI description</a></li>\n\
<li><a href=\"readyz\">Its state</a></li>\n\
</ul>\n</body></html>\n";
const HEADERS: [(HeaderName, &str); 4] = [
    (header::CONTENT_TYPE, "text/html; charset=utf-8"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
];

/// `GET /`: a page that names this service and leads on.
#[utoipa::path(get, path = "/", tag = "Operators", security(()),
    responses((status = 200, description = "The page", content_type = "text/html", body = String)))]
pub(crate) async fn show_root() -> Response {
    (HEADERS, PAGE).into_response()
}
