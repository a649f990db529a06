//! What a connection is at: told by what it reads ([`Heard`]), by the requests it hands on ([`Timed`]) and by the
//! answers it sends ([`Answered`]).

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes};
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

use super::listener::Limits;
use crate::web::body::TooSlow;

/// How HTTP/2 begins. Between its requests there is traffic of the protocol, which is no beginning of a head.
const HTTP2: &[u8] = b"PRI";

pub struct Pulse(Mutex<State>);

struct State {
    phase: Phase,
    since: Instant,
    /// Requests whose answer is not sent yet.
    open: usize,
    is_http2: bool,
    is_ending: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing was heard yet.
    New,
    /// Some of a head was.
    Head,
    Busy,
    Idle,
}

impl Pulse {
    pub fn new() -> Self {
        let state = State { phase: Phase::New, since: Instant::now(), open: 0, is_http2: false, is_ending: false };
        Self(Mutex::new(state))
    }

    /// Until when something else must have happened.
    pub fn deadline(&self, limits: &Limits) -> Instant {
        let state = self.state();
        let life = match state.phase {
            Phase::Busy => limits.answer,
            Phase::New | Phase::Head | Phase::Idle if state.is_ending => limits.settle,
            Phase::New | Phase::Head => limits.head,
            Phase::Idle => limits.idle,
        };
        state.since + life
    }

    /// When to look at the deadline again: at it, or before any phase that begins later could be over. So a request
    /// need not wake whoever watches.
    pub fn next_look(&self, limits: &Limits) -> Instant {
        let shortest = limits.head.min(limits.idle).min(limits.answer);
        let shortest = if self.state().is_ending { shortest.min(limits.settle) } else { shortest };
        self.deadline(limits).min(Instant::now() + shortest)
    }

    /// A request is open until what is given here is dropped.
    pub fn open(self: &Arc<Self>) -> Open {
        let mut state = self.state();
        state.open += 1;
        state.turn(Phase::Busy);
        Open(self.clone())
    }

    /// From now on there is no next request.
    pub fn end(&self) {
        let mut state = self.state();
        state.is_ending = true;
        let phase = state.phase;
        state.turn(phase);
    }

    pub fn is_idle(&self) -> bool {
        self.state().phase == Phase::Idle
    }

    fn hear(&self, bytes: &[u8]) {
        let mut state = self.state();
        match state.phase {
            Phase::New => {
                state.is_http2 = bytes.starts_with(HTTP2);
                // Still within the time that began with the connection.
                state.phase = Phase::Head;
            }
            Phase::Idle if !state.is_http2 => state.turn(Phase::Head),
            Phase::Idle | Phase::Head | Phase::Busy => {}
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is left half done under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn turn(&mut self, phase: Phase) {
        self.phase = phase;
        self.since = Instant::now();
    }
}

/// An open request.
pub struct Open(Arc<Pulse>);

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.open -= 1;
        if state.open == 0 {
            state.turn(Phase::Idle);
        }
    }
}

/// A connection's stream, which tells what is read.
pub struct Heard {
    stream: TcpStream,
    pulse: Arc<Pulse>,
}

impl Heard {
    pub fn new(stream: TcpStream, pulse: Arc<Pulse>) -> Self {
        Self { stream, pulse }
    }
}

impl AsyncRead for Heard {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let bytes = buffer.filled().get(before..).unwrap_or_default();
        if !bytes.is_empty() {
            self.pulse.hear(bytes);
        }
        read
    }
}

impl AsyncWrite for Heard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A request's body, which must be there in time: as a whole, not byte by byte.
pub struct Timed {
    body: Incoming,
    ends: Instant,
    /// Made when the body is first waited for; nearly all are there at once.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Timed {
    pub fn new(body: Incoming, life: Duration) -> Self {
        Self { body, ends: Instant::now() + life, alarm: None }
    }
}

impl hyper::body::Body for Timed {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let ends = self.ends;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(ends)));
        alarm.as_mut().poll(cx).map(|()| Some(Err(TooSlow.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body; its request is open until it is sent.
pub struct Answered {
    body: Body,
    _open: Open,
}

impl Answered {
    pub fn new(body: Body, open: Open) -> Self {
        Self { body, _open: open }
    }
}

impl hyper::body::Body for Answered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
