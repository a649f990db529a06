//! The end: LINE's event after its dialog, or that none came.

use super::{
    Begun, LIFE, record_refusal, set_outcome, take, take_expired,
    verdict::{Facts, Reason, Verdict, judge},
};
use crate::{
    app::App,
    audit,
    db::{Conn, Millis},
    error::{Error, Result},
    line_user,
    link::{
        cleanup, consent, find_owner,
        refusal::Cause,
        say::{self, Chat},
        tell::{self, Linked},
        tie::{Tied, Wanted, tie},
    },
    member::{self, Member, session},
    message::answer::Reply,
    queue::Outcome,
};

/// The event that LINE sends after its dialog.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    pub channel: &'a str,
    /// None where it failed: LINE does not say whose it was.
    pub line_user_id: Option<&'a str>,
    pub nonce: &'a str,
    pub is_ok: bool,
    pub reply: Option<&'a Reply>,
    /// Another one speaks in this chat at present: nothing is said there, not even by a push.
    pub is_standby: bool,
}

/// Ends: links, or says why not. In the transaction that handles the event. Whatever comes of it burns the nonce; a
/// used one changes nothing.
pub async fn arrive(conn: &mut Conn, app: &App, arrival: Arrival<'_>) -> Result<()> {
    let Some(known) = super::find_by_nonce(conn, arrival.nonce).await? else {
        tracing::warn!(channel = arrival.channel, "an account link with a nonce that is not ours");
        return record_refusal(conn, app, None, None, "unknown_nonce", None).await;
    };
    // The member before the rest, as everybody who makes or ends links holds them.
    let member = match &known.member_id {
        Some(member_id) => member::hold(conn, &app.db, member_id).await?,
        None => None,
    };
    let Some(begun) = take(conn, app.now(), arrival.nonce).await? else { return Ok(()) };
    let facts = look(conn, app, &arrival, &begun, member.as_ref()).await?;
    let reason = match (judge(&facts), &member) {
        (Verdict::Link, Some(member)) => match link(conn, app, &arrival, &begun, member).await? {
            Ok(()) => return set_outcome(conn, &begun.id, "linked").await,
            Err(cause) => Reason::Conflict(cause),
        },
        (Verdict::Link, None) => Reason::MemberChanged,
        (Verdict::Refuse(reason), _) => reason,
    };
    set_outcome(conn, &begun.id, reason.word()).await?;
    record_refusal(conn, app, Some(&begun), begun.member_id.as_deref(), reason.word(), None).await?;
    refuse(conn, app, &arrival, &begun, reason).await
}

async fn look(
    conn: &mut Conn,
    app: &App,
    arrival: &Arrival<'_>,
    begun: &Begun,
    member: Option<&Member>,
) -> Result<Facts> {
    let is_same_person = arrival.line_user_id == Some(begun.line_user_id.as_str()) && arrival.channel == begun.channel;
    Ok(Facts {
        is_ok: arrival.is_ok,
        is_same_person,
        is_in_time: app.now() < begun.expires_at,
        is_member_unchanged: match member {
            Some(member) => is_unchanged(conn, begun, member).await?,
            None => false,
        },
        is_unlinked_since: is_unlinked_since(conn, begun).await?,
    })
}

/// Whether the member has the password, and is in the session, of the yes.
async fn is_unchanged(conn: &mut Conn, begun: &Begun, member: &Member) -> Result<bool> {
    let same: Option<String> = sqlx::query_scalar(
        "SELECT id FROM members WHERE id = $1 AND (password_changed_at IS NULL OR password_changed_at <= $2)",
    )
    .bind(&member.id)
    .bind(begun.agreed_at)
    .fetch_optional(&mut *conn)
    .await?;
    let lineage_id = begun.lineage_id.as_deref().unwrap_or_default();
    Ok(same.is_some() && session::is_lineage_live(conn, &member.id, lineage_id).await?)
}

async fn is_unlinked_since(conn: &mut Conn, begun: &Begun) -> Result<bool> {
    let ended: Option<String> = sqlx::query_scalar(
        "SELECT id FROM links WHERE line_user_id = $1 AND member_id = $2 AND ended_at >= $3 LIMIT 1",
    )
    .bind(&begun.line_user_id)
    .bind(&begun.member_id)
    .bind(begun.agreed_at)
    .fetch_optional(conn)
    .await?;
    Ok(ended.is_some())
}

/// Links with its evidence, its audit row, its welcome and its menu; or says who holds the place.
async fn link(
    conn: &mut Conn,
    app: &App,
    arrival: &Arrival<'_>,
    begun: &Begun,
    member: &Member,
) -> Result<Result<(), Cause>> {
    let channel = app.config.channel.get(&begun.channel).ok_or(Error::NotFound)?;
    let (version, locale) = begun.consent_version.as_deref().zip(begun.consent_locale.as_deref()).unwrap_or_default();
    let wanted = Wanted {
        provider: &channel.provider,
        line_user_id: &begun.line_user_id,
        member_id: &member.id,
        source: "account_link",
        permission: "none",
        consent_version: version,
        consent_locale: locale,
    };
    let tied = match tie(conn, app, app.now(), &wanted).await? {
        Ok(tied) => tied,
        Err(cause) => return Ok(Err(cause)),
    };
    cleanup::close_menus(conn, app.now(), &begun.line_user_id).await?;
    // Agreed to on our page; what the link does begins now.
    let agreed_at = begun.agreed_at.unwrap_or_else(|| app.now());
    consent::insert(conn, agreed_at, tied.link_id(), version, locale).await?;
    let entry = audit::Entry {
        action: tied.action(),
        member_id: Some(&member.id),
        subject: Some(tied.link_id()),
        provider: Some(&channel.provider),
        data: serde_json::json!({ "line_user": begun.line_user_id, "consent": version, "account_link": begun.id }),
        ..Default::default()
    };
    audit::insert(conn, app.now(), entry).await?;
    tell(conn, app, arrival, begun, member, &channel.provider, &tied).await?;
    Ok(Ok(()))
}

