//! Mails (table `mails`): queued in the transaction of their cause, rendered when they are sent.
//!
//! A row holds ids and names. The token that a mail carries is made at the moment of sending and only its hash is
//! kept, so that the database never holds one; and whether an address is known is asked then too, so that no request
//! can tell. A mail that is late for its purpose is dropped, with an audit row.

mod compose;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    app::App,
    audit,
    db::{Conn, Db, Locking, Millis, new_id, with_lock},
    error::Result,
    queue::{self, Job, Outcome},
};

/// What a mail is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Mail {
    /// Confirm the address of a sign-up, or be told that there is an account already.
    SignUp {
        sign_up_id: String,
    },
    /// Choose a new password; sent only where the address is a member's.
    Reset,
    PasswordChanged,
    /// Confirm a new address (the recipient) for a member, or be told that it has an account already.
    ChangeEmail,
    /// To the former address; the new one is empty where there is none any more.
    EmailChanged {
        new_email: String,
    },
    /// A code for a member without a password, for the session of this lineage.
    Code {
        lineage_id: String,
    },
    /// A LINE account was linked; carries "this was not me".
    Linked {
        link_id: String,
        line_name: String,
    },
    /// The oldest session was ended because there were too many.
    SessionEnded,
    AccountDeleted {
        name: String,
    },
}

/// Who gets a mail.
#[derive(Debug, Clone, Copy)]
pub struct To<'a> {
    /// As the person wrote it; its [`email_key`](crate::member::email_key) is made here.
    pub email: &'a str,
    pub member_id: Option<&'a str>,
    pub locale: &'a str,
}

impl Mail {
    /// The name stored beside the mail, and how its texts begin in the catalogue.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::SignUp { .. } => "sign_up",
            Self::Reset => "reset",
            Self::PasswordChanged => "password_changed",
            Self::ChangeEmail => "change_email",
            Self::EmailChanged { .. } => "email_changed",
            Self::Code { .. } => "code",
            Self::Linked { .. } => "linked",
            Self::SessionEnded => "session_ended",
            Self::AccountDeleted { .. } => "account_deleted",
        }
    }

    /// How long the mail is worth sending.
    fn life(&self) -> Duration {
        match self {
            Self::SignUp { .. } | Self::Reset | Self::ChangeEmail | Self::Code { .. } => Duration::from_secs(10 * 60),
            Self::PasswordChanged
            | Self::EmailChanged { .. }
            | Self::Linked { .. }
            | Self::SessionEnded
            | Self::AccountDeleted { .. } => Duration::from_secs(3 * 24 * 3600),
        }
    }

    /// Mails of this kind that one address gets within an hour; anybody may ask for some of them.
    fn per_hour(&self) -> i64 {
        match self {
            Self::SignUp { .. } | Self::Reset | Self::ChangeEmail => 3,
            Self::Code { .. } => 6,
            Self::PasswordChanged
            | Self::EmailChanged { .. }
            | Self::Linked { .. }
            | Self::SessionEnded
            | Self::AccountDeleted { .. } => 20,
        }
    }
}

/// Queues a mail in the caller's transaction, unless nothing is mailed here or the address had its share of the kind.
/// Who calls for an unknown person answers the same whatever comes of it. Wake the worker after the commit.
pub async fn queue(conn: &mut Conn, app: &App, to: To<'_>, mail: &Mail) -> Result<()> {
    let Some(recipient_key) = crate::member::email_key(to.email) else { return Ok(()) };
    let now = app.now();
    if app.config.mail.is_none() || count_lately(conn, now, &recipient_key, mail.kind()).await? >= mail.per_hour() {
        return Ok(());
    }
    let id = new_id(now);
    sqlx::query(
        "INSERT INTO mails (id, kind, mail, recipient, recipient_key, member_id, locale, state, created_at, drop_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 'waiting', $8, $9)",
    )
    .bind(&id)
    .bind(mail.kind())
    .bind(serde_json::to_string(mail)?)
    .bind(to.email.trim())
    .bind(&recipient_key)
    .bind(to.member_id)
    .bind(to.locale)
    .bind(now)
    .bind(now.plus(mail.life()))
    .execute(&mut *conn)
    .await?;
    queue::enqueue(conn, now, now, &Job::SendMail { mail_id: id }).await
}

async fn count_lately(conn: &mut Conn, now: Millis, recipient_key: &str, kind: &str) -> Result<i64> {
    let count = sqlx::query_scalar(
        "SELECT CAST(COUNT(*) AS BIGINT) FROM mails WHERE recipient_key = $1 AND kind = $2 AND created_at > $3",
    )
    .bind(recipient_key)
    .bind(kind)
    .bind(now.minus(Duration::from_secs(3600)))
    .fetch_one(conn)
    .await?;
    Ok(count)
}

