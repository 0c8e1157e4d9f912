//! The answers that follow from what an operation takes: said once here instead of at every route.

use std::collections::BTreeMap;

use utoipa::{
    IntoResponses, ToSchema as _,
    openapi::{
        Components, ContentBuilder, Ref, RefOr, Response, ResponseBuilder,
        path::{Operation, Parameter, ParameterIn, PathItem},
    },
};
use wire::{Problem, problem::MEDIA_TYPE};

/// A refusal.
fn problem(description: &str) -> RefOr<Response> {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name()))).build();
    ResponseBuilder::new().description(description).content(MEDIA_TYPE, content).build().into()
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident: $status:literal, $description:literal;)*) => {
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

refusals! {
    /// 401.
    Unauthenticated: "401", "No token, or one that means nothing here";
    /// 403.
    Forbidden: "403", "The token does not reach this far";
    /// 404.
    NotFound: "404", "There is no such thing, or it is not to be seen";
    /// 409.
    Conflict: "409", "The present state does not allow it; the document says what is missing";
    /// 410.
    Gone: "410", "It was deleted";
    /// 404 with the runs that are held.
    NotHeld: "404", "Not all of it is on this server; `runs` says what is";
    /// 412.
    Precondition: "412", "The file is not the one named";
    /// 416.
    Unsatisfiable: "416", "The file has no such range; `size` says how long it is";
    /// 507.
    Full: "507", "The server's disk is full";
    /// 429.
    TooMany: "429", "Too many of this kind at once or in a short time; `Retry-After` says when to come back";
}

/// Makes the schema of problem documents known.
pub(super) fn register(components: &mut Components) {
    components.schemas.entry(Problem::name().into_owned()).or_insert_with(<Problem as utoipa::PartialSchema>::schema);
}

/// Adds to each operation of a path the refusals that it can give for what it takes.
pub(super) fn complete(path: &str, item: &mut PathItem, most: Option<usize>) {
    let PathItem { get, put, post, delete, head, patch, options, .. } = item;
    for operation in [get, put, post, delete, head, patch, options].into_iter().flatten() {
        operation.summary = operation.summary.take().map(|summary| without_route(&summary));
        for (status, answer) in refusals(path, operation, most) {
            operation.responses.responses.entry(status.to_owned()).or_insert(answer);
        }
    }
}

fn refusals(path: &str, operation: &Operation, most: Option<usize>) -> Vec<(&'static str, RefOr<Response>)> {
    let mut refusals = vec![("default", problem("Anything else that went wrong"))];
    if path.contains('{') {
        refusals.push(("404", problem("There is no such thing, or it is not to be seen")));
    }
    if has_query(operation) {
        refusals.push(("400", problem("The query cannot be understood")));
        refusals.push(("422", problem("A value cannot be taken")));
    }
    if operation.request_body.is_some() {
        let large = match most {
            Some(most) => format!("The body has more than {most} bytes"),
            None => "The body is larger than what it is to be".to_owned(),
        };
        refusals.extend([
            ("400", problem("The body cannot be understood")),
            ("408", problem("The body did not come in time")),
            ("413", problem(&large)),
            ("415", problem("The body is not of the type that this route takes")),
            ("422", problem("The body is not what this route takes")),
        ]);
    }
    let public =
        |operation: &Operation| operation.security.as_ref().is_none_or(|needed| needed.contains(&<_>::default()));
    if !public(operation) {
        refusals.push(("401", problem("No token, or one that means nothing here")));
        refusals.push(("403", problem("The token does not reach this far")));
        refusals.push(("503", problem("Not now; `Retry-After` says when to come back")));
    }
    refusals
}

/// The first line of a handler's documentation names its route, which the description shows anyway.
fn without_route(summary: &str) -> String {
    let said = summary.split_once("`: ").filter(|(route, _)| route.starts_with('`')).map_or(summary, |(_, said)| said);
    let mut letters = said.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn has_query(operation: &Operation) -> bool {
    let query = |parameter: &RefOr<Parameter>| matches!(parameter, RefOr::T(parameter) if matches!(parameter.parameter_in, ParameterIn::Query));
    operation.parameters.iter().flatten().any(query)
}