/// The welcome in this chat by the event's reply token, as a push on the provider's other channels; menus, mail.
async fn tell(
    conn: &mut Conn,
    app: &App,
    arrival: &Arrival<'_>,
    begun: &Begun,
    member: &Member,
    provider: &str,
    tied: &Tied,
) -> Result<()> {
    let page_locale = begun.locale.as_deref().unwrap_or(&app.config.default_locale);
    let linked = Linked {
        link_id: tied.link_id(),
        provider,
        line_user_id: &begun.line_user_id,
        member_id: &member.id,
        name: &member.name,
        email: &member.email,
        locale: page_locale,
        mail_locale: member.locale.as_deref().unwrap_or(page_locale),
    };
    let chat = Chat { channel: arrival.channel, line_user_id: &begun.line_user_id, reply: arrival.reply };
    if let Tied::New(_) = tied {
        let content = tell::welcome_content(conn, app, &linked).await?;
        let is_told = arrival.is_standby || say::answer(conn, app, &chat, "linked", &content).await?;
        tell::welcome(conn, app, &linked, is_told.then_some(arrival.channel)).await?;
    } else if !arrival.is_standby {
        let owner = find_owner(conn, &begun.line_user_id).await?.ok_or(Error::NotFound)?;
        say::about_owner(conn, app, &chat, "linked", "status_linked", &owner).await?;
    }
    tell::menus(conn, app, provider, &begun.line_user_id).await?;
    let line_user = line_user::find(conn, &begun.line_user_id).await?.ok_or(Error::NotFound)?;
    tell::mail(conn, app, &linked, &line_user.display_name).await
}

/// Says so to the person whom the link token was made for.
async fn refuse(conn: &mut Conn, app: &App, arrival: &Arrival<'_>, begun: &Begun, reason: Reason) -> Result<()> {
    // The reply token is of the event's source: theirs only where it is the same person.
    let is_theirs = arrival.line_user_id == Some(begun.line_user_id.as_str()) && arrival.channel == begun.channel;
    let reply = arrival.reply.filter(|_| is_theirs);
    let chat = Chat { channel: &begun.channel, line_user_id: &begun.line_user_id, reply };
    if reason == Reason::Conflict(Cause::ConflictLine) {
        tell_owner(conn, app, arrival, begun).await?;
    }
    let template = match reason {
        Reason::OtherPerson => {
            tracing::error!(
                account_link = begun.id,
                "alarm: account_link: LINE says yes for somebody whom the link token was not made for"
            );
            return Ok(());
        }
        _ if arrival.is_standby => return Ok(()),
        Reason::Expired => "link_expired",
        Reason::Failed => "link_other_line",
        Reason::MemberChanged | Reason::UnlinkedSince => "link_failed",
        Reason::Conflict(Cause::AlreadyYours) => {
            let owner = find_owner(conn, &begun.line_user_id).await?.ok_or(Error::NotFound)?;
            return say::about_owner(conn, app, &chat, "link", "link_already", &owner).await;
        }
        Reason::Conflict(Cause::ConflictLine) => "link_taken",
        Reason::Conflict(Cause::ConflictMember) => "link_member_taken",
        Reason::Conflict(_) => "link_failed",
    };
    say::say(conn, app, &chat, "link", template, &[]).await.map(|_| ())
}

/// The owner, too, is the person of this chat.
async fn tell_owner(conn: &mut Conn, app: &App, arrival: &Arrival<'_>, begun: &Begun) -> Result<()> {
    let provider = app.config.channel.get(&begun.channel).map(|channel| channel.provider.as_str());
    if let (Some(provider), Some(owner)) = (provider, find_owner(conn, &begun.line_user_id).await?) {
        let but = arrival.is_standby.then_some(arrival.channel);
        tell::owner(conn, app, provider, &begun.line_user_id, &owner, but).await?;
    }
    Ok(())
}

/// [`Job::ExpireLink`](crate::queue::Job::ExpireLink): LINE sends nothing where its dialog was left or came too late.
pub async fn expire(app: &App, account_link_id: &str) -> Result<Outcome> {
    let now: Millis = app.now();
    let mut tx = app.db.begin().await?;
    let Some(begun) = take_expired(&mut tx, now, account_link_id).await? else { return Ok(Outcome::Done) };
    // After an outage that took long it is no news any more.
    if now < begun.expires_at.plus(6 * LIFE) && app.config.channel.contains_key(&begun.channel) {
        let chat = Chat { channel: &begun.channel, line_user_id: &begun.line_user_id, reply: None };
        say::say(&mut tx, app, &chat, "link", "link_expired", &[]).await?;
    }
    tx.commit().await?;
    app.wake();
    Ok(Outcome::Done)
}
