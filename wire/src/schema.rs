//! OpenAPI schemas of the types that are one string or array in JSON. The other types derive theirs.

use std::borrow::Cow;

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr, Schema,
        schema::{ArrayBuilder, KnownFormat, ObjectBuilder, SchemaFormat, Type},
    },
};

use crate::{
    ChunkSet, Digest, FileId, FileName, JobId, Label, OriginUrl, RequesterId, SessionId, TokenId,
    chunks::MAX_CHUNKS,
    event::Stream,
    id::{Epoch, InstanceId},
    job::Span,
    name::MAX_NAME_LEN,
    origin_url::MAX_ORIGIN_URL,
    token::Token,
};

const ID: &str = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";

fn text(description: &str, example: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).description(Some(description)).examples([example])
}

macro_rules! schemas {
    ($($name:ident: $schema:expr;)*) => {
        $(
            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    $schema.build().into()
                }
            }

            impl ToSchema for $name {
                fn name() -> Cow<'static, str> {
                    Cow::Borrowed(stringify!($name))
                }
            }
        )*
    };
}

fn id(description: &str) -> ObjectBuilder {
    text(description, "01890a5d-ac96-774b-bcce-b302099a8057")
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)))
        .pattern(Some(ID))
}

fn run() -> ArrayBuilder {
    let bound = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).maximum(Some(MAX_CHUNKS));
    ArrayBuilder::new().items(bound).min_items(Some(2)).max_items(Some(2))
}

fn runs() -> ArrayBuilder {
    ArrayBuilder::new()
        .items(run())
        .description(Some("Half-open chunk intervals [[a,b],…], ascending and disjoint"))
        .examples([serde_json::json!([[0, 4]])])
}

schemas! {
    Digest: text(
        "SHA-256 in lower-case hex", "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    ).pattern(Some("^[0-9a-f]{64}$"));
    Label: text("Name of a zone or a file server", "eu-west-1").pattern(Some("^[a-z0-9-]{1,63}$"));
    FileName: text("File name without separators and without control, direction-changing and invisible characters", "image.iso")
        .min_length(Some(1)).max_length(Some(MAX_NAME_LEN));
    FileId: id("Identifier of a file, whose content never changes");
    JobId: id("Identifier of a job, the collaborative download of a URL");
    RequesterId: id("Identifier that a process chose for itself as a requester of jobs");
    OriginUrl: text("http or https URL without user name and password", "https://example.org/image.iso")
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Uri))).max_length(Some(MAX_ORIGIN_URL));
    TokenId: id("Identifier of a token, which may be logged");
    SessionId: id("Identifier of a session, which may be logged");
    InstanceId: id("Identifier of one start of a file server");
    Epoch: id("Identifier of one life of the info-server's database; a restored database starts a new epoch");
    Token: text("Bearer token", "ddmd_…").pattern(Some("^ddm[sduv]_[A-Za-z0-9_-]{48}$"));
    Stream: text("Stream of events: of all file servers, of one zone or of one server", "zone.eu").pattern(Some(r"^(all|(zone|server)\.[a-z0-9-]{1,63})$"));
    ChunkSet: runs();
    Span: run().description(Some("Half-open chunk interval [a,b] with a < b"));
}
