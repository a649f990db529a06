//! What every request and every job is given: configuration, database, LINE, clock, randomness.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use jiff::tz::TimeZone;
use tokio::sync::{Semaphore, watch};

use crate::{
    config::Config,
    db::{Db, Millis},
    egress::Egress,
    error::Result,
    flex::{Catalogue, Mistakes},
    line::{self, Line},
    metrics::Metrics,
    oidc::Oidc,
    seal::{self, Sealer},
    smtp::{Post, PostError},
    web::{
        brand::Brand,
        limit::{Limiter, Rates},
        texts::Texts,
    },
};

/// Shared by all handlers and jobs of a process. A clone is a handle.
#[derive(Clone)]
pub struct App(Arc<Inner>);

/// Reached through [`App`]'s `Deref`.
pub struct Inner {
    pub config: Config,
    pub db: Db,
    pub line: Line,
    /// To addresses that others name.
    pub egress: Egress,
    /// How fast LINE may be called.
    pub pace: line::pace::Pace,
    /// Channel access tokens; reached through `channel`.
    pub tokens: line::token::Cache,
    /// LINE's public keys.
    pub keys: line::jwks::Cache,
    /// The company's own sign-in, where it has one.
    pub oidc: Option<Oidc>,
    pub sealer: Sealer,
    /// The message templates, shipped and the company's.
    pub templates: Catalogue,
    /// How the company's pages look.
    pub brand: Brand,
    /// What the pages and mails say.
    pub texts: Arc<Texts>,
    /// In which people are told times.
    pub zone: TimeZone,
    /// None where nothing is mailed.
    pub post: Option<Post>,
    pub clock: Clock,
    /// Counts the commits that left work to do, so that it starts at once on this node.
    wake: watch::Sender<u64>,
    /// Counts the commits that brought events.
    events: watch::Sender<u64>,
    /// Counted since the start, for whoever watches this process.
    pub metrics: Metrics,
    /// What each address may ask of costly routes, on this node.
    pub limiter: Limiter,
    /// What each API key may ask, on this node.
    pub rates: Rates,
    /// Bounds the memory of password hashing.
    pub hashing: Arc<Semaphore>,
    /// Passwords hashed or compared since the start.
    pub hashed: AtomicU64,
    random: SystemRandom,
}

impl std::ops::Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// Why an App cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("brand.logo: {0}")]
    Brand(String),
    #[error(transparent)]
    Line(#[from] line::Error),
    #[error("hooks: {0}")]
    Egress(#[from] reqwest::Error),
    #[error("mail.url: {0}")]
    Post(#[from] PostError),
    #[error(transparent)]
    Seal(#[from] seal::SealError),
    #[error(transparent)]
    Templates(#[from] Mistakes),
    #[error("{0}")]
    Texts(String),
    #[error("time_zone: {0}")]
    Zone(#[from] jiff::Error),
}

impl App {
    pub fn new(config: Config, db: Db, clock: Clock) -> Result<Self, AppError> {
        let hosts = &config.line;
        let line = Line::new(line::Hosts {
            access: hosts.access.clone(),
            api: hosts.api.clone(),
            api_data: hosts.api_data.clone(),
        })?;
        let callback = config.company_callback_url();
        let oidc = config.member.oidc.as_ref().map(|oidc| Oidc::new(oidc.clone(), callback)).transpose()?;
        let egress = Egress::new(&config.hooks.allow_networks)?;
        let limiter = Limiter::new(config.security.requests_per_minute);
        let sealer = Sealer::new(&config.security)?;
        let post = Post::new(&config)?;
        let templates = Catalogue::load(config.messages.templates.as_deref())?;
        let brand = Brand::new(&config.brand).map_err(AppError::Brand)?;
        let texts = Arc::new(Texts::new(&config.texts).map_err(AppError::Texts)?);
        let zone = TimeZone::get(&config.time_zone)?;
        let hashing = Arc::new(Semaphore::new(config.security.password_hash.at_once));
        Ok(Self(Arc::new(Inner {
            config,
            db,
            line,
            egress,
            pace: line::pace::Pace::default(),
            tokens: line::token::Cache::default(),
            keys: line::jwks::Cache::default(),
            oidc,
            sealer,
            templates,
            brand,
            texts,
            zone,
            post,
            clock,
            wake: watch::Sender::new(0),
            events: watch::Sender::new(0),
            metrics: Metrics::default(),
            limiter,
            rates: Rates::default(),
            hashing,
            hashed: AtomicU64::new(0),
            random: SystemRandom::new(),
        })))
    }

    /// The present time.
    pub fn now(&self) -> Millis {
        self.clock.now()
    }

    /// Says that there is work: called after the commit that left it.
    pub fn wake(&self) {
        self.wake.send_modify(|count| *count += 1);
    }

    /// What a worker waits on.
    pub fn wakes(&self) -> watch::Receiver<u64> {
        self.wake.subscribe()
    }

    /// Says that events came.
    pub fn wake_inbox(&self) {
        self.events.send_modify(|count| *count += 1);
    }

    /// What the inbox waits on.
    pub fn inbox_wakes(&self) -> watch::Receiver<u64> {
        self.events.subscribe()
    }

    pub fn new_id(&self) -> String {
        crate::db::new_id(self.now())
    }

    /// 256 random bits as 43 characters.
    pub fn random_token(&self) -> Result<String> {
        Ok(seal::random_token(&self.random)?)
    }

    /// Forty random bits as eight letters and digits that are not mistaken for each other: a code to be typed.
    pub fn random_code(&self) -> Result<String> {
        const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
        let mut bytes = [0_u8; 8];
        self.random.fill(&mut bytes).map_err(|_| seal::SealError::Damaged)?;
        Ok(bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect())
    }

    /// A number in 0..1 that spreads retries; 1 where randomness fails, the longest wait.
    pub fn jitter(&self) -> f64 {
        let mut bytes = [0_u8; 4];
        match self.random.fill(&mut bytes) {
            Ok(()) => f64::from(u32::from_ne_bytes(bytes)) / (f64::from(u32::MAX) + 1.0),
            Err(_) => 1.0,
        }
    }
}

/// The system's clock, moved by an offset that only tests set.
#[derive(Debug, Clone, Default)]
pub struct Clock(Arc<AtomicI64>);

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn now(&self) -> Millis {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Millis(0).plus(since).plus_signed(self.0.load(Ordering::Relaxed))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).unwrap_or(0), Ordering::Relaxed);
    }

    /// Moves the clock back.
    pub fn turn_back(&self, by: Duration) {
        self.0.fetch_sub(i64::try_from(by.as_millis()).unwrap_or(0), Ordering::Relaxed);
    }
}
