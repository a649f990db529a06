//! What a program is told that called the API and did not get what it asked for: a closed list of kinds, with ids that
//! never change.

use axum::http::StatusCode;

/// A refusal for a program.
#[derive(Debug, Clone)]
pub struct Problem {
    pub kind: Kind,
    /// What was wrong this time.
    pub detail: String,
    /// Every mistake with its place, where there are places.
    pub errors: Vec<Flaw>,
    /// When to come again, in seconds.
    pub retry_after: Option<u64>,
}

/// One mistake in what was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// Where: a JSON path in the body such as `to.members[2]`, or the name of a parameter or header.
    pub path: String,
    pub message: String,
}

macro_rules! kinds {
    ($($kind:ident $id:literal $status:ident $title:literal $text:literal;)+) => {
        /// Why a call of the API was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Kind { $($kind),+ }

        impl Kind {
            /// All of them, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$kind),+];

            /// What programs compare; it never changes.
            pub fn id(self) -> &'static str {
                match self { $(Self::$kind => $id),+ }
            }

            pub fn status(self) -> StatusCode {
                match self { $(Self::$kind => StatusCode::$status),+ }
            }

            pub fn title(self) -> &'static str {
                match self { $(Self::$kind => $title),+ }
            }

            /// What it means and what to do, for the documentation.
            pub fn text(self) -> &'static str {
                match self { $(Self::$kind => $text),+ }
            }
        }
    };
}

kinds! {
    BadRequest "bad_request" BAD_REQUEST "The request cannot be read"
        "Its head, its path or its parameters are not what the documentation says. Repeating it unchanged is of no use.";
    KeyInUrl "key_in_url" BAD_REQUEST "The key is in the URL"
        "URLs are logged on their way. Send the key in the header Authorization, and make a new one: this one was seen.";
    InvalidJson "invalid_json" BAD_REQUEST "The body is not JSON"
        "The body breaks off, or is not JSON in UTF-8.";
    InvalidParameter "invalid_parameter" BAD_REQUEST "A parameter is wrong"
        "A parameter of the query is unknown, given twice, or has no such value. errors names it.";
    InvalidCursor "invalid_cursor" UNPROCESSABLE_ENTITY "The cursor is none of this list"
        "A cursor is taken as it was given, with the same filters and the same key. Begin the list anew without it.";
    InvalidIdempotencyKey "invalid_idempotency_key" BAD_REQUEST "The idempotency key is wrong"
        "Idempotency-Key is 1 to 255 printable ASCII characters, given once.";
    Unauthorized "unauthorized" UNAUTHORIZED "No valid key"
        "There is no key, or it is malformed, unknown, revoked or expired; which of these is not told.";
    Forbidden "forbidden" FORBIDDEN "The key lacks a scope"
        "The key is good, but may not do this. detail names the scope that it lacks.";
    NotFound "not_found" NOT_FOUND "Not found"
        "There is no such thing, or it belongs to a provider that the key is not for.";
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED "No such method"
        "The path is there, the method is not. The header Allow names those that are.";
    TooSlow "too_slow" REQUEST_TIMEOUT "The body did not come in time"
        "Send it again.";
    Conflict "conflict" CONFLICT "It does not fit what is there"
        "The present state of things is against it; detail tells how.";
    AlreadyLinked "already_linked" CONFLICT "The member is linked already"
        "The member has a LINE account at this provider, and there can be one. Nothing was made.";
    IdempotencyKeyReused "idempotency_key_reused" CONFLICT "The idempotency key was used for something else"
        "Under one key there is one request: repeat that one unchanged, or take a new key.";
    IdempotencyInProgress "idempotency_in_progress" CONFLICT "The same request is under way"
        "The first request under this idempotency key has no answer yet. Repeat it after Retry-After to get its answer.";
    BodyTooLarge "body_too_large" PAYLOAD_TOO_LARGE "The body is too large"
        "A body has 1 MiB at most.";
    UnsupportedMediaType "unsupported_media_type" UNSUPPORTED_MEDIA_TYPE "The body's type is not application/json"
        "Send Content-Type: application/json.";
    Invalid "invalid" UNPROCESSABLE_ENTITY "The request is well-formed, but wrong"
        "errors names every mistake with its path. Nothing was stored or sent.";
    RateLimited "rate_limited" TOO_MANY_REQUESTS "Too many requests"
        "The key has so many requests in a minute. Wait as long as Retry-After says.";
    HeadTooLarge "head_too_large" REQUEST_HEADER_FIELDS_TOO_LARGE "The head is too large"
        "Names and values of headers have 16 KiB at most.";
    Internal "internal" INTERNAL_SERVER_ERROR "Something went wrong here"
        "It is in our log under request_id. Repeat the request with the same Idempotency-Key.";
    Upstream "upstream" BAD_GATEWAY "LINE did not do it"
        "LINE was asked and refused or did not answer; detail tells more.";
    Unavailable "unavailable" SERVICE_UNAVAILABLE "Not now"
        "The database is away or overloaded, or it took too long. Repeat the request after Retry-After.";
}

impl Problem {
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), errors: Vec::new(), retry_after: None }
    }

    /// What is wrong with a request that can be read, each mistake with its path.
    pub fn invalid(errors: Vec<Flaw>) -> Self {
        Self { errors, ..Self::new(Kind::Invalid, "Nothing was done: see errors.") }
    }
}

impl Flaw {
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}
