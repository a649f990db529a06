//! `musubi key`: makes sealing keys, and seals anew what older keys sealed (`grants.sealed`,
//! `attempts.sealed_verifier`, `oidc_attempts.sealed_verifier`, `channel_tokens.sealed`, `api_requests.sealed`, `hook_endpoints.sealed_secret` and
//! `.sealed_former_secret`).
//!
//! Safe beside a running `serve`, and resumable: a value is replaced only where it is still the one that was opened,
//! so that tokens refreshed meanwhile are never overwritten, and what is done already is passed over.

use std::collections::BTreeMap;

use indicatif::{ProgressBar, ProgressStyle};
use secrecy::SecretString;

use crate::{
    api::idempotency,
    app::App,
    channel,
    db::Millis,
    error::Result,
    hook, line,
    link::{attempt, grant},
    member,
    seal::{SealError, Sealer},
};

/// Rows read, and sealed anew in one transaction.
const BATCH: i64 = 200;
/// Rows may be written by the former key as long as a process runs with it: they are looked through again.
const PASSES: usize = 5;

/// What to do with a key that was just made; it is named after its day.
pub fn instructions(now: Millis) -> String {
    let day = jiff::Timestamp::from_millisecond(now.0).unwrap_or_default().strftime("%Y%m%d").to_string();
    let id = format!("k{day}");
    format!(
        "The line above is a new sealing key. It is nowhere else: keep it as you keep passwords.\n\n\
         1. Write it into the configuration of every process, beside the keys that are there, and restart them:\n\n\
         \x20      [security.sealing_keys]\n\
         \x20      {id} = \"<the key>\"               # or {id}_file = \"/path/to/a/file/with/the/key\"\n\n\
         2. Then let it seal, and restart them again (with one process, do both at once):\n\n\
         \x20      [security]\n\
         \x20      sealing_key = \"{id}\"\n\n\
         3. Run `musubi key rotate`. It says when the former key may be removed."
    )
}

/// What a rotation found and did.
#[derive(Debug, Default)]
pub struct Report {
    pub resealed: u64,
    /// What to tell the person who runs it, one thing a line.
    pub lines: Vec<String>,
    /// False where a person must look.
    pub is_fine: bool,
}

/// Seals everything with the active key, and says what may go.
pub async fn rotate(app: &App) -> Result<Report> {
    let mut found = Found::default();
    let mut resealed = 0;
    for _ in 0..PASSES {
        found = Found::default();
        for table in [&GRANTS, &ATTEMPTS, &OIDC_ATTEMPTS, &CHANNEL_TOKENS, &API_REQUESTS, &HOOKS, &FORMER_HOOKS] {
            table.pass(app, &mut found).await?;
        }
        resealed += found.resealed;
        if found.tried == 0 {
            break;
        }
    }
    let active = &app.config.security.sealing_key;
    let mut report = Report { resealed, lines: found.damaged.clone(), is_fine: found.damaged.is_empty() };
    report.lines.push(format!("{resealed} values were sealed anew; {active:?} seals {}", found.count(active)));
    for id in app.config.security.sealing_keys.keys().filter(|id| *id != active) {
        report.tell_of_key(id, found.count(id));
    }
    for secret in FormerSecret::all(app) {
        report.tell_of_secret(app, &secret).await;
    }
    Ok(report)
}

impl Report {
    fn tell_of_key(&mut self, id: &str, count: u64) {
        self.lines.push(match count {
            0 => format!(
                "key {id:?} seals nothing: it may be removed from security.sealing_keys, once no process seals with \
                 it. Forms that were open before, and codes by mail, are signed by it: leave it for an hour"
            ),
            _ => format!("key {id:?} seals {count} values still: leave it, and run `musubi key rotate` again"),
        });
    }

