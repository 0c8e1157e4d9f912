//! Error responses of the description: those that a route names, and those that follow from what the route accepts.

use std::collections::BTreeMap;

use utoipa::{
    IntoResponses, ToSchema as _,
    openapi::{
        Components, ContentBuilder, Ref, RefOr, Response, ResponseBuilder,
        path::{Operation, Parameter, ParameterIn, PathItem},
    },
};
use wire::{Problem, problem::MEDIA_TYPE};

const NOT_FOUND: &str = "Not found, or not visible to the caller";
const UNAUTHORIZED: &str = "No token, or an invalid one";
const FORBIDDEN: &str = "The token does not permit this";

/// Describes a response whose body is a problem document.
fn problem(description: &str) -> RefOr<Response> {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name()))).build();
    ResponseBuilder::new().description(description).content(MEDIA_TYPE, content).build().into()
}

macro_rules! problem_responses {
    ($($(#[$doc:meta])* $name:ident: $status:literal, $description:expr;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub struct $name;

            impl IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<Response>> {
                    BTreeMap::from([($status.to_owned(), problem($description))])
                }
            }
        )*
    };
}

problem_responses! {
    /// 401 in a description.
    Unauthorized: "401", UNAUTHORIZED;
    /// 403 in a description.
    Forbidden: "403", FORBIDDEN;
    /// 404 in a description.
    NotFound: "404", NOT_FOUND;
    /// 404 of a byte range that is not wholly on this server.
    NotHeld: "404", "Some of the bytes are not on this server; `runs` lists the chunks that are";
    /// 409 in a description.
    Conflict: "409", "The current state does not permit this; `detail` says what is missing";
    /// 410 in a description.
    Gone: "410", "Deleted";
    /// 412 in a description.
    PreconditionFailed: "412", "The precondition in the request headers is false";
    /// 416 in a description.
    RangeNotSatisfiable: "416", "No requested range lies inside the file; `size` is its length in bytes";
    /// 429 in a description.
    TooManyRequests: "429", "Too many requests or too many objects; `Retry-After` gives the seconds to wait";
    /// 507 in a description.
    InsufficientStorage: "507", "The server's disk is full";
}

/// Adds the schema of problem documents.
pub(super) fn register_problem(components: &mut Components) {
    components.schemas.entry(Problem::name().into_owned()).or_insert_with(<Problem as utoipa::PartialSchema>::schema);
}

/// Adds to each operation of a path the error responses that follow from its parameters, body and security.
pub(super) fn complete(path: &str, item: &mut PathItem, max_body: Option<usize>) {
    let PathItem { get, put, post, delete, head, patch, options, .. } = item;
    for operation in [get, put, post, delete, head, patch, options].into_iter().flatten() {
        operation.summary = operation.summary.take().map(|summary| without_route(&summary));
        for (status, response) in implied_responses(path, operation, max_body) {
            operation.responses.responses.entry(status.to_owned()).or_insert(response);
        }
    }
}

fn implied_responses(
    path: &str,
    operation: &Operation,
    max_body: Option<usize>,
) -> Vec<(&'static str, RefOr<Response>)> {
    let mut responses = vec![("default", problem("Any other error"))];
    if path.contains('{') {
        responses.push(("404", problem(NOT_FOUND)));
    }
    if path.contains('{') || has_query(operation) {
        responses.push(("414", problem("The path or the query is too long to name anything; `most` gives the bytes")));
    }
    if has_query(operation) {
        responses.push(("400", problem("The query cannot be parsed")));
        responses.push(("422", problem("A value is not acceptable")));
    }
    if operation.request_body.is_some() {
        let too_large = match max_body {
            Some(max) => format!("The body is larger than {max} bytes"),
            None => "The body is larger than its target".to_owned(),
        };
        responses.extend([
            ("400", problem("The body cannot be parsed")),
            ("408", problem("The body did not arrive in time")),
            ("413", problem(&too_large)),
            ("415", problem("The body has another media type than the route expects")),
            ("422", problem("The body does not have the structure or the values that the route expects")),
        ]);
    }
    let public =
        |operation: &Operation| operation.security.as_ref().is_none_or(|needed| needed.contains(&<_>::default()));
    if !public(operation) {
        responses.push(("401", problem(UNAUTHORIZED)));
        responses.push(("403", problem(FORBIDDEN)));
        responses.push(("503", problem("Temporarily unavailable; `Retry-After` gives the seconds to wait")));
    }
    responses
}

/// Removes the route from the first line of a handler's documentation, because the description shows it anyway.
fn without_route(summary: &str) -> String {
    let text = summary.split_once("`: ").filter(|(route, _)| route.starts_with('`')).map_or(summary, |(_, text)| text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn has_query(operation: &Operation) -> bool {
    let query = |parameter: &RefOr<Parameter>| matches!(parameter, RefOr::T(parameter) if matches!(parameter.parameter_in, ParameterIn::Query));
    operation.parameters.iter().flatten().any(query)
}
