//! PostgreSQL databases for tests: each its own, copied from one that was migrated once per process.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up fails, and says why")]

use musubi::db::Db;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::Mutex;
use url::Url;
use uuid::Uuid;

/// The template's name once it is made. Held while a database is made, so that they come one by one.
/// Nothing here outlives the call that opened it: each test has its own runtime.
static TEMPLATE: Mutex<Option<String>> = Mutex::const_new(None);

/// The URL of a new database with the schema up to date and no rows but the migrations' own.
pub async fn fresh_database() -> String {
    let server = server();
    let mut template = TEMPLATE.lock().await;
    if template.is_none() {
        *template = Some(make_template(&server).await);
    }
    let template = template.as_ref().expect("just made");
    let name = format!("t_{}", Uuid::new_v4().simple());
    run(&server, &[format!("CREATE DATABASE {name} TEMPLATE {template}")]).await;
    with_database(&server, &name)
}

/// The URL of a copy of a database of [`fresh_database`] that nobody is connected to.
pub async fn copy_database(url: &str) -> String {
    let server = server();
    let name = format!("t_{}", Uuid::new_v4().simple());
    let from = url.parse::<Url>().expect("a URL of ours").path().trim_start_matches('/').to_owned();
    run(&server, &[format!("CREATE DATABASE {name} TEMPLATE {from}")]).await;
    with_database(&server, &name)
}

/// Removes a database of [`fresh_database`], whoever is still connected. Best effort: the server goes with the run.
pub async fn drop_database(url: &str) {
    let name = url.parse::<Url>().map(|url| url.path().trim_start_matches('/').to_owned()).unwrap_or_default();
    assert!(name.starts_with("t_"), "not a database of fresh_database: {url}");
    let Ok(mut connection) = PgConnection::connect(server().as_str()).await else { return };
    let statement = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
    let _ = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await;
    let _ = connection.close().await;
}

async fn make_template(server: &Url) -> String {
    let name = format!("musubi_template_{}", std::process::id());
    run(server, &[format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"), format!("CREATE DATABASE {name}")]).await;
    let db = Db::connect(&with_database(server, &name)).await.expect("the template database opens");
    db.migrate().await.expect("the template database migrates");
    db.close().await;
    name
}

async fn run(server: &Url, statements: &[String]) {
    let mut connection = PgConnection::connect(server.as_str())
        .await
        .unwrap_or_else(|error| panic!("no PostgreSQL at MUSUBI_TEST_POSTGRES ({server}): {error}"));
    for statement in statements {
        sqlx::raw_sql(AssertSqlSafe(statement.as_str()))
            .execute(&mut connection)
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    connection.close().await.expect("the connection closes");
}

#[expect(clippy::disallowed_methods, reason = "where tests/run put the server; musubi's configuration plays no part")]
fn server() -> Url {
    let url = std::env::var("MUSUBI_TEST_POSTGRES")
        .unwrap_or_else(|_| panic!("no PostgreSQL for tests: run tests/run, or set MUSUBI_TEST_POSTGRES"));
    url.parse().unwrap_or_else(|error| panic!("MUSUBI_TEST_POSTGRES is no URL ({error}): {url}"))
}

fn with_database(server: &Url, name: &str) -> String {
    let mut url = server.clone();
    url.set_path(name);
    url.into()
}