    /// LINE makes a new secret valid, and the former one invalid, at once: calls need the new one.
    async fn tell_of_secret(&mut self, app: &App, former: &FormerSecret<'_>) {
        let path = &former.path;
        let line = match app.line.stateless_token(former.channel_id, former.present).await {
            Ok(_) => format!(
                "LINE takes {path}.channel_secret: {path}.former_channel_secret may be removed, ten minutes after the \
                 secret was re-issued in LINE's console"
            ),
            Err(error) => {
                self.is_fine = false;
                let next = match error {
                    line::Error::Refused { status: 400..=403, .. } => {
                        format!("compare {path}.channel_id and channel_secret with LINE's console")
                    }
                    _ => "run `musubi key rotate` again when LINE answers".to_owned(),
                };
                format!("{path}.former_channel_secret must stay, for the new one is not proven: {error}; {next}")
            }
        };
        self.lines.push(line);
    }
}

/// A channel whose secret was re-issued.
struct FormerSecret<'a> {
    path: String,
    channel_id: &'a str,
    present: &'a SecretString,
}

impl<'a> FormerSecret<'a> {
    fn all(app: &'a App) -> Vec<Self> {
        let logins = app.config.provider.iter().filter_map(|(name, provider)| {
            let login = provider.login.as_ref().filter(|login| login.former_channel_secret.is_some())?;
            let path = format!("provider.{name}.login");
            Some(Self { path, channel_id: &login.channel_id, present: &login.channel_secret })
        });
        let channels = app.config.channel.iter().filter(|(_, channel)| channel.former_channel_secret.is_some());
        let channels = channels.map(|(name, channel)| Self {
            path: format!("channel.{name}"),
            channel_id: &channel.channel_id,
            present: &channel.channel_secret,
        });
        logins.chain(channels).collect()
    }
}

/// What a pass over all sealed values saw.
#[derive(Debug, Default)]
struct Found {
    by_key: BTreeMap<String, u64>,
    damaged: Vec<String>,
    tried: usize,
    resealed: u64,
}

impl Found {
    fn count(&self, id: &str) -> u64 {
        self.by_key.get(id).copied().unwrap_or(0)
    }

    fn add(&mut self, sealed: &str) {
        *self.by_key.entry(Sealer::key_of(sealed).unwrap_or_default().to_owned()).or_default() += 1;
    }
}

/// A column of sealed values. Each statement takes what its name says, in this order.
struct Sealed {
    table: &'static str,
    /// The row's context, which the value is bound to.
    context: fn(&str) -> String,
    count: &'static str,
    /// Id after which to go on, number of rows.
    list: &'static str,
    /// New value, id, former value.
    replace: &'static str,
}

const GRANTS: Sealed = Sealed {
    table: "grants",
    context: grant::context,
    count: "SELECT CAST(COUNT(*) AS BIGINT) FROM grants WHERE sealed IS NOT NULL",
    list: "SELECT id, sealed FROM grants WHERE id > $1 AND sealed IS NOT NULL ORDER BY id LIMIT $2",
    replace: "UPDATE grants SET sealed = $1 WHERE id = $2 AND sealed = $3",
};

const ATTEMPTS: Sealed = Sealed {
    table: "attempts",
    context: attempt::context,
    count: "SELECT CAST(COUNT(*) AS BIGINT) FROM attempts WHERE sealed_verifier <> ''",
    list: "SELECT id, sealed_verifier FROM attempts WHERE id > $1 AND sealed_verifier <> '' ORDER BY id LIMIT $2",
    replace: "UPDATE attempts SET sealed_verifier = $1 WHERE id = $2 AND sealed_verifier = $3",
};

const OIDC_ATTEMPTS: Sealed = Sealed {
    table: "oidc_attempts",
    context: member::oidc::context,
    count: "SELECT CAST(COUNT(*) AS BIGINT) FROM oidc_attempts",
    list: "SELECT id, sealed_verifier FROM oidc_attempts WHERE id > $1 ORDER BY id LIMIT $2",
    replace: "UPDATE oidc_attempts SET sealed_verifier = $1 WHERE id = $2 AND sealed_verifier = $3",
};

const CHANNEL_TOKENS: Sealed = Sealed {
    table: "channel_tokens",
    context: channel::context,
    count: "SELECT CAST(COUNT(*) AS BIGINT) FROM channel_tokens WHERE sealed IS NOT NULL",
    list: "SELECT id, sealed FROM channel_tokens WHERE id > $1 AND sealed IS NOT NULL ORDER BY id LIMIT $2",
    replace: "UPDATE channel_tokens SET sealed = $1 WHERE id = $2 AND sealed = $3",
};

