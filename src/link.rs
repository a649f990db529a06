//! Links (table `links`): the tie between one LINE user and one member, from the first click to the last
//! trace at LINE.
//!
//! - [`start`] → LINE → [`callback`] → `proof` → `follow` → [`confirm`] → `yes`: every way in proves both accounts and
//!   asks the person
//! - [`account`] shows the links, [`history`] those of the past; [`friend`] asks for the official account; [`consent`] keeps what people agreed to
//! - [`import`] takes links over from another system; [`imported`] asks the person about one before it signs them in
//! - [`by_company`] shows the company a link, and ends it
//! - [`account_link`] does the same from a chat, and [`by_chat`] answers there; [`permission`] sees what LINE tells nobody
//! - [`liff`] lets people in from LINE itself, where LINE opens our page as a LIFF app
//! - [`ticket`] lets somebody link who was handed an address by the company, without a sign-in
//! - [`unlink`] and [`undo`] [`end`](mod@end) a link at once, [`cleanup`] carries the end out at LINE
//! - [`attempt`] and [`grant`] are the tables in between; [`refusal`] is the closed list of what can go wrong

pub mod account;
pub mod account_link;
pub mod attempt;
pub mod by_chat;
pub mod by_company;
pub mod callback;
pub mod cleanup;
pub mod confirm;
pub mod consent;
pub mod end;
mod follow;
pub mod friend;
pub mod grant;
pub mod history;
pub mod import;
pub mod imported;
pub mod liff;
pub mod permission;
mod proof;
mod prover;
pub mod refusal;
mod say;
pub mod start;
mod tell;
pub mod ticket;
mod tie;
pub mod undo;
pub mod unlink;
mod yes;

pub use self::say::Chat;
use crate::{
    db::{Conn, Db, Locking, Millis, with_lock},
    error::Result,
};

/// What a person wants of LINE Login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    SignIn,
    /// As a signed-in member.
    Link,
    /// As whoever holds a ticket of a member's.
    Ticket,
}

impl Purpose {
    pub fn word(self) -> &'static str {
        match self {
            Self::SignIn => "sign_in",
            Self::Link => "link",
            Self::Ticket => "ticket",
        }
    }

    pub fn of_word(word: &str) -> Option<Self> {
        [Self::SignIn, Self::Link, Self::Ticket].into_iter().find(|purpose| purpose.word() == word)
    }
}

/// The member that a LINE user is linked to.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Owner {
    pub link_id: String,
    pub member_id: String,
    pub suspended_at: Option<Millis>,
    /// Taken over from another system, and not confirmed by the person yet.
    pub unconfirmed_at: Option<Millis>,
    pub disabled_at: Option<Millis>,
}

/// What follows from a proven LINE user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    SignIn(Owner),
    /// The company tied them to each other: the person is asked before it signs them in.
    ConfirmImported(Owner),
    /// The owner may not sign in; the page does not say more than that.
    Unavailable,
    /// Nobody's LINE account, seen by a signed-in member who only wanted to sign in.
    OfferToLink,
    OfferToSignUp,
    /// Both accounts are proven, and free or tied to each other by a suspended or imported link: ask the person.
    Confirm,
    AlreadyYours,
    OwnedByAnother(Owner),
    MemberHasAnother,
}

/// Decides what happens after LINE proved who somebody is. `member` is the session's, or the ticket's; `has_other` says
/// whether that member is linked to another LINE user of this provider.
pub fn decide(purpose: Purpose, member: Option<&str>, owner: Option<Owner>, has_other: bool) -> Decision {
    match (purpose, member, owner) {
        (Purpose::SignIn, _, Some(owner)) => {
            let closed = owner.disabled_at.is_some() || owner.suspended_at.is_some();
            match owner.unconfirmed_at {
                _ if closed => Decision::Unavailable,
                Some(_) => Decision::ConfirmImported(owner),
                None => Decision::SignIn(owner),
            }
        }
        (Purpose::SignIn, Some(_), None) => Decision::OfferToLink,
        (_, None, None) => Decision::OfferToSignUp,
        (Purpose::Link | Purpose::Ticket, Some(member), Some(owner)) if owner.member_id == member => {
            if owner.suspended_at.is_some() || owner.unconfirmed_at.is_some() {
                Decision::Confirm
            } else {
                Decision::AlreadyYours
            }
        }
        (Purpose::Link | Purpose::Ticket, _, Some(owner)) => Decision::OwnedByAnother(owner),
        (Purpose::Link | Purpose::Ticket, Some(_), None) if has_other => Decision::MemberHasAnother,
        (Purpose::Link | Purpose::Ticket, Some(_), None) => Decision::Confirm,
    }
}

