//! One-time proofs by mail (table `tokens`): who shows one reads the mailbox that it was sent to.
//!
//! Only their hashes are stored. A new one of a purpose voids the earlier ones of the same member and subject.

use std::time::Duration;

use axum::http::StatusCode;

use crate::{
    app::App,
    audit,
    db::{Conn, Millis},
    error::{Error, NextStep, Refusal, Result},
    seal,
    web::visit::Visit,
};

/// Tries that a code has.
const CODE_TRIES: i64 = 5;

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Subject: the sign-up.
    SignUp,
    /// Subject: the normal form of the address it was mailed to.
    Reset,
    /// Subject: the new address.
    ChangeEmail,
    /// Subject: the session's lineage. A short code, so that it can be typed.
    Code,
    /// Subject: the link.
    UndoLink,
}

/// A token to be.
#[derive(Debug)]
pub struct New<'a> {
    pub purpose: Purpose,
    pub member_id: Option<&'a str>,
    pub subject: &'a str,
    pub life: Duration,
}

/// A live token.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Token {
    pub id: String,
    pub member_id: Option<String>,
    pub subject: String,
    pub created_at: Millis,
}

impl Purpose {
    pub fn word(self) -> &'static str {
        match self {
            Self::SignUp => "sign_up",
            Self::Reset => "reset",
            Self::ChangeEmail => "change_email",
            Self::Code => "code",
            Self::UndoLink => "undo_link",
        }
    }
}

/// Keeps the hash of `secret` (a random token, or the keyed hash of a code).
pub async fn insert(conn: &mut Conn, app: &App, new: &New<'_>, secret: &str) -> Result<()> {
    let now = app.now();
    sqlx::query(
        "UPDATE tokens SET voided_at = $1 WHERE purpose = $2 AND subject = $3 AND voided_at IS NULL AND used_at IS NULL
           AND (member_id = $4 OR (member_id IS NULL AND $4 IS NULL))",
    )
    .bind(now)
    .bind(new.purpose.word())
    .bind(new.subject)
    .bind(new.member_id)
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "INSERT INTO tokens (id, token_hash, purpose, member_id, subject, tries, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, 0, $6, $7)",
    )
    .bind(app.new_id())
    .bind(seal::hash(secret))
    .bind(new.purpose.word())
    .bind(new.member_id)
    .bind(new.subject)
    .bind(now)
    .bind(now.plus(new.life))
    .execute(conn)
    .await?;
    Ok(())
}

/// The live token of this value, left as it is.
pub async fn find(conn: &mut Conn, now: Millis, purpose: Purpose, secret: &str) -> Result<Option<Token>> {
    let found = sqlx::query_as(
        "SELECT id, member_id, subject, created_at FROM tokens
         WHERE token_hash = $1 AND purpose = $2 AND used_at IS NULL AND voided_at IS NULL AND expires_at > $3",
    )
    .bind(seal::hash(secret))
    .bind(purpose.word())
    .bind(now)
    .fetch_optional(conn)
    .await?;
    Ok(found)
}

/// Takes the live token of this value: the first caller gets it.
pub async fn take(conn: &mut Conn, now: Millis, purpose: Purpose, secret: &str) -> Result<Option<Token>> {
    let taken = sqlx::query_as(
        "UPDATE tokens SET used_at = $1
         WHERE token_hash = $2 AND purpose = $3 AND used_at IS NULL AND voided_at IS NULL AND expires_at > $1
         RETURNING id, member_id, subject, created_at",
    )
    .bind(now)
    .bind(seal::hash(secret))
    .bind(purpose.word())
    .fetch_optional(conn)
    .await?;
    Ok(taken)
}

/// Voids every open token of a member but those to undo a link: whoever reset the password must be able to go on
/// undoing what somebody else did.
pub async fn void_of_member(conn: &mut Conn, now: Millis, member_id: &str) -> Result<()> {
    sqlx::query(
        "UPDATE tokens SET voided_at = $1
         WHERE member_id = $2 AND purpose <> 'undo_link' AND used_at IS NULL AND voided_at IS NULL",
    )
    .bind(now)
    .bind(member_id)
    .execute(conn)
    .await?;
    Ok(())
}

/// Counts a try at the code of a session before it is compared; gives the code's hash, unless it had its tries.
pub async fn count_try(conn: &mut Conn, now: Millis, member_id: &str, lineage_id: &str) -> Result<Option<String>> {
    let hash = sqlx::query_scalar(
        "UPDATE tokens SET tries = tries + 1, voided_at = CASE WHEN tries >= $1 THEN $2 END
         WHERE purpose = 'code' AND member_id = $3 AND subject = $4
           AND used_at IS NULL AND voided_at IS NULL AND expires_at > $2
         RETURNING CASE WHEN voided_at IS NULL THEN token_hash END",
    )
    .bind(CODE_TRIES)
    .bind(now)
    .bind(member_id)
    .bind(lineage_id)
    .fetch_optional(conn)
    .await?;
    Ok(hash.flatten())
}

/// How a page answers a token that is wrong, used, void or late; nothing tells the person which.
#[derive(Debug, Clone, Copy)]
pub struct Gone {
    pub purpose: Purpose,
    /// The refusal's key in the catalogue.
    pub key: &'static str,
    /// Where the person goes on.
    pub next: &'static str,
}

impl Gone {
    pub fn error(self) -> Error {
        let next = NextStep::Link(self.next.to_owned());
        Error::Refused(Box::new(Refusal { status: StatusCode::BAD_REQUEST, key: self.key, reason: "token", next }))
    }

    /// The same, with an audit row.
    pub async fn refuse(self, app: &App, visit: &Visit) -> Result<Error> {
        let entry = audit::Entry {
            action: "token_refused",
            reason: Some(self.purpose.word()),
            address: Some(&visit.address),
            ..Default::default()
        };
        audit::insert(&mut *app.db.conn().await?, app.now(), entry).await?;
        Ok(self.error())
    }
}

/// Deletes tokens long past, some at a time.
pub async fn prune(conn: &mut Conn, now: Millis) -> Result<u64> {
    let deleted = sqlx::query("DELETE FROM tokens WHERE id IN (SELECT id FROM tokens WHERE expires_at < $1 LIMIT 500)")
        .bind(now.minus(Duration::from_secs(7 * 24 * 3600)))
        .execute(conn)
        .await?;
    Ok(deleted.rows_affected())
}

/// What is kept of a code that is typed: it is short, so it is hashed under our key. `code` is in capitals, without its
/// dash.
pub fn of_code(app: &App, lineage_id: &str, code: &str) -> String {
    app.sealer.sign(&format!("code:{lineage_id}:{code}"))
}
