//! One bounded HTTP client: TLS 1.2 or newer, no redirects, time limits, and an answer of limited size. Every call
//! leaves a line in the log, as LINE's guidelines ask.

mod record;

use std::time::Duration;

use reqwest::{Client, Request, RequestBuilder, header::HeaderMap, redirect, tls};

use self::record::Record;
use super::Error;

/// Longest answer read where nothing larger is expected.
pub const SMALL: usize = 64 * 1024;
/// Longest answer read for images and lists.
pub const LARGE: usize = 4 * 1024 * 1024;

const WHOLE: Duration = Duration::from_secs(10);
/// The longest that LINE may ask to be left alone.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
const CONNECT: Duration = Duration::from_secs(3);

#[derive(Debug, Clone)]
pub struct Http(Client);

/// An answer read to its end, whatever its status.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Http {
    pub fn new() -> Result<Self, Error> {
        #[expect(clippy::disallowed_methods, reason = "this is the one bounded client")]
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .min_tls_version(tls::Version::TLS_1_2)
            .timeout(WHOLE)
            .connect_timeout(CONNECT)
            .pool_idle_timeout(Duration::from_secs(30))
            .user_agent(concat!("musubi/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Error::Client(format!("the HTTP client cannot be made: {error}")))?;
        Ok(Self(client))
    }

    pub fn get(&self, url: &str) -> RequestBuilder {
        self.0.get(url)
    }

    pub fn post(&self, url: &str) -> RequestBuilder {
        self.0.post(url)
    }

    pub fn put(&self, url: &str) -> RequestBuilder {
        self.0.put(url)
    }

    pub fn delete(&self, url: &str) -> RequestBuilder {
        self.0.delete(url)
    }

    pub fn request(&self, request: reqwest::Request) -> RequestBuilder {
        RequestBuilder::from_parts(self.0.clone(), request)
    }
}

/// Sends, and reads at most `limit` bytes of the answer.
pub async fn send(request: RequestBuilder, limit: usize) -> Result<Answer, Error> {
    let too_long = || Error::Malformed(format!("the answer is longer than {limit} bytes"));
    send_up_to(request, limit).await?.ok_or_else(too_long)
}

/// Sends, and reads the answer; none where it is a success of more than `limit` bytes.
pub async fn send_up_to(request: RequestBuilder, limit: usize) -> Result<Option<Answer>, Error> {
    let (client, request) = request.build_split();
    let request = request.map_err(|error| Error::Client(describe(&error)))?;
    let record = Record::of(&request);
    let result = exchange(&client, request, limit).await;
    record.write(&result);
    result
}

/// [`send`] for a server that is not LINE: the line in the log is the caller's.
pub async fn send_elsewhere(request: RequestBuilder, limit: usize) -> Result<Answer, Error> {
    let (client, request) = request.build_split();
    let request = request.map_err(|error| Error::Client(describe(&error)))?;
    let too_long = || Error::Malformed(format!("the answer is longer than {limit} bytes"));
    exchange(&client, request, limit).await?.ok_or_else(too_long)
}

async fn exchange(client: &Client, request: Request, limit: usize) -> Result<Option<Answer>, Error> {
    let mut response = client.execute(request).await.map_err(|error| {
        let text = describe(&error);
        if error.is_connect() { Error::Unreached(text) } else { Error::Lost(text) }
    })?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    // A refusal is words, however little is wanted of a success.
    let is_success = response.status().is_success();
    let limit = if is_success { limit } else { limit.max(SMALL) };
    let announced = response.content_length().unwrap_or(0);
    let mut body = Vec::new();
    let mut is_too_long = announced > limit as u64;
    while !is_too_long && let Some(chunk) = response.chunk().await.map_err(|error| Error::Lost(describe(&error)))? {
        is_too_long = body.len() + chunk.len() > limit;
        body.extend_from_slice(&chunk);
    }
    match (is_too_long, is_success) {
        (false, _) => Ok(Some(Answer { status, headers, body })),
        (true, true) => Ok(None),
        (true, false) => Err(Error::Malformed(format!("a refusal ({status}) of more than {limit} bytes"))),
    }
}

/// Sends; anything but 2xx is an error with LINE's own words.
pub async fn send_ok(request: RequestBuilder, limit: usize) -> Result<Answer, Error> {
    let answer = send(request, limit).await?;
    if (200..300).contains(&answer.status) { Ok(answer) } else { Err(answer.into_refusal()) }
}

impl Answer {
    /// LINE's id of the request, to be named in questions to LINE.
    pub fn request_id(&self) -> &str {
        self.header("x-line-request-id")
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// `Retry-After` in seconds or as a date, an hour at most; none where it is neither. LINE does not document it: what
    /// stands between may say it.
    fn retry_after(&self) -> Option<Duration> {
        let text = self.header("retry-after").trim();
        let wait = match text.parse() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => {
                let seconds =
                    |name| jiff::fmt::rfc2822::parse(self.header(name)).ok().map(|at| at.timestamp().as_second());
                let until = seconds("retry-after")?;
                Duration::from_secs(u64::try_from(until - seconds("date")?).unwrap_or(0))
            }
        };
        Some(wait.min(LONGEST_WAIT))
    }

    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| Error::Malformed(error.to_string()))
    }

    /// LINE's message out of any of its error bodies, cut and without control characters.
    pub fn into_refusal(self) -> Error {
        let text = String::from_utf8_lossy(&self.body);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let word = |name: &str| json.get(name).and_then(|value| value.as_str()).unwrap_or_default();
        let message = match (word("message"), word("error")) {
            ("", "") => text.as_ref().to_owned(),
            ("", error) => format!("{error}: {}", word("error_description")),
            (message, _) => match json.get("details") {
                Some(details) => format!("{message} {details}"),
                None => message.to_owned(),
            },
        };
        let message = message.chars().filter(|c| !c.is_control()).take(500).collect();
        let request_id = self.request_id().chars().take(100).collect();
        Error::Refused { status: self.status, message, request_id, retry_after: self.retry_after() }
    }
}

/// The chain of causes without the URL, which may hold a token.
fn describe(error: &reqwest::Error) -> String {
    let mut text = match (error.is_timeout(), error.is_connect()) {
        (true, _) => "time limit".to_owned(),
        (_, true) => "no connection".to_owned(),
        _ => "broken connection".to_owned(),
    };
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x25_how_long_line_wants_to_be_left_alone() {
        let date = "Sun, 29 Nov 2026 04:00:00 GMT";
        for (text, seconds) in [
            ("7", Some(7)),
            ("0", Some(0)),
            ("Sun, 29 Nov 2026 04:00:30 GMT", Some(30)),
            ("Sun, 29 Nov 2026 03:00:00 GMT", Some(0)),
            ("315360000", Some(3600)),
            ("Sat, 29 Nov 2036 04:00:00 GMT", Some(3600)),
            ("soon", None),
            ("-1", None),
            ("1.5", None),
            ("99999999999999999999", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("date", date.parse().unwrap());
            headers.insert("retry-after", text.parse().unwrap());
            let answer = Answer { status: 429, headers, body: Vec::new() };
            assert_eq!(answer.retry_after(), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
