//! Pushes without an outbox, on the sender's core: what the client alone can do, and what the simulator can take.

use std::{
    io::BufRead,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use musubi::line::http::{self, Http};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use uuid::Uuid;

use crate::{line, store::content};

/// What the tasks of this process share.
struct Shared {
    url: String,
    http: Http,
    token: String,
    bodies: Vec<String>,
    pushed: AtomicU64,
}

/// The other process: pushes until it is killed, and tells how many it has pushed when it is asked.
#[tokio::main]
pub async fn push(kind: &str, url: &str, in_flight: usize, people: &str) {
    let people = std::fs::read_to_string(people).unwrap();
    let body = |(number, id)| format!(r#"{{"to":"{id}","messages":{}}}"#, content(&format!("{number}")));
    let http = Http::new().unwrap();
    let token = line::token(&http, url).await;
    let bodies = people.lines().enumerate().map(body).collect();
    let shared = Arc::new(Shared { url: url.to_owned(), http, token, bodies, pushed: AtomicU64::new(0) });
    for place in 0..in_flight {
        let shared = Arc::clone(&shared);
        match kind {
            "socket" => tokio::spawn(by_socket(shared, place * 7919)),
            _ => tokio::spawn(by_client(shared, place * 7919)),
        };
    }
    let asked = tokio::task::spawn_blocking(move || {
        for _ in std::io::stdin().lock().lines() {
            println!("{}", shared.pushed.load(Ordering::Relaxed));
        }
    });
    asked.await.unwrap();
}

/// As the sender's client does it.
async fn by_client(shared: Arc<Shared>, first: usize) {
    let url = format!("{}/v2/bot/message/push", shared.url);
    for body in shared.bodies.iter().cycle().skip(first % shared.bodies.len()) {
        let request = shared.http.post(&url).bearer_auth(&shared.token).header("content-type", "application/json");
        let request = request.header("x-line-retry-key", Uuid::new_v4().to_string()).body(body.clone());
        let answer = http::send(request, http::SMALL).await.unwrap();
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        shared.pushed.fetch_add(1, Ordering::Relaxed);
    }
}

/// By hand over one connection, which costs next to nothing here.
async fn by_socket(shared: Arc<Shared>, first: usize) {
    let mut stream = TcpStream::connect(shared.url.strip_prefix("http://").unwrap()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut buffer = vec![0; 8192];
    for body in shared.bodies.iter().cycle().skip(first % shared.bodies.len()) {
        let head = format!(
            "POST /v2/bot/message/push HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\nx-line-retry-key: {}\r\ncontent-length: {}\r\n\r\n",
            shared.token,
            Uuid::new_v4(),
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await.unwrap();
        // An answer is short, and comes in one piece.
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(buffer[..read].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..read]));
        assert!(buffer[..read].ends_with(b"}"), "a whole answer");
        shared.pushed.fetch_add(1, Ordering::Relaxed);
    }
}