/// A mail that waits.
#[derive(Debug, sqlx::FromRow)]
struct Waiting {
    id: String,
    mail: String,
    recipient: String,
    recipient_key: String,
    member_id: Option<String>,
    locale: String,
    drop_at: Millis,
}

/// [`Job::SendMail`]. A process that dies after the server took the mail sends it once more, with a new token: the
/// newest mail is the one that works.
pub async fn send(app: &App, mail_id: &str) -> Result<Outcome> {
    let mut tx = app.db.begin().await?;
    let Some(waiting) = find_waiting(&mut tx, &app.db, mail_id).await? else { return Ok(Outcome::Done) };
    let Some(post) = &app.post else { return Ok(Outcome::Done) };
    let composed =
        if app.now() >= waiting.drop_at { Err("late") } else { compose::compose(&mut tx, app, &waiting).await? };
    let (to, letter) = match composed {
        Ok(composed) => composed,
        Err(why) => {
            drop_mail(&mut tx, app, &waiting, why).await?;
            tx.commit().await?;
            return Ok(Outcome::Done);
        }
    };
    // The token is kept before anybody can use it.
    tx.commit().await?;
    let error = match post.send(&to, letter).await {
        Ok(()) => {
            set_state(&mut *app.db.conn().await?, app.now(), mail_id, "sent", None).await?;
            return Ok(Outcome::Done);
        }
        Err(error) => error,
    };
    if error.is_final() {
        tracing::error!(%error, "the mail server refuses a mail");
        let mut tx = app.db.begin().await?;
        drop_mail(&mut tx, app, &waiting, "refused").await?;
        tx.commit().await?;
        return Ok(Outcome::Done);
    }
    Ok(Outcome::retry(&error))
}

/// Held until its token is made, so that whoever calls it off voids the token too.
async fn find_waiting(conn: &mut Conn, db: &Db, mail_id: &str) -> Result<Option<Waiting>> {
    let found = sqlx::query_as(db.locking(WAITING)).bind(mail_id).fetch_optional(conn).await?;
    Ok(found)
}

const WAITING: Locking = with_lock!(
    "SELECT id, mail, recipient, recipient_key, member_id, locale, drop_at FROM mails
     WHERE id = $1 AND state = 'waiting'",
    "FOR UPDATE"
);

/// Drops what a member's former password or address asked for and what is not sent yet. Void their tokens after it:
/// a mail that was just being written has one by then.
pub async fn call_off(conn: &mut Conn, now: Millis, member_id: &str) -> Result<()> {
    sqlx::query(
        "UPDATE mails SET state = 'dropped', note = 'called_off', ended_at = $1
         WHERE member_id = $2 AND state = 'waiting' AND kind IN ('change_email', 'code')",
    )
    .bind(now)
    .bind(member_id)
    .execute(conn)
    .await?;
    Ok(())
}

async fn set_state(conn: &mut Conn, now: Millis, id: &str, state: &str, note: Option<&str>) -> Result<()> {
    sqlx::query("UPDATE mails SET state = $1, note = $2, ended_at = $3 WHERE id = $4 AND state = 'waiting'")
        .bind(state)
        .bind(note)
        .bind(now)
        .bind(id)
        .execute(conn)
        .await?;
    Ok(())
}

async fn drop_mail(conn: &mut Conn, app: &App, waiting: &Waiting, why: &'static str) -> Result<()> {
    let now = app.now();
    if why == compose::NOBODY {
        // Anybody may name any address: nothing of it is kept.
        sqlx::query("DELETE FROM mails WHERE id = $1").bind(&waiting.id).execute(conn).await?;
        return Ok(());
    }
    set_state(conn, now, &waiting.id, "dropped", Some(why)).await?;
    let entry = audit::Entry {
        action: "mail_dropped",
        reason: Some(why),
        member_id: waiting.member_id.as_deref(),
        subject: Some(&waiting.id),
        ..Default::default()
    };
    audit::insert(conn, now, entry).await
}

/// Deletes mails long past, some at a time.
pub async fn prune(conn: &mut Conn, now: Millis) -> Result<u64> {
    let deleted = sqlx::query(
        "DELETE FROM mails WHERE id IN
           (SELECT id FROM mails WHERE ended_at < $1 OR (ended_at IS NULL AND drop_at < $1) LIMIT 500)",
    )
    .bind(now.minus(Duration::from_secs(90 * 24 * 3600)))
    .execute(conn)
    .await?;
    Ok(deleted.rows_affected())
}