/// A link to be.
#[derive(Debug)]
pub struct New<'a> {
    pub id: &'a str,
    pub provider: &'a str,
    pub line_user_id: &'a str,
    pub member_id: &'a str,
    pub source: &'a str,
    /// Whether LINE Login was asked for a permission: `given` or `none`.
    pub permission: &'a str,
    pub consent_version: &'a str,
    pub consent_locale: &'a str,
}

/// Adds a link; false where the LINE user or the member is linked already. The unique indexes decide,
/// also between two who confirm at one moment.
pub async fn insert(conn: &mut Conn, now: Millis, new: &New<'_>) -> Result<bool> {
    let inserted = sqlx::query(
        "INSERT INTO links (id, provider, line_user_id, member_id, source, consent_version, consent_locale, created_at,
           permission)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
    )
    .bind(new.id)
    .bind(new.provider)
    .bind(new.line_user_id)
    .bind(new.member_id)
    .bind(new.source)
    .bind(new.consent_version)
    .bind(new.consent_locale)
    .bind(now)
    .bind(new.permission)
    .execute(conn)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// The active owner of a LINE user.
pub async fn find_owner(conn: &mut Conn, line_user_id: &str) -> Result<Option<Owner>> {
    let found = sqlx::query_as(OWNER.plain).bind(line_user_id).fetch_optional(conn).await?;
    Ok(found)
}

/// [`find_owner`], with the link held until the transaction ends: what is made by the link's authority is either
/// there when an unlink looks for it, or not made. (SQLite lets one transaction write at a time anyway.)
pub async fn hold_owner(conn: &mut Conn, db: &Db, line_user_id: &str) -> Result<Option<Owner>> {
    let found = sqlx::query_as(db.locking(OWNER)).bind(line_user_id).fetch_optional(conn).await?;
    Ok(found)
}

const OWNER: Locking = with_lock!(
    "SELECT l.id AS link_id, l.member_id, l.suspended_at, l.unconfirmed_at, m.disabled_at
     FROM links l JOIN members m ON m.id = l.member_id
     WHERE l.line_user_id = $1 AND l.ended_at IS NULL",
    "FOR SHARE OF l"
);

/// An active link as its member sees it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Active {
    pub link_id: String,
    pub provider: String,
    pub member_id: String,
    pub line_user_id: String,
    pub display_name: String,
    pub picture_url: Option<String>,
    pub consent_version: String,
    pub created_at: Millis,
    pub suspended_at: Option<Millis>,
    pub unconfirmed_at: Option<Millis>,
    /// Whether the person's permission in LINE stands: `given`, `withdrawn`, `unverifiable`, or `none` (never asked for).
    pub permission: String,
}

macro_rules! select_active {
    ($which:literal) => {
        concat!(
            "SELECT l.id AS link_id, l.provider, l.member_id, l.line_user_id, u.display_name, u.picture_url,
               l.consent_version, l.created_at, l.suspended_at, l.unconfirmed_at, l.permission
             FROM links l JOIN line_users u ON u.id = l.line_user_id
             WHERE l.ended_at IS NULL AND ",
            $which
        )
    };
}

/// A member's active link at a provider.
pub async fn find_active(conn: &mut Conn, member_id: &str, provider: &str) -> Result<Option<Active>> {
    let found = sqlx::query_as(select_active!("l.member_id = $1 AND l.provider = $2"))
        .bind(member_id)
        .bind(provider)
        .fetch_optional(conn)
        .await?;
    Ok(found)
}

