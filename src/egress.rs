//! The way out to addresses that others name, such as a hook's: never into our own network by it.
//!
//! - An address is judged where it is connected to, after DNS: a name may say one thing now and another one later. An
//!   address that stands in the URL itself is asked of no resolver, and judged before.
//! - Public addresses by https at its usual ports; whatever else only where `hooks.allow_networks` says so.
//! - No redirect is followed, no proxy of the environment is used, and an answer is read to its first bytes only.

mod address;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use reqwest::{
    Client,
    dns::{Addrs, Name, Resolve, Resolving},
    header::HeaderMap,
    redirect, tls,
};
use url::{Host, Url};

/// How long a call may take, with its answer.
const WHOLE: Duration = Duration::from_secs(15);
const CONNECT: Duration = Duration::from_secs(5);
/// Of an answer so much is read, so that a connection can be used again, and so many characters are kept.
const READ: usize = 16 * 1024;
const KEPT: usize = 200;
/// Ports of public addresses.
const PORTS: [u16; 2] = [443, 8443];

/// The addresses of a name; in life the system's resolver.
pub type Lookup = Arc<dyn Fn(String) -> Found + Send + Sync>;
pub type Found = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// The guarded clients.
#[derive(Clone)]
pub struct Egress {
    /// By https at its usual ports: public addresses too.
    public: Client,
    /// Anything else: allowed networks only.
    inside: Client,
    allowed: Arc<[IpNet]>,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// How long to be left alone.
    pub retry_after: Option<Duration>,
    /// Its first characters.
    pub text: String,
}

/// Why nothing came back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Forbidden(Forbidden),
    #[error("{0}")]
    Broken(String),
}

/// What is never called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    #[error("only https is called")]
    Scheme,
    #[error("a user name or a password in the URL is not sent")]
    UserInfo,
    #[error("the URL names no host")]
    Host,
    #[error("the part after # is not sent")]
    Fragment,
    #[error("only the ports 443 and 8443 are called")]
    Port,
    #[error("the address is not a public one")]
    Address,
}

/// Which of the clients may carry a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Public,
    Inside,
}

impl Egress {
    pub fn new(allowed: &[IpNet]) -> Result<Self, reqwest::Error> {
        let lookup: Lookup = Arc::new(|name| Box::pin(look_up(name)));
        Self::with_lookup(allowed, &lookup)
    }

    /// With another resolver than the system's.
    pub fn with_lookup(allowed: &[IpNet], lookup: &Lookup) -> Result<Self, reqwest::Error> {
        let allowed: Arc<[IpNet]> = allowed.into();
        let guard = |way| Guard { way, allowed: allowed.clone(), lookup: lookup.clone() };
        let (public, inside) = (client(guard(Way::Public))?, client(guard(Way::Inside))?);
        Ok(Self { public, inside, allowed })
    }

    /// What can be said of a URL without asking for its addresses.
    pub fn check(&self, url: &Url) -> Result<(), Forbidden> {
        self.way(url).map(|_| ())
    }

    /// Posts, and reads the beginning of the answer.
    pub async fn post(&self, url: &Url, headers: HeaderMap, body: Vec<u8>) -> Result<Answer, Failure> {
        let client = match self.way(url).map_err(Failure::Forbidden)? {
            Way::Public => &self.public,
            Way::Inside => &self.inside,
        };
        let sent = client.post(url.clone()).headers(headers).body(body).send().await;
        let mut response = sent.map_err(|error| Failure::Broken(describe(error)))?;
        let (status, retry_after) = (response.status().as_u16(), retry_after(response.headers()));
        let mut bytes = Vec::new();
        // The status is the answer; what comes after it may break.
        while bytes.len() < READ
            && let Ok(Some(chunk)) = response.chunk().await
        {
            bytes.extend_from_slice(&chunk);
        }
        let text = String::from_utf8_lossy(&bytes);
        let text = text.chars().filter(|c| !c.is_control()).take(KEPT).collect();
        Ok(Answer { status, retry_after, text })
    }

    fn way(&self, url: &Url) -> Result<Way, Forbidden> {
        if !["http", "https"].contains(&url.scheme()) {
            return Err(Forbidden::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Forbidden::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(Forbidden::Fragment);
        }
        let is_https = url.scheme() == "https";
        let is_usual = url.port_or_known_default().is_some_and(|port| PORTS.contains(&port));
        let way = if is_https && is_usual { Way::Public } else { Way::Inside };
        let address = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => None,
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) | None => return Err(Forbidden::Host),
        };
        let may_be = address.map_or(way == Way::Public || !self.allowed.is_empty(), |it| may(way, &self.allowed, it));
        match (may_be, way) {
            (true, _) => Ok(way),
            (false, Way::Public) => Err(Forbidden::Address),
            (false, Way::Inside) if !is_https => Err(Forbidden::Scheme),
            (false, Way::Inside) => Err(Forbidden::Port),
        }
    }
}

