//! Keys (table `api_keys`): a public id, which is looked up and shown, and a secret, of which a hash is kept.
//!
//! A key is read from the database at every request: what is revoked is refused at once, on all nodes.

use std::{num::NonZeroU32, time::Duration};

use crate::{
    app::App,
    audit,
    db::{Conn, Millis},
    error::Result,
    member::guard::Scope,
    seal,
};

/// What every key begins with, so that scanners for leaked secrets can know it.
const PREFIX: &str = "msb_";
/// Last use is written this seldom.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// A key to be.
#[derive(Debug)]
pub struct New<'a> {
    pub name: &'a str,
    pub scopes: &'a [Scope],
    /// Empty: all.
    pub providers: &'a [String],
    pub expires_at: Option<Millis>,
    pub per_minute: NonZeroU32,
}

/// A key's row.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Key {
    pub id: String,
    secret_hash: String,
    pub name: String,
    scopes: String,
    providers: String,
    per_minute: i64,
    pub created_at: Millis,
    pub expires_at: Option<Millis>,
    pub revoked_at: Option<Millis>,
    pub last_used_at: Option<Millis>,
}

impl Key {
    pub fn scopes(&self) -> Result<Vec<Scope>> {
        Ok(serde_json::from_str(&self.scopes)?)
    }

    pub fn providers(&self) -> Result<Vec<String>> {
        Ok(serde_json::from_str(&self.providers)?)
    }

    pub fn per_minute(&self) -> NonZeroU32 {
        u32::try_from(self.per_minute).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
    }

    /// Why it opens nothing now, if it does not.
    pub fn refusal(&self, now: Millis) -> Option<&'static str> {
        if self.revoked_at.is_some() {
            Some("revoked")
        } else if self.expires_at.is_some_and(|at| at <= now) {
            Some("expired")
        } else {
            None
        }
    }
}

/// The part of a key that may be shown.
pub fn shown(id: &str) -> String {
    format!("{PREFIX}{id}")
}

/// Makes a key; gives it whole, which nobody can do again.
pub async fn create(app: &App, new: &New<'_>) -> Result<String> {
    let (id, secret, now) = (app.random_code()?, app.random_token()?, app.now());
    let mut tx = app.db.begin().await?;
    insert(&mut tx, now, &id, &seal::hash(&secret), new).await?;
    let data = serde_json::json!({
        "name": new.name, "scopes": new.scopes, "providers": new.providers,
        "expires_at": new.expires_at, "per_minute": new.per_minute,
    });
    let entry = audit::Entry { action: "api_key_created", subject: Some(&id), data, ..Default::default() };
    audit::insert(&mut tx, now, entry).await?;
    tx.commit().await?;
    Ok(format!("{}_{secret}", shown(&id)))
}

async fn insert(conn: &mut Conn, now: Millis, id: &str, secret_hash: &str, new: &New<'_>) -> Result<()> {
    sqlx::query(
        "INSERT INTO api_keys (id, secret_hash, name, scopes, providers, per_minute, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(id)
    .bind(secret_hash)
    .bind(new.name)
    .bind(serde_json::to_string(new.scopes)?)
    .bind(serde_json::to_string(new.providers)?)
    .bind(i64::from(new.per_minute.get()))
    .bind(now)
    .bind(new.expires_at)
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends a key; false where there is none, or it was ended before.
pub async fn revoke(app: &App, id: &str) -> Result<bool> {
    let now = app.now();
    let mut tx = app.db.begin().await?;
    let revoked = sqlx::query("UPDATE api_keys SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL")
        .bind(now)
        .bind(id)
        .execute(&mut *tx)
        .await?
        .rows_affected();
    if revoked == 1 {
        let entry = audit::Entry { action: "api_key_revoked", subject: Some(id), ..Default::default() };
        audit::insert(&mut tx, now, entry).await?;
    }
    tx.commit().await?;
    Ok(revoked == 1)
}

/// All keys, the newest first.
pub async fn list(conn: &mut Conn) -> Result<Vec<Key>> {
    let found = sqlx::query_as(
        "SELECT id, secret_hash, name, scopes, providers, per_minute, created_at, expires_at, revoked_at, last_used_at
         FROM api_keys ORDER BY created_at DESC, id",
    )
    .fetch_all(conn)
    .await?;
    Ok(found)
}

pub async fn find(conn: &mut Conn, id: &str) -> Result<Option<Key>> {
    let found = sqlx::query_as(
        "SELECT id, secret_hash, name, scopes, providers, per_minute, created_at, expires_at, revoked_at, last_used_at
         FROM api_keys WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(conn)
    .await?;
    Ok(found)
}

/// The key that a token is, where it opens something now; else why not, a machine word for the log.
pub(super) async fn check(app: &App, conn: &mut Conn, token: &str) -> Result<Result<Key, &'static str>> {
    let Some((id, secret)) = token.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')) else {
        return Ok(Err("malformed"));
    };
    let is_id = id.len() == 8 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !is_id || secret.len() != 43 {
        return Ok(Err("malformed"));
    }
    let Some(key) = find(conn, id).await? else { return Ok(Err("unknown")) };
    if !seal::equal(&seal::hash(secret), &key.secret_hash) {
        return Ok(Err("wrong_secret"));
    }
    Ok(key.refusal(app.now()).map_or(Ok(key), Err))
}

/// Notes that a key was used, once a minute at most.
pub(super) async fn touch(conn: &mut Conn, now: Millis, key: &Key) -> Result<()> {
    let lately = now.minus(TOUCH_EVERY);
    if key.last_used_at.is_some_and(|at| at > lately) {
        return Ok(());
    }
    sqlx::query("UPDATE api_keys SET last_used_at = $1 WHERE id = $2 AND (last_used_at IS NULL OR last_used_at <= $3)")
        .bind(now)
        .bind(&key.id)
        .bind(lately)
        .execute(conn)
        .await?;
    Ok(())
}
