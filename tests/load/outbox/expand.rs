//! A message to all linked members: its deliveries queued as the worker queues them.

use std::time::{Duration, Instant};

use musubi::{
    app::{App, Clock},
    db::Db,
    message,
};

use crate::sender::config;

const MESSAGE: &str = "00000009-0000-7000-8000-000000000000";

/// The other process: queues the message, and tells how many recipients it has, in how many milliseconds, and those of
/// the longest transaction.
#[tokio::main]
pub async fn expand(database: &str) {
    let db = Db::connect(database).await.unwrap();
    let app = App::new(config(database, "http://127.0.0.1:1"), db, Clock::default()).unwrap();
    let message = "INSERT INTO messages (id, channel, lane, cause, template, locale, audience, accepted, created_at)
         VALUES ($1, 'main', 'bulk', 'load', 'welcome', 'ja', '\"all\"', 0, $2)";
    sqlx::query(message).bind(MESSAGE).bind(app.now()).execute(&mut *app.db.conn().await.unwrap()).await.unwrap();
    let (mut longest, start, mut found) = (Duration::ZERO, Instant::now(), 1);
    while found > 0 {
        let begun = Instant::now();
        found = message::expand(&app, "main").await.unwrap();
        longest = longest.max(begun.elapsed());
    }
    let took = start.elapsed();
    let queued: i64 = sqlx::query_scalar("SELECT accepted FROM messages WHERE id = $1")
        .bind(MESSAGE)
        .fetch_one(&mut *app.db.conn().await.unwrap())
        .await
        .unwrap();
    println!("{queued} {} {}", ms(took), ms(longest));
    std::future::pending::<()>().await;
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
