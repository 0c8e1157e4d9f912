//! One table of routes that builds both the router and its description (OpenAPI), so that neither can name what the other
//! lacks: a route enters through its `#[utoipa::path]` or not at all.

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::DefaultBodyLimit,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use utoipa::openapi::{
    InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder,
    security::{Http, HttpAuthScheme, SecurityScheme},
};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouter},
    routes,
};

use crate::http::with_fallbacks;

mod answers;

pub use answers::{
    Conflict, Forbidden, Full, Gone, NotFound, NotHeld, Precondition, TooMany, Unauthenticated, Unsatisfiable,
};

/// A table of routes with their descriptions.
pub struct Api<S> {
    table: OpenApiRouter<S>,
    /// Bytes in the body of a route that names no other limit; none when the routes bound their bodies themselves.
    most: Option<usize>,
}

/// What a server says of itself.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// Its name.
    pub title: &'static str,
    /// What it is for.
    pub description: &'static str,
    /// Its version.
    pub version: &'static str,
}

/// The description, ready to be sent.
#[derive(Debug, Clone)]
pub struct Description(Arc<str>);

impl<S: Clone + Send + Sync + 'static> Api<S> {
    /// An empty table. Without `most` the routes bound their bodies themselves.
    pub fn new(about: About, most: Option<usize>) -> Self {
        let license = LicenseBuilder::new().name("Apache-2.0 OR MIT").build();
        let info = InfoBuilder::new()
            .title(about.title)
            .description(Some(about.description))
            .version(about.version)
            .license(Some(license));
        Self { table: OpenApiRouter::with_openapi(OpenApiBuilder::new().info(info).build()), most }
    }

    /// Says what a kind of bearer token is; operations name it in their `security`.
    #[must_use]
    pub fn bearer(mut self, name: &str, format: &str, description: &str) -> Self {
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
        let most = self.most;
        self.add(routes, most)
    }

    /// Adds the handlers of one path, which take bodies of up to `most` bytes.
    #[must_use]
    pub fn routes_up_to(self, most: usize, (schemas, paths, methods): UtoipaMethodRouter<S>) -> Self {
        let methods = methods.layer(DefaultBodyLimit::max(most));
        self.add((schemas, paths, methods), Some(most))
    }

    fn add(self, (schemas, mut paths, methods): UtoipaMethodRouter<S>, most: Option<usize>) -> Self {
        for (path, item) in &mut paths.paths {
            answers::complete(path, item, most);
        }
        Self { table: self.table.routes((schemas, paths, methods)), ..self }
    }

    /// The router, which describes itself at `/openapi.json`, and the description.
    pub fn finish(self) -> (Router<S>, OpenApi) {
        let (most, mut this) = (self.most, self.routes(routes!(show_openapi)));
        answers::register(this.table.get_openapi_mut().components.get_or_insert_default());
        let (router, description) = this.table.split_for_parts();
        // What is derived from types of ours can be written down.
        let text = description.to_json().unwrap_or_default();
        let limit = most.map_or_else(DefaultBodyLimit::disable, DefaultBodyLimit::max);
        let router = with_fallbacks(router).layer(limit).layer(Extension(Description(text.into())));
        (router, description)
    }
}

/// This description
#[utoipa::path(get, path = "/openapi.json", tag = "Operators", security(()),
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = Object)))]
async fn show_openapi(Extension(Description(text)): Extension<Description>) -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], text.to_string()).into_response()
}
