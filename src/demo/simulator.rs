//! `musubi simulator`: LINE alone, with the channels of a configuration.

use std::{fs, io, net::SocketAddr, path::PathBuf, sync::Arc};

use secrecy::ExposeSecret;
use tokio::{net::TcpListener, task::JoinSet};

use super::{Failure, say};
use crate::{
    app::Clock,
    config::Config,
    serve,
    simulator::{self, Host, Simulator},
};

/// LINE's hosts, by what the configuration calls them.
const HOSTS: [(Host, &str); 4] =
    [(Host::Access, "access"), (Host::Api, "api"), (Host::ApiData, "api_data"), (Host::Liff, "liff")];

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Where it listens; loopback unless told otherwise
    #[arg(long, default_value = "127.0.0.1:8081")]
    pub listen: SocketAddr,
    /// Plays each host of LINE at an address of its own, on the ports that follow --listen; a call to the wrong host
    /// fails then, as it would at LINE
    #[arg(long)]
    pub strict_hosts: bool,
    /// Takes mails here (SMTP) and shows them at /_sim/mailbox; without it there is no mailbox
    #[arg(long)]
    pub mail_listen: Option<SocketAddr>,
    /// Keeps its state in this folder; without it everything is forgotten at the end
    #[arg(long)]
    pub data: Option<PathBuf>,
}

/// Plays until SIGTERM or SIGINT.
pub async fn run(config: &Config, options: Options) -> Result<(), Failure> {
    let Options { listen, strict_hosts, mail_listen, data } = options;
    if let Some(folder) = &data {
        fs::create_dir_all(folder)?;
    }
    let simulator = open(config, data)?;
    use_webhooks(&simulator, config, config.public_url.as_str().trim_end_matches('/'));
    let hosts = if strict_hosts {
        one_each(listen).await?
    } else {
        vec![(Host::All, serve::listen(listen, "--listen").await?)]
    };
    if let Some(address) = mail_listen {
        let mail = serve::listen(address, "--mail-listen").await?;
        say(&format!("mails are taken at smtp://{}", mail.local_addr()?));
        tokio::spawn(simulator.clone().serve_mail(mail));
    }
    if strict_hosts {
        say(&addresses(&hosts)?);
    }
    if let Some((_, first)) = hosts.first() {
        say(&format!("the LINE Platform is played on http://{}/_sim/", first.local_addr()?));
    }
    let stop = serve::stop_on_signal()?;
    let mut serving = JoinSet::new();
    for (host, listener) in hosts {
        let (router, stop) = (simulator.router(host), stop.clone());
        serving
            .spawn(async move { axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await });
    }
    while let Some(ended) = serving.join_next().await {
        ended??;
    }
    Ok(simulator.save()?)
}

/// A listener for each host: on this port and those that follow, or on free ones where it is 0.
async fn one_each(first: SocketAddr) -> Result<Vec<(Host, TcpListener)>, Failure> {
    let mut hosts = Vec::new();
    for (place, (host, _)) in (0..).zip(HOSTS) {
        let port = if first.port() == 0 { Some(0) } else { first.port().checked_add(place) };
        let port = port.ok_or("--listen: three more ports must follow this one")?;
        hosts.push((host, serve::listen(SocketAddr::new(first.ip(), port), "--listen").await?));
    }
    Ok(hosts)
}

/// Where each host is, as the configuration of the application has it.
fn addresses(hosts: &[(Host, TcpListener)]) -> io::Result<String> {
    let mut text = "each host of LINE has its own address; to use them:\n\n[line]\n".to_owned();
    for ((_, listener), (_, name)) in hosts.iter().zip(HOSTS) {
        text.push_str(&format!("{name} = \"http://{}\"\n", listener.local_addr()?));
    }
    Ok(text)
}

pub(super) fn open(config: &Config, data: Option<PathBuf>) -> io::Result<Simulator> {
    let clock = Clock::default();
    let clock: simulator::Clock = Arc::new(move || clock.now().0);
    Simulator::open(simulator::Options { data, clock, world: world(config) })
}

/// Each bot calls the application at `base`.
pub(super) fn use_webhooks(simulator: &Simulator, config: &Config, base: &str) {
    for (name, channel) in &config.channel {
        simulator.use_webhook(&channel.channel_id, &format!("{base}/webhook/{name}"));
    }
}

/// The simulator's channels are those that the configuration names.
pub fn world(config: &Config) -> simulator::World {
    let bots = |provider: &str| {
        let of_provider = config.channel.iter().filter(|(_, channel)| channel.provider == provider);
        of_provider
            .map(|(name, channel)| simulator::Bot {
                channel_id: channel.channel_id.clone(),
                secret: channel.channel_secret.expose_secret().to_owned(),
                user_id: format!("U{:0>32}", channel.channel_id),
                basic_id: channel.basic_id.clone().unwrap_or_else(|| format!("@{name}")),
                name: config.company.clone(),
            })
            .collect()
    };
    let providers = config.provider.iter().map(|(name, provider)| simulator::Provider {
        name: name.clone(),
        login: provider.login.as_ref().map(|login| simulator::LoginChannel {
            channel_id: login.channel_id.clone(),
            secret: login.channel_secret.expose_secret().to_owned(),
            callback_urls: vec![config.callback_url(name)],
            linked_bot: login.channel.as_ref().and_then(|name| config.channel.get(name)).map(|c| c.channel_id.clone()),
            name: config.company.clone(),
            liff: login.liff_id.as_ref().map(|id| simulator::LiffApp {
                id: id.clone(),
                endpoint_url: config.liff_endpoint(name),
                scopes: ["openid", "profile"].map(str::to_owned).to_vec(),
            }),
        }),
        bots: bots(name),
    });
    simulator::World { providers: providers.collect() }
}
