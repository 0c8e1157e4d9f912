//! One table of routes that builds both the router and its OpenAPI description, so that the two cannot differ: a route enters
//! through its `#[utoipa::path]` or not at all.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Extension, Router,
    extract::DefaultBodyLimit,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use utoipa::openapi::{
    InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder,
    security::{Http, HttpAuthScheme, SecurityScheme},
};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouter},
    routes,
};

use crate::problem_response::with_fallbacks;

mod responses;

pub use responses::{
    Conflict, Forbidden, Gone, InsufficientStorage, NotFound, NotHeld, PreconditionFailed, RangeNotSatisfiable,
    TooManyRequests, Unauthorized,
};

/// Table of routes with their descriptions.
pub struct Api<S> {
    table: OpenApiRouter<S>,
    /// Largest body in bytes of a route that names no other limit; `None` if the routes bound their bodies themselves.
    max_body: Option<usize>,
}

/// Head of an OpenAPI description.
#[derive(Debug, Clone, Copy)]
pub struct ApiInfo {
    /// Name of the API.
    pub title: &'static str,
    /// Purpose and conventions of the API, in Markdown.
    pub description: &'static str,
    /// Version of the program.
    pub version: &'static str,
}

/// Serialised OpenAPI description.
#[derive(Debug, Clone)]
struct Document(Arc<str>);

impl<S: Clone + Send + Sync + 'static> Api<S> {
    /// Creates an empty table whose routes accept bodies of up to `max_body` bytes. With `None` the routes bound their bodies
    /// themselves.
    pub fn new(info: ApiInfo, max_body: Option<usize>) -> Self {
        let license = LicenseBuilder::new().name("Apache-2.0 OR MIT").build();
        let info = InfoBuilder::new()
            .title(info.title)
            .description(Some(info.description))
            .version(info.version)
            .license(Some(license));
        Self { table: OpenApiRouter::with_openapi(OpenApiBuilder::new().info(info).build()), max_body }
    }

    /// Describes a kind of bearer token. Operations refer to it by `name` in their `security`.
    #[must_use]
    pub fn bearer_scheme(mut self, name: &str, format: &str, description: &str) -> Self {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.bearer_format = Some(format.to_owned());
        scheme.description = Some(description.to_owned());
        let components = self.table.get_openapi_mut().components.get_or_insert_default();
        components.add_security_scheme(name, SecurityScheme::Http(scheme));
        self
    }

    /// Adds the handlers of one path.
    #[must_use]
    pub fn routes(self, routes: UtoipaMethodRouter<S>) -> Self {
        let max_body = self.max_body;
        self.add(routes, max_body)
    }

    /// Adds the handlers of one path, which accept bodies of up to `max_body` bytes.
    #[must_use]
    pub fn routes_with_body_limit(self, max_body: usize, (schemas, paths, methods): UtoipaMethodRouter<S>) -> Self {
        let methods = methods.layer(DefaultBodyLimit::max(max_body));
        self.add((schemas, paths, methods), Some(max_body))
    }

    fn add(self, (schemas, mut paths, methods): UtoipaMethodRouter<S>, max_body: Option<usize>) -> Self {
        for (path, item) in &mut paths.paths {
            responses::complete(path, item, max_body);
        }
        Self { table: self.table.routes((schemas, paths, methods)), ..self }
    }

    /// Builds the router, which serves its description at `/openapi.json`, and returns both.
    pub fn finish(self) -> (Router<S>, OpenApi) {
        let (max_body, mut this) = (self.max_body, self.routes(routes!(show_openapi)));
        responses::register_problem(this.table.get_openapi_mut().components.get_or_insert_default());
        let (router, description) = this.table.split_for_parts();
        // A description that is derived from Rust types can always be serialised.
        let text = description.to_json().unwrap_or_default();
        let limit = max_body.map_or_else(DefaultBodyLimit::disable, DefaultBodyLimit::max);
        let router = with_fallbacks(router).layer(limit).layer(Extension(Document(text.into())));
        (router, description)
    }
}

/// Returns the references of a description that lead nowhere.
pub fn dangling_references(description: &OpenApi) -> BTreeSet<String> {
    let text = description.to_json().unwrap_or_default();
    let document: Value = serde_json::from_str(&text).unwrap_or_default();
    let mut found = BTreeSet::new();
    collect_references(&document, &mut found);
    found.retain(|reference| reference.strip_prefix('#').and_then(|pointer| document.pointer(pointer)).is_none());
    found
}

fn collect_references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|member| collect_references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, found)),
        _ => {}
    }
}

/// OpenAPI description of this server
#[utoipa::path(get, path = "/openapi.json", tag = "Operators", security(()),
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = Object)))]
async fn show_openapi(Extension(Document(text)): Extension<Document>) -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], text.to_string()).into_response()
}
