//! The face of an [`Error`] for a program: `application/problem+json` (RFC 9457).

use axum::{
    Json,
    body::Body,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    error::{Error, Flaw, Kind, Problem},
    member::guard,
};

pub const MEDIA_TYPE: &str = "application/problem+json";

/// Why a call was refused, by RFC 9457.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct Face {
    /// Compare this: it names the kind of problem, never changes, and leads to its description.
    #[schema(example = "/api/docs#error-invalid")]
    r#type: String,
    /// The kind of problem in words.
    #[schema(example = "The request is well-formed, but wrong")]
    title: &'static str,
    /// As the answer's status.
    #[schema(example = 422, minimum = 400, maximum = 599)]
    status: u16,
    /// What was wrong this time, for people.
    #[schema(example = "Nothing was done: see errors.")]
    detail: String,
    /// Every mistake with its place, where there are places.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<Mistake>,
    /// Names this request in our log; it is in the header X-Request-Id too.
    #[schema(example = "0b6f3c1e-6f0e-4f3e-9d0c-2f4f6f1f7a11")]
    request_id: String,
}

/// One mistake in what was sent.
#[derive(Debug, Serialize, ToSchema)]
pub struct Mistake {
    /// A JSON path in the body, or the name of a parameter or header.
    #[schema(example = "to.members[2]")]
    path: String,
    #[schema(example = "there is no member \"4711\"")]
    message: String,
}

impl From<Flaw> for Mistake {
    fn from(Flaw { path, message }: Flaw) -> Self {
        Self { path, message }
    }
}

/// Where a kind is described.
pub fn uri(kind: Kind) -> String {
    format!("/api/docs#error-{}", kind.id())
}

/// What a program is told of an error.
fn of_error(error: &Error) -> Problem {
    let told = |kind: Kind| Problem::new(kind, format!("{}.", kind.title()));
    let problem = match error {
        Error::Problem(problem) => (**problem).clone(),
        Error::NotFound => told(Kind::NotFound),
        Error::BadRequest(why) => Problem::new(Kind::BadRequest, format!("{why}.")),
        Error::TooMany { seconds } => {
            Problem::new(Kind::RateLimited, format!("The next request may come in {seconds} seconds."))
        }
        Error::TooSlow => told(Kind::TooSlow),
        Error::TooLarge => told(Kind::BodyTooLarge),
        Error::HeadTooLarge => told(Kind::HeadTooLarge),
        Error::Busy | Error::Unavailable(_) => {
            Problem::new(Kind::Unavailable, "Repeat the request in some seconds, with the same Idempotency-Key.")
        }
        Error::Refused(refusal) => Problem::new(Kind::Conflict, format!("{}.", refusal.reason)),
        Error::Csrf | Error::SignIn { .. } | Error::Reauth { .. } => told(Kind::Unauthorized),
        Error::Internal(_) => Problem::new(Kind::Internal, "It is in our log under request_id. It may be tried again."),
    };
    Problem { retry_after: problem.retry_after.or_else(|| error.retry_after()), ..problem }
}

/// What the framework answered by itself: no such method, or something that it cannot read.
fn of_status(status: StatusCode) -> Option<Problem> {
    let kind = match status {
        StatusCode::METHOD_NOT_ALLOWED => Kind::MethodNotAllowed,
        StatusCode::NOT_FOUND => Kind::NotFound,
        _ if status.is_client_error() => Kind::BadRequest,
        _ if status.is_server_error() => Kind::Internal,
        _ => return None,
    };
    Some(Problem::new(kind, format!("{}.", kind.title())))
}

/// Gives whatever was refused its face; an answer that has one, or needs none, stays as it is.
pub fn finish(request_id: &str, answer: Response) -> Response {
    let is_told = answer.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == MEDIA_TYPE);
    let problem = match answer.extensions().get::<Error>() {
        Some(error) => Some(of_error(error)),
        None if is_told => None,
        None => of_status(answer.status()),
    };
    let Some(problem) = problem else { return answer };
    let mut response = render(problem, request_id);
    if let Some(methods) = answer.headers().get(header::ALLOW) {
        response.headers_mut().insert(header::ALLOW, methods.clone());
    }
    response
}

fn render(problem: Problem, request_id: &str) -> Response {
    let Problem { kind, detail, errors, retry_after } = problem;
    let face = Face {
        r#type: uri(kind),
        title: kind.title(),
        status: kind.status().as_u16(),
        detail,
        errors: errors.into_iter().map(Mistake::from).collect(),
        request_id: request_id.to_owned(),
    };
    let mut response = (kind.status(), Json(face)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    if let Some(seconds) = retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if kind == Kind::Unauthorized {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"musubi\""));
    }
    response
}

/// For what needs no key under `/api/`: only the face.
pub async fn face(request: Request<Body>, next: Next) -> Response {
    let request_id = guard::request_id(&request);
    finish(&request_id, next.run(request).await)
}