fn client(guard: Guard) -> Result<Client, reqwest::Error> {
    #[expect(clippy::disallowed_methods, reason = "the bounded client for addresses that others name")]
    let builder = Client::builder();
    builder
        .dns_resolver(Arc::new(guard))
        .no_proxy()
        .redirect(redirect::Policy::none())
        .min_tls_version(tls::Version::TLS_1_2)
        .timeout(WHOLE)
        .connect_timeout(CONNECT)
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(8)
        .user_agent(concat!("musubi/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// The resolver of a client: gives only addresses that may be connected to.
struct Guard {
    way: Way,
    allowed: Arc<[IpNet]>,
    lookup: Lookup,
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let (way, allowed) = (self.way, self.allowed.clone());
        let found = (self.lookup)(name.as_str().to_owned());
        Box::pin(async move {
            let mut found = found.await?;
            found.retain(|address| may(way, &allowed, *address));
            if found.is_empty() {
                return Err(Forbidden::Address.into());
            }
            // The port is the URL's.
            let addresses: Addrs = Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}

async fn look_up(name: String) -> io::Result<Vec<IpAddr>> {
    Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
}

fn may(way: Way, allowed: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    allowed.iter().any(|network| network.contains(&address)) || (way == Way::Public && address::is_public(address))
}

/// In seconds, or until a date, counted from the answer's own.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().trim();
    if let Ok(seconds) = text("retry-after").parse() {
        return Some(Duration::from_secs(seconds));
    }
    let seconds = |name| jiff::fmt::rfc2822::parse(text(name)).ok().map(|at| at.timestamp().as_second());
    let wait = seconds("retry-after")? - seconds("date")?;
    Some(Duration::from_secs(u64::try_from(wait).unwrap_or(0)))
}

/// The chain of causes without the URL, which may hold a token.
fn describe(error: reqwest::Error) -> String {
    let mut text = match (error.is_timeout(), error.is_connect()) {
        (true, _) => "time limit".to_owned(),
        (_, true) => "no connection".to_owned(),
        _ => "broken connection".to_owned(),
    };
    let error = error.without_url();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text.chars().filter(|c| !c.is_control()).take(KEPT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j08_which_urls_are_called() {
        use Forbidden::{Address, Fragment, Port, Scheme, UserInfo};
        let (nothing, loopback) = (Egress::new(&[]).unwrap(), Egress::new(&["127.0.0.0/8".parse().unwrap()]).unwrap());
        for (text, without, with) in [
            ("https://hooks.example.jp/musubi?token=1", Ok(()), Ok(())),
            ("https://hooks.example.jp:8443/", Ok(()), Ok(())),
            ("https://8.8.8.8/", Ok(()), Ok(())),
            ("https://hooks.example.jp:6379/", Err(Port), Ok(())),
            ("http://hooks.example.jp/", Err(Scheme), Ok(())),
            ("http://8.8.8.8/", Err(Scheme), Err(Scheme)),
            ("https://8.8.8.8:6379/", Err(Port), Err(Port)),
            ("http://127.0.0.1:6379/", Err(Scheme), Ok(())),
            ("https://127.0.0.1/", Err(Address), Ok(())),
            ("https://127.1/", Err(Address), Ok(())),
            ("https://0x7f.1/", Err(Address), Ok(())),
            ("https://0177.0.0.1/", Err(Address), Ok(())),
            ("https://2130706433/", Err(Address), Ok(())),
            ("https://[::ffff:127.0.0.1]/", Err(Address), Ok(())),
            ("https://[::1]/", Err(Address), Err(Address)),
            ("https://[::ffff:7f00:1]/", Err(Address), Ok(())),
            ("https://[64:ff9b::7f00:1]/", Err(Address), Err(Address)),
            ("https://169.254.169.254/latest/meta-data", Err(Address), Err(Address)),
            ("https://１２７.0.0.1/", Err(Address), Ok(())),
            ("https://good.example@127.0.0.1/", Err(UserInfo), Err(UserInfo)),
            ("https://user:password@hooks.example.jp/", Err(UserInfo), Err(UserInfo)),
            ("https://hooks.example.jp/#part", Err(Fragment), Err(Fragment)),
            ("ftp://hooks.example.jp/", Err(Scheme), Err(Scheme)),
            ("file:///etc/passwd", Err(Scheme), Err(Scheme)),
            ("gopher://127.0.0.1:6379/_FLUSHALL", Err(Scheme), Err(Scheme)),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!(nothing.check(&url), without, "{text}");
            assert_eq!(loopback.check(&url), with, "{text}, loopback allowed");
        }
    }
}
