//! Members (table `members`): the company's accounts, by password for now.

pub mod guard;
pub mod password;
pub mod session;
pub mod sign_in;
pub mod sign_up;
pub mod step_up;
pub mod token;

use crate::{
    db::{Conn, Db, Locking, Millis, new_id, with_lock},
    error::Result,
};

/// What signing in needs of a member.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Member {
    pub id: String,
    pub email: String,
    pub name: String,
    pub password_hash: Option<String>,
    pub locale: Option<String>,
    pub disabled_at: Option<Millis>,
}

/// A member to be. `email_key` is [`email_key`] of `email`.
#[derive(Debug)]
pub struct New<'a> {
    pub email: &'a str,
    pub email_key: &'a str,
    pub name: &'a str,
    /// None for a member who never had one: they sign in through LINE or a ticket.
    pub password_hash: Option<&'a str>,
    pub locale: Option<&'a str>,
    pub source: &'a str,
}

pub async fn find(conn: &mut Conn, id: &str) -> Result<Option<Member>> {
    let found = sqlx::query_as("SELECT id, email, name, password_hash, locale, disabled_at FROM members WHERE id = $1")
        .bind(id)
        .fetch_optional(conn)
        .await?;
    Ok(found)
}

pub async fn find_by_email_key(conn: &mut Conn, email_key: &str) -> Result<Option<Member>> {
    let found =
        sqlx::query_as("SELECT id, email, name, password_hash, locale, disabled_at FROM members WHERE email_key = $1")
            .bind(email_key)
            .fetch_optional(conn)
            .await?;
    Ok(found)
}

/// Adds a member; `None` where the address is taken.
pub async fn insert(conn: &mut Conn, now: Millis, new: &New<'_>) -> Result<Option<String>> {
    let id = sqlx::query_scalar(
        "INSERT INTO members (id, email, email_key, name, password_hash, password_changed_at, locale, source, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $6)
         ON CONFLICT (email_key) DO NOTHING
         RETURNING id",
    )
    .bind(new_id(now))
    .bind(new.email)
    .bind(new.email_key)
    .bind(new.name)
    .bind(new.password_hash)
    .bind(now)
    .bind(new.locale)
    .bind(new.source)
    .fetch_optional(conn)
    .await?;
    Ok(id)
}

/// Holds the member until the end of the transaction, so that what decides over one account comes one by one. Rows
/// that only refer to the member may be added meanwhile.
pub async fn hold(conn: &mut Conn, db: &Db, id: &str) -> Result<()> {
    sqlx::query(db.locking(HOLD)).bind(id).execute(conn).await?;
    Ok(())
}

const HOLD: Locking = with_lock!("SELECT id FROM members WHERE id = $1", "FOR NO KEY UPDATE");

/// Replaces a hash by one with today's cost, unless the password was changed meanwhile.
pub async fn rehash(conn: &mut Conn, id: &str, old: &str, new: &str) -> Result<()> {
    sqlx::query("UPDATE members SET password_hash = $1 WHERE id = $2 AND password_hash = $3")
        .bind(new)
        .bind(id)
        .bind(old)
        .execute(conn)
        .await?;
    Ok(())
}

/// The one normal form of an address, which is compared; `None` where it is not an address we take.
///
/// ASCII only: look-alikes (other scripts, full width, zero width) would otherwise be other people's addresses.
pub fn email_key(email: &str) -> Option<String> {
    let email = email.trim();
    let (local, domain) = email.rsplit_once('@')?;
    let labels_fit = domain.contains('.')
        && domain.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        });
    let local_fits = !local.is_empty()
        && local.len() <= 64
        && local.chars().all(|c| c.is_ascii_graphic() && !"\"(),:;<>@[\\]".contains(c));
    (labels_fit && local_fits && email.len() <= 254).then(|| email.to_ascii_lowercase())
}

/// `a***@example.jp`: enough for its owner to know it, too little for anyone else.
pub fn masked_email(email: &str) -> String {
    match email.split_once('@') {
        Some((local, domain)) => format!("{}***@{domain}", local.chars().take(1).collect::<String>()),
        None => "***".to_owned(),
    }
}

/// The name as it is kept: trimmed, 1 to 100 characters, none of them a control character.
pub fn name(text: &str) -> Option<String> {
    let text = text.trim();
    let fits = (1..=100).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_one_normal_form() {
        for (email, expected) in [
            ("Taro@Example.JP", Some("taro@example.jp")),
            ("  taro@example.jp ", Some("taro@example.jp")),
            ("ta.ro+line@mail.example.jp", Some("ta.ro+line@mail.example.jp")),
            ("taro@example.jp.", None),
            ("taro@localhost", None),
            ("taro@exa mple.jp", None),
            ("taro", None),
            ("@example.jp", None),
            ("t\u{200b}aro@example.jp", None),
            ("ｔaro@example.jp", None),
            ("a@b@example.jp", None),
            ("a,b@example.jp", None),
            ("a\r\nBcc: x@example.jp", None),
            ("taro@-example.jp", None),
        ] {
            assert_eq!(email_key(email).as_deref(), expected, "{email:?}");
        }
    }
}
