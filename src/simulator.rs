//! The LINE Platform, played on this machine for development, the demo and the tests.
//!
//! It is written from LINE's own documents and from nothing of this crate (but for drawing Flex), so that a field
//! misread by our client shows as a failing test and not as two matching mistakes. It answers as LINE does: same paths, statuses, headers, bodies
//! and limits, and where LINE is harsh, it is harsh. Where LINE's behaviour is undocumented, the harder case for the
//! caller is played and a comment says so.
//!
//! - `world`: the channels that exist; `state`: what LINE remembers; `answer`: the shapes of errors
//! - `call`: what surrounds every call: request id, `limit`, `fault`, `ledger`
//! - `login`: LINE Login, from the authorize page to deauthorize; `channel_token`: channel access tokens
//! - `liff`: LIFF URLs, and a small SDK with LIFF's functions
//! - `bot`, `message`, `chat`, `content`, `rich_menu`: the Messaging API; `account_link`: its link tokens and dialog
//! - `webhook`: what the bots are told; `deed`, `group`: what people do, of which they are told
//! - `control`: the JSON API under `/_sim`; `phone`: the pages under `/_sim` for people
//!
//! The simulator guards nothing but what LINE guards: whoever reaches `/_sim` may do everything. Bind it to loopback.

mod account_link;
mod answer;
mod bot;
mod call;
mod channel_token;
mod chat;
mod content;
mod control;
mod deed;
mod fault;
mod group;
mod ledger;
mod liff;
mod limit;
mod login;
mod mailbox;
mod message;
mod phone;
mod rich_menu;
mod snapshot;
mod state;
mod webhook;
mod world;

use std::{
    fmt, io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, middleware};

pub use self::world::{Bot, LiffApp, LoginChannel, Provider, World};
use self::{login::SigningKey, state::State};

/// Tells the time in epoch milliseconds.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// How long changes gather before they are written, at least.
const WRITE_DELAY: Duration = Duration::from_millis(200);
/// All calls wait while the state becomes text: a large one is written less often, so that they wait little of the time.
const REST_PER_WRITE: u32 = 30;

/// What a simulator is opened with.
pub struct Options {
    /// The folder of the snapshot; without one everything lives in memory.
    pub data: Option<PathBuf>,
    pub clock: Clock,
    pub world: World,
}

/// Which of LINE's hosts a router plays. A call to the wrong host is answered 404, as at LINE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// Every host on one origin, and `/_sim`.
    All,
    /// `access.line.me`, and `/_sim`.
    Access,
    /// `api.line.me`
    Api,
    /// `api-data.line.me`
    ApiData,
    /// `liff.line.me`, with the SDK of `static.line-scdn.net`
    Liff,
}

/// One LINE Platform; clones share it.
#[derive(Clone)]
pub struct Simulator {
    inner: Arc<Inner>,
}

/// A simulator that is not kept alive by this.
struct Faint(Weak<Inner>);

impl Faint {
    fn upgrade(&self) -> Option<Simulator> {
        self.0.upgrade().map(|inner| Simulator { inner })
    }
}

struct Inner {
    data: Option<PathBuf>,
    clock: Clock,
    world: World,
    /// What webhooks are sent with.
    client: reqwest::Client,
    state: Mutex<State>,
    /// A write is due and will come.
    write_due: AtomicBool,
    /// How many milliseconds all calls waited for the last write.
    write_took: AtomicU64,
    /// One writer at a time, so that an older snapshot never replaces a newer one.
    writer: Mutex<()>,
}

impl Simulator {
    /// Opens the snapshot of the data folder, or starts empty. The world is always the given one.
    pub fn open(options: Options) -> io::Result<Self> {
        let Options { data, clock, world } = options;
        let mut state = match &data {
            Some(folder) => snapshot::read(folder)?,
            None => State::default(),
        };
        SigningKey::ensure(&mut state.signing_key)?;
        state.reindex(&world);
        let simulator = Self {
            inner: Arc::new(Inner {
                data,
                clock,
                world,
                client: webhook::client()?,
                state: Mutex::new(state),
                write_due: AtomicBool::new(false),
                write_took: AtomicU64::new(0),
                writer: Mutex::new(()),
            }),
        };
        simulator.save()?;
        webhook::resume(&simulator);
        Ok(simulator)
    }