/// The active link of this id.
pub async fn find_active_by_id(conn: &mut Conn, link_id: &str) -> Result<Option<Active>> {
    Ok(sqlx::query_as(select_active!("l.id = $1")).bind(link_id).fetch_optional(conn).await?)
}

/// A member's active links, in the order of their making.
pub async fn list_active(conn: &mut Conn, member_id: &str) -> Result<Vec<Active>> {
    let found =
        sqlx::query_as(select_active!("l.member_id = $1 ORDER BY l.id")).bind(member_id).fetch_all(conn).await?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(member: &str, suspended: bool, disabled: bool) -> Option<Owner> {
        let at = |flag: bool| flag.then_some(Millis(1));
        Some(Owner {
            link_id: "L".into(),
            member_id: member.into(),
            suspended_at: at(suspended),
            unconfirmed_at: None,
            disabled_at: at(disabled),
        })
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn decisions() {
        use Purpose::{Link, SignIn, Ticket};
        let free = || owner("m1", false, false);
        let imported = |suspended: bool, disabled: bool| {
            owner("m1", suspended, disabled).map(|owner| Owner { unconfirmed_at: Some(Millis(1)), ..owner })
        };
        let table = [
            (SignIn, None, free(), false, Decision::SignIn(free().unwrap())),
            (SignIn, Some("m2"), free(), false, Decision::SignIn(free().unwrap())),
            (SignIn, Some("m1"), free(), true, Decision::SignIn(free().unwrap())),
            (SignIn, None, owner("m1", true, false), false, Decision::Unavailable),
            (SignIn, None, owner("m1", false, true), false, Decision::Unavailable),
            // What the company says signs nobody in by itself.
            (SignIn, None, imported(false, false), false, Decision::ConfirmImported(imported(false, false).unwrap())),
            (
                SignIn,
                Some("m2"),
                imported(false, false),
                true,
                Decision::ConfirmImported(imported(false, false).unwrap()),
            ),
            (SignIn, None, imported(true, false), false, Decision::Unavailable),
            (SignIn, None, imported(false, true), false, Decision::Unavailable),
            (Link, Some("m1"), imported(false, false), true, Decision::Confirm),
            (
                Link,
                Some("m2"),
                imported(false, false),
                false,
                Decision::OwnedByAnother(imported(false, false).unwrap()),
            ),
            (SignIn, None, None, false, Decision::OfferToSignUp),
            (SignIn, Some("m1"), None, false, Decision::OfferToLink),
            (SignIn, Some("m1"), None, true, Decision::OfferToLink),
            (Link, Some("m1"), None, false, Decision::Confirm),
            (Link, Some("m1"), None, true, Decision::MemberHasAnother),
            (Link, Some("m1"), free(), true, Decision::AlreadyYours),
            // K17: what a reset suspended is resumed by a yes of its owner, and of nobody else.
            (Link, Some("m1"), owner("m1", true, false), true, Decision::Confirm),
            (
                Link,
                Some("m2"),
                owner("m1", true, false),
                false,
                Decision::OwnedByAnother(owner("m1", true, false).unwrap()),
            ),
            (Link, Some("m2"), free(), false, Decision::OwnedByAnother(free().unwrap())),
            (
                Link,
                Some("m2"),
                owner("m1", true, true),
                true,
                Decision::OwnedByAnother(owner("m1", true, true).unwrap()),
            ),
            (Ticket, Some("m1"), None, false, Decision::Confirm),
            (Ticket, Some("m1"), None, true, Decision::MemberHasAnother),
            (Ticket, Some("m1"), free(), true, Decision::AlreadyYours),
            (Ticket, Some("m1"), owner("m1", true, false), true, Decision::Confirm),
            (Ticket, Some("m2"), free(), false, Decision::OwnedByAnother(free().unwrap())),
            (Link, None, None, false, Decision::OfferToSignUp),
            (Link, None, free(), false, Decision::OwnedByAnother(free().unwrap())),
        ];
        for (purpose, member, owner, other, expected) in table {
            assert_eq!(
                decide(purpose, member, owner.clone(), other),
                expected,
                "{purpose:?} {member:?} {owner:?} {other}"
            );
        }
    }
}
