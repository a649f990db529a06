//! The sender, as it works in production: the loops of the worker on one core, with its database, its log included.

use musubi::{
    app::{App, Clock},
    config::Config,
    db::Db,
    log, worker,
};
use tokio_util::sync::CancellationToken;

use crate::line::{CHANNEL_ID, SECRET};

/// The other process: sends until it is killed.
#[tokio::main]
pub async fn work(database: &str, line: &str) {
    log::start(log::Format::Json);
    let db = Db::connect(database).await.unwrap();
    let app = App::new(config(database, line), db, Clock::default()).unwrap();
    println!("working");
    worker::run(app, CancellationToken::new()).await;
}

pub fn config(database: &str, line: &str) -> Config {
    let text = format!(
        r#"
        public_url = "https://members.example.jp"
        database_url = "{database}"
        company = "Load"

        [security]
        sealing_key = "load"
        sealing_keys = {{ load = "yVqOczA5k8UOOBIL+mBfzBQ3UWTa8xu8jd/Cjvkp60g=" }}

        [line]
        access = "{line}"
        api = "{line}"
        api_data = "{line}"

        [provider.main]

        [channel.main]
        provider = "main"
        channel_id = "{CHANNEL_ID}"
        channel_secret = "{SECRET}"
        "#
    );
    let mut config = Config::parse("load", &text, Vec::new()).unwrap();
    // Faster than LINE allows: what is measured is the outbox.
    let channel = config.channel.get_mut("main").unwrap();
    (channel.pushes_per_second, channel.multicasts_per_second) = (1_000_000, 1_000_000);
    config
}
