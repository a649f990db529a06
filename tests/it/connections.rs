//! Connections over real TCP: slow, giant, malformed, many, and at the stop.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, http::StatusCode};
use musubi::serve::listener::{self, Limits};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::support::{Engine, ORIGIN, PASSWORD, TestApp};

const SHORT: Duration = Duration::from_millis(200);
/// Nothing of these should be reached in a test that does not ask for it.
const LONG: Duration = Duration::from_secs(300);
const HEAD: &str = "Host: members.example.jp\r\nUser-Agent: wire\r\n";

/// All times long: a test shortens the one it asks for.
fn patient() -> Limits {
    Limits { head: LONG, body: LONG, answer: LONG, idle: LONG, settle: SHORT, connections: 1024 }
}

/// The application behind a real port.
struct Server {
    app: TestApp,
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Server {
    async fn start(limits: Limits) -> Self {
        let app = TestApp::start(Engine::Sqlite).await;
        let router = app.router.clone();
        Self::serve(app, router, limits).await
    }

    async fn serve(app: TestApp, router: Router, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let serving = tokio::spawn(listener::serve(listener, router, limits, stop.clone()));
        Self { app, address, stop, serving }
    }

    async fn connect(&self) -> Wire {
        Wire(TcpStream::connect(self.address).await.unwrap())
    }

    /// Sends these bytes on a connection of their own; gives everything that comes until the server ends it.
    async fn ask(&self, bytes: &str) -> String {
        let mut wire = self.connect().await;
        wire.send(bytes).await;
        wire.rest().await
    }

    async fn is_well(&self) {
        let answer = self.ask(&format!("GET /healthz HTTP/1.1\r\n{HEAD}Connection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok\n"), "{answer}");
    }

    /// Cookie and token of a form, as headers and field.
    async fn form(&self) -> (String, String) {
        let mut visitor = self.app.visitor();
        let token = visitor.form_token().await;
        let cookies: Vec<_> = visitor.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let kind = "Content-Type: application/x-www-form-urlencoded";
        (format!("{HEAD}{kind}\r\nOrigin: {ORIGIN}\r\nCookie: {}\r\n", cookies.join("; ")), format!("csrf={token}"))
    }

    /// Stops and waits for the end.
    async fn end(self) {
        self.stop.cancel();
        self.serving.await.unwrap();
        self.app.end().await;
    }
}

struct Wire(TcpStream);

impl Wire {
    async fn send(&mut self, bytes: &str) {
        // The other side may have had enough of it.
        let _ = self.0.write_all(bytes.as_bytes()).await;
    }

    /// Whatever comes until the end.
    async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        let _ = self.0.read_to_end(&mut bytes).await;
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// One answer with a body of known length.
    async fn answer(&mut self) -> String {
        let mut text = String::new();
        loop {
            let mut bytes = [0; 4096];
            let read = self.0.read(&mut bytes).await.unwrap();
            assert!(read > 0, "the connection ended: {text}");
            text.push_str(&String::from_utf8_lossy(&bytes[..read]));
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length =
                head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return text;
            }
        }
    }

