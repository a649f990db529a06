//! Connections: how many, how long each may take over what, and how they end.
//!
//! A connection is watched from outside: what it reads and which requests are open say what it owes next (a head, an
//! answer, nothing), and each of these has its time. Whoever sends a byte now and then gains nothing by it.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Router, extract::ConnectInfo};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::pulse::{Answered, Heard, Pulse, Timed};

/// Most bytes of a request's head. Beyond it the connection itself answers 431; pages ask for less.
const LONGEST_HEAD: usize = 64 * 1024;
const MOST_HEADERS: usize = 100;
/// Requests of one HTTP/2 connection at one time.
const MOST_STREAMS: u32 = 64;
/// How long nothing is accepted after the system refused, as where it has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// What connections may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For a request's head, from its first byte on; for the first one from the connection's beginning on.
    pub head: Duration,
    /// For a request's body.
    pub body: Duration,
    /// For a request in all, until its answer is taken: somebody may read slowly as well as send slowly.
    pub answer: Duration,
    /// Between requests. Longer than a proxy keeps a connection in reserve, so that none is closed under its hands.
    pub idle: Duration,
    /// At the stop, for a request that may be on the way.
    pub settle: Duration,
    /// Connections at one time; further ones wait to be accepted.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(5),
            body: Duration::from_secs(10),
            answer: Duration::from_secs(90),
            idle: Duration::from_secs(75),
            settle: Duration::from_millis(250),
            connections: 1024,
        }
    }
}

/// What all connections share.
struct House {
    router: Router,
    limits: Limits,
    stop: CancellationToken,
    /// Told where no place is free: whoever keeps a connection in reserve gives it up.
    crowded: Notify,
}

/// Serves until `stop`, then until every open request is answered.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let house = Arc::new(House { router, limits, stop: stop.clone(), crowded: Notify::new() });
    let connections = TaskTracker::new();
    let accepting = async {
        loop {
            let place = take_place(&house, &places).await;
            let (stream, peer) = accept(&listener).await;
            connections.spawn(attend(house.clone(), stream, peer, place));
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = accepting => {}
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn take_place(house: &House, places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    loop {
        if let Ok(place) = places.clone().try_acquire_owned() {
            return Some(place);
        }
        house.crowded.notify_waiters();
        // Asked again after a moment: somebody may have fallen idle since.
        if let Ok(place) = time::timeout(ACCEPT_PAUSE, places.clone().acquire_owned()).await {
            return place.ok();
        }
    }
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // The other side was quicker to leave.
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted");
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Serves one connection to its end.
async fn attend(house: Arc<House>, stream: TcpStream, peer: SocketAddr, _place: Option<OwnedSemaphorePermit>) {
    let _ = stream.set_nodelay(true);
    let (limits, pulse) = (house.limits, Arc::new(Pulse::new()));
    let service = service_fn(|request: Request<Incoming>| {
        let (router, open) = (house.router.clone(), pulse.open());
        let mut request = request.map(|body| axum::body::Body::new(Timed::new(body, limits.body)));
        request.extensions_mut().insert(ConnectInfo(peer));
        async move { router.oneshot(request).await.map(|answer| answer.map(|body| Answered::new(body, open))) }
    });
    let io = TokioIo::new(Heard::new(stream, pulse.clone()));
    let builder = protocol();
    let connection = builder.serve_connection(io, service);
    tokio::pin!(connection);
    let mut watch = pin!(time::sleep_until(pulse.next_look(&limits)));
    let mut stopped = pin!(house.stop.cancelled());
    let mut crowded = pin!(house.crowded.notified());
    let mut is_ending = false;
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(error, "a connection broke");
                }
                return;
            }
            () = watch.as_mut() => {
                if pulse.deadline(&limits) <= time::Instant::now() {
                    return;
                }
                watch.as_mut().reset(pulse.next_look(&limits));
            }
            () = stopped.as_mut(), if !is_ending => {
                is_ending = true;
                pulse.end();
                connection.as_mut().graceful_shutdown();
                watch.as_mut().reset(pulse.next_look(&limits));
            }
            () = crowded.as_mut() => {
                crowded.set(house.crowded.notified());
                if pulse.is_idle() {
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

fn protocol() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // The times are ours, see above: the protocol's own begin anew between requests, or not before the first byte.
    builder.http1().header_read_timeout(None).max_headers(MOST_HEADERS).max_buf_size(LONGEST_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(20)))
        .keep_alive_timeout(Duration::from_secs(10))
        .max_concurrent_streams(MOST_STREAMS)
        .max_header_list_size(LONGEST_HEAD as u32);
    builder
}