const API_REQUESTS: Sealed = Sealed {
    table: "api_requests",
    context: idempotency::context,
    count: "SELECT CAST(COUNT(*) AS BIGINT) FROM api_requests WHERE sealed IS NOT NULL",
    list: "SELECT id, sealed FROM api_requests WHERE id > $1 AND sealed IS NOT NULL ORDER BY id LIMIT $2",
    replace: "UPDATE api_requests SET sealed = $1 WHERE id = $2 AND sealed = $3",
};

const HOOKS: Sealed = Sealed {
    table: "hook_endpoints",
    context: hook::secret::context,
    count: "SELECT CAST(COUNT(*) AS BIGINT) FROM hook_endpoints",
    list: "SELECT id, sealed_secret FROM hook_endpoints WHERE id > $1 ORDER BY id LIMIT $2",
    replace: "UPDATE hook_endpoints SET sealed_secret = $1 WHERE id = $2 AND sealed_secret = $3",
};

const FORMER_HOOKS: Sealed = Sealed {
    table: "hook_endpoints",
    context: hook::secret::context,
    count: "SELECT CAST(COUNT(*) AS BIGINT) FROM hook_endpoints WHERE sealed_former_secret IS NOT NULL",
    list: "SELECT id, sealed_former_secret FROM hook_endpoints WHERE id > $1 AND sealed_former_secret IS NOT NULL
           ORDER BY id LIMIT $2",
    replace: "UPDATE hook_endpoints SET sealed_former_secret = $1 WHERE id = $2 AND sealed_former_secret = $3",
};

impl Sealed {
    /// Goes over all values once, by id.
    async fn pass(&self, app: &App, found: &mut Found) -> Result<()> {
        let total: i64 = sqlx::query_scalar(self.count).fetch_one(&mut *app.db.conn().await?).await?;
        let bar = progress(self.table, total);
        let mut last = String::new();
        loop {
            let rows: Vec<(String, String)> =
                sqlx::query_as(self.list).bind(&last).bind(BATCH).fetch_all(&mut *app.db.conn().await?).await?;
            let Some((id, _)) = rows.last() else { break };
            last.clone_from(id);
            bar.inc(rows.len() as u64);
            self.reseal(app, rows, found).await?;
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// Seals anew those of `rows` that another key sealed, in one transaction.
    async fn reseal(&self, app: &App, rows: Vec<(String, String)>, found: &mut Found) -> Result<()> {
        let mut anew = Vec::new();
        for (id, sealed) in rows {
            match self.sealed_anew(app, &id, &sealed) {
                Ok(None) => found.add(&sealed),
                Ok(Some(fresh)) => anew.push((id, sealed, fresh)),
                Err(error) => {
                    found.add(&sealed);
                    found.damaged.push(format!("{} {id} was left as it is: {error}", self.table));
                }
            }
        }
        if anew.is_empty() {
            return Ok(());
        }
        found.tried += anew.len();
        let mut tx = app.db.begin().await?;
        for (id, sealed, fresh) in &anew {
            // Erased or refreshed meanwhile: the next pass sees what it is now.
            let replaced = sqlx::query(self.replace).bind(fresh).bind(id).bind(sealed).execute(&mut *tx).await?;
            found.resealed += replaced.rows_affected();
            found.add(if replaced.rows_affected() == 1 { fresh } else { sealed });
        }
        tx.commit().await?;
        Ok(())
    }

    /// The value under the active key; none where it is already. Opened in any case, so that damage is found.
    fn sealed_anew(&self, app: &App, id: &str, sealed: &str) -> Result<Option<String>, SealError> {
        let context = (self.context)(id);
        let plain = app.sealer.open(&context, sealed)?;
        if Sealer::key_of(sealed) == Some(app.config.security.sealing_key.as_str()) {
            return Ok(None);
        }
        app.sealer.seal(&context, &plain).map(Some)
    }
}

/// Seen on a terminal only.
fn progress(table: &str, total: i64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:<10} {wide_bar} {pos}/{len} {eta}");
    let bar = ProgressBar::new(u64::try_from(total).unwrap_or(0)).with_message(table.to_owned());
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
