//! A proxy before PostgreSQL that breaks the wire at a chosen call: before the server has it, or after, so that the
//! answer is lost. A call is a `Query` or a `Sync`: what the server is asked to carry out.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use url::Url;

/// What becomes of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    Pass,
    /// The call of this number does not reach the server.
    CutBefore(u64),
    /// The call of this number is carried out, and its answer is lost.
    CutAfter(u64),
    /// The commit of this number is carried out, and its answer is lost.
    CutAfterCommit(u64),
    /// No connection lives, and none is made.
    Refuse,
    /// Nothing goes through, and nothing is closed.
    Stall,
}

pub struct Proxy {
    state: Arc<State>,
    pub url: String,
}

struct State {
    server: String,
    plan: watch::Sender<Plan>,
    calls: AtomicU64,
    commits: AtomicU64,
    struck: AtomicBool,
}

impl Proxy {
    /// Stands before the server of `database_url`.
    pub async fn start(database_url: &str) -> Self {
        let mut url = Url::parse(database_url).unwrap();
        let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
        let plan = watch::Sender::new(Plan::Pass);
        let state = Arc::new(State {
            server,
            plan,
            calls: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            struck: AtomicBool::new(false),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        let accepting = state.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = accepting.clone();
                tokio::spawn(async move { carry(&state, client).await });
            }
        });
        Self { state, url: url.into() }
    }

    /// From here on; calls are counted from one.
    pub fn plan(&self, plan: Plan) {
        self.state.calls.store(0, Ordering::SeqCst);
        self.state.commits.store(0, Ordering::SeqCst);
        self.state.struck.store(false, Ordering::SeqCst);
        self.state.plan.send_replace(plan);
    }

    /// Whether the cut that was planned took place.
    pub fn has_struck(&self) -> bool {
        self.state.struck.load(Ordering::SeqCst)
    }
}

/// What comes from the client, in whole messages.
#[derive(Default)]
struct Frontend {
    bytes: Vec<u8>,
    has_started: bool,
}

impl Frontend {
    /// The next whole message, and whether it is a call.
    fn next(&mut self) -> Option<(Vec<u8>, bool)> {
        let kind = usize::from(self.has_started);
        let length = self.bytes.get(kind..kind + 4)?;
        let length = kind + u32::from_be_bytes(length.try_into().unwrap()) as usize;
        if self.bytes.len() < length {
            return None;
        }
        let message: Vec<u8> = self.bytes.drain(..length).collect();
        let is_call = self.has_started && matches!(message[0], b'Q' | b'S');
        // What has no kind comes first: perhaps a question for TLS, then the start, whose number is 3.0.
        self.has_started = self.has_started || message[4..8] == [0, 3, 0, 0];
        Some((message, is_call))
    }
}

async fn carry(state: &State, mut client: TcpStream) -> Option<()> {
    let mut plan = state.plan.subscribe();
    if *plan.borrow_and_update() == Plan::Refuse {
        return None;
    }
    let mut server = TcpStream::connect(&state.server).await.ok()?;
    // Messages go on one by one; unset, each would wait for an acknowledgement.
    client.set_nodelay(true).ok()?;
    server.set_nodelay(true).ok()?;
    let (mut frontend, mut is_mute, mut tail) = (Frontend::default(), false, Vec::new());
    let (mut from_client, mut from_server) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        if *plan.borrow_and_update() == Plan::Stall {
            plan.changed().await.ok()?;
            continue;
        }
        tokio::select! {
            _ = plan.changed() => {
                if *plan.borrow() == Plan::Refuse {
                    return None;
                }
            }
            read = client.read(&mut from_client), if !is_mute => {
                frontend.bytes.extend_from_slice(&from_client[..read.ok().filter(|read| *read > 0)?]);
                while let Some((message, is_call)) = frontend.next() {
                    let number = if is_call { state.calls.fetch_add(1, Ordering::SeqCst) + 1 } else { 0 };
                    let commit = if is_call && message[5..].starts_with(b"COMMIT") { state.commits.fetch_add(1, Ordering::SeqCst) + 1 } else { 0 };
                    let planned = *state.plan.borrow();
                    let (before, after) = match planned {
                        Plan::CutBefore(at) => (at == number, false),
                        Plan::CutAfter(at) => (false, at == number),
                        Plan::CutAfterCommit(at) => (false, at == commit),
                        Plan::Pass | Plan::Refuse | Plan::Stall => (false, false),
                    };
                    if before || after {
                        state.struck.store(true, Ordering::SeqCst);
                    }
                    if before {
                        return None;
                    }
                    server.write_all(&message).await.ok()?;
                    if after {
                        is_mute = true;
                        break;
                    }
                }
            }
            read = server.read(&mut from_server) => {
                let bytes = &from_server[..read.ok().filter(|read| *read > 0)?];
                if !is_mute {
                    client.write_all(bytes).await.ok()?;
                    continue;
                }
                tail.extend_from_slice(bytes);
                // `ReadyForQuery`: the call was carried out to its end.
                if tail.len() >= 6 && tail[tail.len() - 6..tail.len() - 1] == *b"Z\0\0\0\x05" {
                    return None;
                }
            }
        }
    }
}
