//! Members (table `members`): the company's accounts, their passwords, sessions and addresses.
//!
//! - [`sign_up`] → mail → its confirmation makes a member; [`sign_in`] starts a [`session`]
//! - [`reset`], [`change_password`] and [`email`] replace what a member proves to be one with; [`code`] proves those
//!   who have no password
//! - [`company`]: members as the company says them, with their [`tag`]s and [`attribute`]s
//! - [`oidc`]: the company's own sign-in
//! - [`other_app`] warns whoever came in an app's browser, which [`user_agent`] tells
//! - [`throttle`] stands before each of these, and knows a [`device`]; [`token`] is what mails carry

pub mod attribute;
pub mod change_password;
pub mod code;
pub mod company;
pub mod device;
pub mod disabling;
pub mod email;
pub mod guard;
pub mod import;
pub mod oidc;
pub mod other_app;
pub mod password;
pub mod reset;
pub mod session;
pub mod session_list;
pub mod sign_in;
pub mod sign_up;
pub mod step_up;
pub mod tag;
pub mod throttle;
pub mod token;
pub mod user_agent;

use crate::{
    app::App,
    db::{Conn, Db, Locking, Millis, new_id, with_lock},
    error::{Error, Result},
};

/// What signing in needs of a member.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Member {
    pub id: String,
    /// Empty where the company knows none.
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

impl Member {
    /// The password to be asked for; none where none is taken.
    pub fn password(&self, app: &App) -> Option<&str> {
        self.password_hash.as_deref().filter(|_| app.config.has_passwords())
    }
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

/// The member whom an operator names: by the company's id, ours, or the e-mail address.
pub async fn find_named(conn: &mut Conn, name: &str) -> Result<Option<String>> {
    let found = sqlx::query_scalar(
        "SELECT id FROM members WHERE (external_id = $1 OR id = $1 OR email_key = $2) AND deleted_at IS NULL
         ORDER BY CASE WHEN external_id = $1 THEN 0 WHEN id = $1 THEN 1 ELSE 2 END LIMIT 1",
    )
    .bind(name)
    .bind(email_key(name))
    .fetch_optional(conn)
    .await?;
    Ok(found)
}

/// A member who may act, held until the transaction ends. Whatever makes or ends something of a member's (sessions,
/// links, tokens) holds them first, so that two of these come one after the other, and never wait for each other.
pub async fn hold(conn: &mut Conn, db: &Db, id: &str) -> Result<Option<Member>> {
    let held = sqlx::query_as(db.locking(HOLD)).bind(id).fetch_optional(conn).await?;
    Ok(held)
}

const HOLD: Locking = with_lock!(
    "SELECT id, email, name, password_hash, locale, disabled_at FROM members
     WHERE id = $1 AND disabled_at IS NULL AND deleted_at IS NULL",
    "FOR NO KEY UPDATE"
);

/// Whether a member may act and still has the password that was just compared; held as by [`hold`], so that nobody
/// signs in with a password while it is replaced.
pub async fn hold_by_password(conn: &mut Conn, db: &Db, id: &str, password_hash: Option<&str>) -> Result<bool> {
    let held: Option<String> =
        sqlx::query_scalar(db.locking(HOLD_BY_PASSWORD)).bind(id).bind(password_hash).fetch_optional(conn).await?;
    Ok(held.is_some())
}

const HOLD_BY_PASSWORD: Locking = with_lock!(
    "SELECT id FROM members
     WHERE id = $1 AND password_hash = $2 AND disabled_at IS NULL AND deleted_at IS NULL",
    "FOR NO KEY UPDATE"
);

/// Names a member by the company's own id.
pub async fn set_external_id(conn: &mut Conn, id: &str, external_id: &str) -> Result<()> {
    sqlx::query("UPDATE members SET external_id = $1 WHERE id = $2").bind(external_id).bind(id).execute(conn).await?;
    Ok(())
}

/// Gives a member this password from now on.
pub async fn set_password(conn: &mut Conn, now: Millis, id: &str, password_hash: &str) -> Result<()> {
    sqlx::query("UPDATE members SET password_hash = $1, password_changed_at = $2 WHERE id = $3")
        .bind(password_hash)
        .bind(now)
        .bind(id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Notes that the member reads the mailbox of their address.
pub async fn verify_email(conn: &mut Conn, now: Millis, id: &str) -> Result<()> {
    sqlx::query("UPDATE members SET email_verified_at = $1 WHERE id = $2").bind(now).bind(id).execute(conn).await?;
    Ok(())
}

/// Where members come from the company alone, or nothing is mailed, there is no sign-up: its routes are not there.
pub fn needs_sign_up(app: &App) -> Result<()> {
    if app.config.has_sign_up() { Ok(()) } else { Err(Error::NotFound) }
}

/// Without mail there is no code and no other address: their routes are not there.
pub fn needs_mail(app: &App) -> Result<()> {
    if app.config.mail.is_some() { Ok(()) } else { Err(Error::NotFound) }
}

/// Where members sign in at the company's own provider alone, no route takes a password.
pub fn needs_passwords(app: &App) -> Result<()> {
    if app.config.has_passwords() { Ok(()) } else { Err(Error::NotFound) }
}

/// Without mail, or without passwords, there is no reset.
pub fn needs_reset(app: &App) -> Result<()> {
    needs_passwords(app)?;
    needs_mail(app)
}

/// Deletes what is past its time in the tables of sign-ups, tokens, browsers and guesses, some at a time.
pub async fn prune(conn: &mut Conn, now: Millis) -> Result<u64> {
    let mut deleted = sign_up::prune(conn, now).await?;
    deleted += token::prune(conn, now).await?;
    deleted += device::prune(conn, now).await?;
    deleted += throttle::prune(conn, now).await?;
    deleted += oidc::prune(conn, now).await?;
    Ok(deleted)
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

/// `a***@example.jp`: enough for its owner to know it, too little for anyone else. Empty where there is no address.
pub fn masked_email(email: &str) -> String {
    match email.split_once('@') {
        Some((local, domain)) => format!("{}***@{domain}", local.chars().take(1).collect::<String>()),
        None if email.is_empty() => String::new(),
        None => "***".to_owned(),
    }
}

/// What an account is called where a sentence names it: by its address, masked, else by the member's name.
pub fn account_name(email: &str, name: &str) -> String {
    if email.is_empty() { name.to_owned() } else { masked_email(email) }
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