    /// Sends a byte now and then until the server has had enough.
    async fn trickle(&mut self) {
        loop {
            if self.0.write_all(b"a").await.is_err() {
                return;
            }
            let mut byte = [0];
            if let Ok(read) = tokio::time::timeout(SHORT / 10, self.0.read(&mut byte)).await {
                return assert!(matches!(read, Ok(0) | Err(_)), "an answer to half a request");
            }
        }
    }
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

// ---- slow

#[tokio::test]
async fn a_slow_head_is_cut_off() {
    let server = Server::start(Limits { head: SHORT, ..patient() }).await;
    for beginning in ["", "P", "PRI * HT", "GET / HTTP/1.1\r\nHost: memb", "GET / HTTP/1.1\r\nX-Slow: "] {
        let begun = Instant::now();
        assert_eq!(server.ask(beginning).await, "", "{beginning:?}");
        assert!(begun.elapsed() >= SHORT, "{beginning:?} had its time");
    }
    let mut wire = server.connect().await;
    wire.send("GET / HTTP/1.1\r\nX-Slow: ").await;
    wire.trickle().await;
    server.is_well().await;
    server.end().await;
}

/// The second head on a connection is as slow as the first might be.
#[tokio::test]
async fn a_slow_head_after_a_request_is_cut_off() {
    let server = Server::start(Limits { head: SHORT, ..patient() }).await;
    let mut wire = server.connect().await;
    wire.send(&format!("GET /healthz HTTP/1.1\r\n{HEAD}\r\n")).await;
    assert_eq!(status(&wire.answer().await), "200");
    wire.send("GET / HTTP/1.1\r\nX-Slow: ").await;
    wire.trickle().await;
    server.end().await;
}

#[tokio::test]
async fn a_slow_body_is_cut_off_with_408() {
    let server = Server::start(Limits { body: SHORT, ..patient() }).await;
    let (head, field) = server.form().await;
    let mut wire = server.connect().await;
    wire.send(&format!("POST /sign-in HTTP/1.1\r\n{head}Content-Length: 1000\r\n\r\n{field}")).await;
    let answer = wire.rest().await;
    assert_eq!(status(&answer), "408", "{answer}");
    assert!(answer.contains("error-page") && answer.contains("x-frame-options: DENY"), "{answer}");

    // A chunk now and then gains nothing.
    let mut wire = server.connect().await;
    wire.send(&format!("POST /sign-in HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n\r\n")).await;
    let mut answer = Vec::new();
    loop {
        wire.send("1\r\na\r\n").await;
        let mut bytes = [0; 4096];
        if let Ok(read) = tokio::time::timeout(SHORT / 10, wire.0.read(&mut bytes)).await {
            answer.extend_from_slice(&bytes[..read.unwrap()]);
            break;
        }
    }
    assert_eq!(status(&String::from_utf8_lossy(&answer)), "408");
    assert_eq!(server.app.audit().await, Vec::<String>::new());
    server.end().await;
}

#[tokio::test]
async fn a_body_in_time_is_taken_however_it_is_cut() {
    let server = Server::start(patient()).await;
    server.app.member("hanako@example.jp", "Hanako").await;
    let (head, field) = server.form().await;
    let password = PASSWORD.replace(' ', "+");
    let form = format!("email=hanako%40example.jp&password={password}&{field}");
    let mut wire = server.connect().await;
    wire.send(&format!("POST /sign-in HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n\r\n")).await;
    for part in form.as_bytes().chunks(7) {
        wire.send(&format!("{:x}\r\n{}\r\n", part.len(), std::str::from_utf8(part).unwrap())).await;
    }
    wire.send("0\r\n\r\n").await;
    assert_eq!(status(&wire.answer().await), "303");
    server.end().await;
}

/// Whoever does not take the answer does not keep the connection.
#[tokio::test]
async fn a_request_ends_in_time_whatever_it_waits_for() {
    async fn endless() -> &'static str {
        std::future::pending().await
    }
    let app = TestApp::start(Engine::Sqlite).await;
    let router = Router::new().route("/endless", axum::routing::get(endless));
    let server = Server::serve(app, router, Limits { answer: SHORT, ..patient() }).await;
    assert_eq!(server.ask(&format!("GET /endless HTTP/1.1\r\n{HEAD}\r\n")).await, "");
    server.end().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let server = Server::start(Limits { idle: SHORT, ..patient() }).await;
    let mut wire = server.connect().await;
    wire.send(&format!("GET /healthz HTTP/1.1\r\n{HEAD}\r\n")).await;
    assert_eq!(status(&wire.answer().await), "200");
    assert_eq!(wire.rest().await, "");
    server.end().await;
}

// ---- giant

#[tokio::test]
async fn a_giant_head_is_refused() {
    let server = Server::start(patient()).await;
    let many: String = (0..150).map(|n| format!("X-{n}: a\r\n")).collect();
    for (what, head) in [
        ("100 KB cookie", format!("Cookie: a={}\r\n", "b".repeat(100_000))),
        ("20 KB cookie", format!("Cookie: __Host-musubi_session={}\r\n", "b".repeat(20_000))),
        ("150 headers", many),
        ("endless name", format!("{}: a\r\n", "X".repeat(200_000))),
    ] {
        let answer = server.ask(&format!("GET / HTTP/1.1\r\n{HEAD}{head}Connection: close\r\n\r\n")).await;
        // A reset may overtake the answer where much was left unread.
        assert!(["431", "none"].contains(&status(&answer)), "{what}: {answer}");
        if what == "20 KB cookie" {
            assert!(answer.contains("error-page") && answer.contains("x-frame-options: DENY"), "{answer}");
        }
    }
    let path = format!("GET /{} HTTP/1.1\r\n{HEAD}Connection: close\r\n\r\n", "a".repeat(40_000));
    assert!(["404", "414", "431"].contains(&status(&server.ask(&path).await)));
    server.is_well().await;
    server.end().await;
}

