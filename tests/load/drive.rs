//! The load: connections that each send a new signed body as soon as the last was answered, or at a steady rate.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::server::{SECRET, Server};

/// Numbers every event of this process.
static NUMBER: AtomicU64 = AtomicU64::new(0);

#[derive(Clone, Copy)]
pub struct Load {
    pub connections: usize,
    /// Requests a second over all connections; none: as fast as it goes.
    pub rate: Option<u32>,
    /// Whether the bodies bring no events, so that nothing is stored.
    pub is_empty: bool,
}

pub struct Measured {
    pub answered: u64,
    pub failed: u64,
    pub took: Duration,
    times: Vec<Duration>,
}

impl Measured {
    pub fn rate(&self) -> f64 {
        self.answered as f64 / self.took.as_secs_f64()
    }

    pub fn percentile(&self, share: f64) -> Duration {
        let place = ((self.times.len() as f64 * share) as usize).min(self.times.len() - 1);
        self.times[place]
    }
}

/// Drives the server for so long.
pub fn run(server: &Server, load: Load, time: Duration) -> Measured {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run_all(server.address, load, time))
}

async fn run_all(address: SocketAddr, load: Load, time: Duration) -> Measured {
    let start = Instant::now();
    let mut connections = JoinSet::new();
    for place in 0..load.connections {
        connections.spawn(connection(address, load, place, start, time));
    }
    let (mut times, mut failed) = (Vec::new(), 0);
    while let Some(ended) = connections.join_next().await {
        let (own, own_failed) = ended.unwrap();
        times.extend(own);
        failed += own_failed;
    }
    let took = start.elapsed();
    times.sort_unstable();
    Measured { answered: times.len() as u64, failed, took, times }
}

/// One connection; the times of its answers, and how many were not 200.
async fn connection(
    address: SocketAddr,
    load: Load,
    place: usize,
    start: Instant,
    time: Duration,
) -> (Vec<Duration>, u64) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let (mut times, mut failed, mut buffer, mut length) = (Vec::new(), 0, vec![0; 4096], 0);
    let text = "あいうえおかきくけこ".repeat(18);
    for round in 0_u32.. {
        // At a steady rate the time runs from when it should have been sent.
        let due = match load.rate {
            Some(rate) => {
                start
                    + Duration::from_secs_f64((round as f64 * load.connections as f64 + place as f64) / f64::from(rate))
            }
            None => Instant::now(),
        };
        if due >= start + time || Instant::now() >= start + time {
            break;
        }
        wait_until(due).await;
        stream.write_all(&request(&key, &text, load.is_empty)).await.unwrap();
        let ok = answer(&mut stream, &mut buffer, &mut length).await;
        times.push(due.elapsed());
        failed += u64::from(!ok);
    }
    (times, failed)
}

/// The runtime's timer counts whole milliseconds, which is as long as what is measured: the last two are spent turning
/// round, on the load's own core.
async fn wait_until(due: Instant) {
    tokio::time::sleep_until((due - Duration::from_millis(2)).into()).await;
    while Instant::now() < due {
        tokio::task::yield_now().await;
    }
}

fn request(key: &hmac::Key, text: &str, is_empty: bool) -> Vec<u8> {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let name = if is_empty { "unread" } else { "events" };
    let empty = if is_empty { r#""events":[],"# } else { "" };
    let body = format!(
        r#"{{"destination":"U00000000000000000000000000000001",{empty}"{name}":[{{"type":"message","mode":"active","timestamp":{now},"source":{{"type":"user","userId":"U{user:032x}"}},"webhookEventId":"{id}","deliveryContext":{{"isRedelivery":false}},"replyToken":"{number:032x}","message":{{"id":"{number}","type":"text","quoteToken":"q3Plxr4AgKd9pQ","text":"{text}"}}}}]}}"#,
        user = number % 1000,
        id = ulid(now, number),
    );
    let signature = STANDARD.encode(hmac::sign(key, body.as_bytes()));
    let head = format!(
        "POST /webhook/main HTTP/1.1\r\nhost: localhost\r\nuser-agent: LineBotWebhook/2.0\r\ncontent-type: application/json; charset=utf-8\r\nx-line-signature: {signature}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// 26 characters in the order of time, as LINE's are.
fn ulid(now: u128, number: u64) -> String {
    const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let value = (now << 80) | (u128::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15) & ((1 << 80) - 1));
    (0..26).rev().map(|place| char::from(LETTERS[(value >> (place * 5)) as usize & 31])).collect()
}

/// Reads one answer; whether it is 200. Answers of one kind are of one length, which is found once.
async fn answer(stream: &mut TcpStream, buffer: &mut [u8], length: &mut usize) -> bool {
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await.unwrap();
        assert!(read > 0, "the connection stays open");
        filled += read;
        if *length == 0 {
            *length = length_of(&buffer[..filled]).unwrap_or(0);
        }
        let is_ok = buffer.starts_with(b"HTTP/1.1 200");
        if filled == *length || (!is_ok && length_of(&buffer[..filled]) == Some(filled)) {
            return is_ok;
        }
    }
}

/// Bytes of an answer, once its head is there.
fn length_of(text: &[u8]) -> Option<usize> {
    let end = text.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&text[..end]).unwrap().to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
    Some(end + 4 + length.unwrap_or(0))
}