    /// Sets a bot's webhook URL and "Use webhook", as a company does in LINE's console.
    pub fn use_webhook(&self, channel_id: &str, endpoint: &str) {
        let mut state = self.state();
        let webhook = &mut state.account(channel_id).webhook;
        webhook.endpoint = Some(endpoint.to_owned());
        webhook.active = true;
        drop(state);
        self.changed();
    }

    /// Writes the snapshot now, if there is a data folder.
    pub fn save(&self) -> io::Result<()> {
        self.inner.save()
    }

    /// The paths of one host, or of all.
    pub fn router(&self, host: Host) -> Router {
        let mut faces = Router::new();
        if matches!(host, Host::All | Host::Access) {
            faces =
                faces.merge(login::access_routes()).merge(liff::access_routes()).merge(account_link::access_routes());
        }
        if matches!(host, Host::All | Host::Api) {
            faces = faces
                .merge(login::api_routes())
                .merge(liff::api_routes())
                .merge(channel_token::routes())
                .merge(bot::routes())
                .merge(message::routes())
                .merge(chat::routes())
                .merge(account_link::api_routes())
                .merge(webhook::api_routes())
                .merge(rich_menu::api_routes());
        }
        if matches!(host, Host::All | Host::ApiData) {
            faces = faces.merge(rich_menu::data_routes()).merge(content::routes());
        }
        if matches!(host, Host::All | Host::Liff) {
            faces = faces.merge(liff::routes());
        }
        let faces = faces
            .fallback(async || answer::not_found())
            .method_not_allowed_fallback(async || {
                answer::message(axum::http::StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
            })
            .layer(middleware::from_fn(answer::shared))
            .layer(middleware::from_fn_with_state(self.clone(), call::play));
        let own = if matches!(host, Host::All | Host::Access) {
            Router::new()
                .merge(login::page_routes())
                .merge(liff::control_routes())
                .merge(account_link::page_routes())
                .merge(control::routes())
                .merge(rich_menu::control_routes())
                .merge(channel_token::control_routes())
                .merge(webhook::control_routes())
                .merge(deed::routes())
                .merge(group::routes())
                .merge(phone::routes())
                .merge(mailbox::routes())
                .layer(middleware::map_response(call::name))
        } else {
            Router::new()
        };
        own.merge(faces).with_state(self.clone())
    }

    fn now(&self) -> i64 {
        (self.inner.clock)()
    }

    fn world(&self) -> &World {
        &self.inner.world
    }

    fn downgrade(&self) -> Faint {
        Faint(Arc::downgrade(&self.inner))
    }

    fn client(&self) -> &reqwest::Client {
        &self.inner.client
    }

    /// The state as it is by now, locked. Never held across an await.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.inner.lock();
        state.settle(self.now());
        state
    }

    /// Sees to it that the state is written soon.
    fn changed(&self) {
        if self.inner.data.is_none() || self.inner.write_due.swap(true, Ordering::AcqRel) {
            return;
        }
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            let last = Duration::from_millis(inner.write_took.load(Ordering::Relaxed));
            tokio::time::sleep(WRITE_DELAY.max(last * REST_PER_WRITE)).await;
            let written = tokio::task::spawn_blocking(move || inner.save()).await;
            if let Ok(Err(error)) = written {
                tracing::error!(%error, "the simulator's snapshot could not be written");
            }
        });
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No handler leaves the state half changed when it panics: changes are made last.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn save(&self) -> io::Result<()> {
        let Some(folder) = &self.data else {
            return Ok(());
        };
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.write_due.store(false, Ordering::Release);
        let started = Instant::now();
        let text = serde_json::to_vec(&*self.lock())?;
        self.write_took.store(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        snapshot::write(folder, &text)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.write_due.load(Ordering::Acquire)
            && let Err(error) = self.save()
        {
            tracing::error!(%error, "the simulator's snapshot could not be written");
        }
    }
}

impl fmt::Debug for Simulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulator").field("data", &self.inner.data).finish_non_exhaustive()
    }
}