#[tokio::test]
async fn a_giant_body_is_refused() {
    let server = Server::start(patient()).await;
    let (head, field) = server.form().await;
    for length in [65 * 1024, 900 * 1024] {
        let body = format!("{field}&name={}", "b".repeat(length));
        let request = format!("POST /sign-in HTTP/1.1\r\n{head}Content-Length: {}\r\n\r\n{body}", body.len());
        let mut wire = server.connect().await;
        wire.send(&request).await;
        let answer = wire.answer().await;
        assert_eq!(status(&answer), "413", "{answer}");
        assert!(answer.contains("error-page"), "{answer}");
    }
    // More than anybody reads: the connection ends, and the server does not.
    let mut wire = server.connect().await;
    wire.send(&format!("POST /sign-in HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n\r\n")).await;
    let chunk = format!("10000\r\n{}\r\n", "b".repeat(0x10000));
    while wire.0.write_all(chunk.as_bytes()).await.is_ok() {}
    server.is_well().await;
    server.end().await;
}

// ---- malformed, old, quick

#[tokio::test]
async fn two_lengths_are_never_two_requests() {
    let server = Server::start(patient()).await;
    let smuggled = format!("GET /smuggled HTTP/1.1\r\n{HEAD}\r\n");
    for lengths in [
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", smuggled.len() + 5),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n", smuggled.len() + 5),
    ] {
        let answer = server.ask(&format!("POST /locale HTTP/1.1\r\n{HEAD}{lengths}\r\n0\r\n\r\n{smuggled}")).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{lengths}: {answer}");
        assert_eq!(status(&answer), "403", "{answer}");
    }
    for lengths in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 5, 6\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
    ] {
        let answer = server.ask(&format!("POST /locale HTTP/1.1\r\n{HEAD}{lengths}\r\n0\r\n\r\n{smuggled}")).await;
        assert_eq!((status(&answer), answer.matches("HTTP/1.1 ").count()), ("400", 1), "{lengths}: {answer}");
    }
    server.end().await;
}

#[tokio::test]
async fn odd_requests_get_plain_answers() {
    let server = Server::start(Limits { head: SHORT, ..patient() }).await;
    for (request, expected) in [
        // A bare line feed ends a line, for which the standard leaves room; it hides no header.
        ("GET /healthz HTTP/1.1\nHost: members.example.jp\nConnection: close\n\n", "200"),
        ("GET / HTTP/1.1\nHost: members.example.jp\nHost: evil.example\nConnection: close\n\n", "200"),
        ("GET /healthz HTTP/1.0\r\n\r\n", "200"),
        ("GET / HTTP/1.0\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost : members.example.jp\r\nConnection: close\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\n Host: members.example.jp\r\n\r\n", "400"),
        ("GET / HTTP/9.9\r\n\r\n", "400"),
        ("GET /a b HTTP/1.1\r\n\r\n", "400"),
        ("\0\0\0\0\r\n\r\n", "400"),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}", "none"),
        ("TRACE / HTTP/1.1\r\nHost: members.example.jp\r\nX-Secret: mine\r\nConnection: close\r\n\r\n", "405"),
        ("CONNECT evil.example:443 HTTP/1.1\r\nHost: members.example.jp\r\nConnection: close\r\n\r\n", "404"),
        ("OPTIONS * HTTP/1.1\r\nHost: members.example.jp\r\nConnection: close\r\n\r\n", "404"),
    ] {
        let answer = server.ask(request).await;
        assert!(
            status(&answer) == expected || (expected == "none" && status(&answer) == "400"),
            "{request:?}: {answer}"
        );
        assert!(answer.matches("HTTP/1.").count() <= 1 && !answer.contains("mine"), "{request:?}: {answer}");
    }
    server.is_well().await;
    server.end().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let server = Server::start(patient()).await;
    let requests = [("/healthz", ""), ("/nowhere", ""), ("/readyz", "Connection: close\r\n")]
        .map(|(path, more)| format!("GET {path} HTTP/1.1\r\n{HEAD}{more}\r\n"));
    let answers = server.ask(&requests.concat()).await;
    let found: Vec<_> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(found, ["200", "404", "200"], "{answers}");
    server.end().await;
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a browser, not the application's client of LINE")]
async fn http2_is_spoken_within_limits() {
    let server = Server::start(patient()).await;
    let client = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
    let url = format!("http://{}/healthz", server.address);
    let answer = client.get(&url).send().await.unwrap();
    assert_eq!((answer.version(), answer.status()), (axum::http::Version::HTTP_2, StatusCode::OK));
    let giant = client.get(&url).header("cookie", "b".repeat(100_000)).send().await;
    assert!(giant.is_err() || giant.is_ok_and(|answer| answer.status() == 431), "a giant head");
    assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
    server.end().await;
}

// ---- many

#[tokio::test]
async fn x43_idle_connections_do_not_stop_an_honest_request() {
    let server = Server::start(patient()).await;
    let mut idle = Vec::new();
    for n in 0..200 {
        let mut wire = server.connect().await;
        wire.send(["", "GET / HT", "PRI"][n % 3]).await;
        idle.push(wire);
    }
    server.is_well().await;
    drop(idle);
    server.end().await;
}

#[tokio::test]
async fn x43_where_no_place_is_free_connections_in_reserve_give_theirs_up() {
    let server = Server::start(Limits { connections: 3, ..patient() }).await;
    let mut reserve = Vec::new();
    for _ in 0..3 {
        let mut wire = server.connect().await;
        wire.send(&format!("GET /healthz HTTP/1.1\r\n{HEAD}\r\n")).await;
        assert_eq!(status(&wire.answer().await), "200");
        reserve.push(wire);
    }
    server.is_well().await;
    server.end().await;
}

#[tokio::test]
async fn x43_where_no_place_is_free_the_next_waits_for_one() {
    let server = Server::start(Limits { connections: 2, head: SHORT, ..patient() }).await;
    let mut held = [server.connect().await, server.connect().await];
    for wire in &mut held {
        wire.send("GET / HT").await;
    }
    server.is_well().await;
    server.end().await;
}

// ---- at the stop

#[tokio::test]
async fn x37_connections_without_a_request_do_not_delay_the_end() {
    let server = Server::start(patient()).await;
    let mut wires = Vec::new();
    for beginning in ["", "P", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/1.1\r\nHost: memb"] {
        let mut wire = server.connect().await;
        wire.send(beginning).await;
        wires.push(wire);
    }
    let mut reserve = server.connect().await;
    reserve.send(&format!("GET /healthz HTTP/1.1\r\n{HEAD}\r\n")).await;
    assert_eq!(status(&reserve.answer().await), "200");
    reserve.send("GET / HTTP/1.1\r\nX-Half: ").await;
    wires.push(reserve);
    server.end().await;
    for mut wire in wires {
        wire.rest().await;
    }
}

#[tokio::test]
async fn x37_an_open_request_is_answered_after_the_stop() {
    let server = Server::start(patient()).await;
    server.app.member("hanako@example.jp", "Hanako").await;
    let (head, field) = server.form().await;
    let form = format!("email=hanako%40example.jp&password={}&{field}", PASSWORD.replace(' ', "+"));
    let mut wire = server.connect().await;
    let head =
        format!("POST /sign-in HTTP/1.1\r\n{head}Expect: 100-continue\r\nContent-Length: {}\r\n\r\n", form.len());
    wire.send(&head).await;
    // Its body is asked for: the request is open by now.
    assert_eq!(status(&wire.answer().await), "100");
    server.stop.cancel();
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    wire.send(&form).await;
    let answer = wire.rest().await;
    assert_eq!(status(&answer), "303", "{answer}");
    server.end().await;
}
