//! Link tickets: made for a member, looked at, revoked, and what came of them redeemed.

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{caller::Caller, json::Json, path::Path, time};
use crate::{
    app::App,
    error::{Error, Flaw, Kind, Problem, Result},
    link::ticket::{self, New, Ticket, Unfit},
    member::company,
};

/// Whom a ticket is for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// The company's own id of the member.
    #[schema(example = "1001")]
    member: String,
    /// May be left out where there is one.
    #[schema(example = "main")]
    provider: Option<String>,
    /// Where the person goes after linking, with `result` added: a page of an origin in the configuration's
    /// `tickets.return_urls`. Without it they end on a page of Musubi's.
    #[schema(example = "http://localhost:3000/linked?state=af0ifjsldkj")]
    return_url: Option<String>,
}

/// A new ticket. All of it is told once.
#[derive(Debug, Serialize, ToSchema)]
pub struct Made {
    #[schema(example = "0198c5a2-7d3e-7b1a-9c41-5f0e8a6b2d10")]
    id: String,
    /// What the member opens, on any device. Whoever has it can link their LINE account to the member.
    #[schema(example = "https://members.example.jp/t/4f0aNwqV1c3r8Yk2uJ9xZb7TgHs5LmPeQdRi6WoXyAc")]
    url: String,
    /// To be typed at `/t`, where `url` cannot be opened.
    #[schema(example = "ABCD-EF23")]
    code: String,
    /// A QR code of `url`, as SVG.
    #[schema(example = "<svg …>")]
    qr_svg: String,
    /// A page that shows how far it is, for the screen it was shown on; nobody can link by it.
    #[schema(example = "https://members.example.jp/t/watch/Qm3Zk8sVt1Yp6Lx0Wd4Rb9Nf2Hc7Gj5Ea1Uo8Ti3Ks6")]
    status_url: String,
    #[schema(example = "2026-12-24T09:10:00.000Z")]
    expires_at: String,
}

/// A ticket as it stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct Standing {
    #[schema(example = "0198c5a2-7d3e-7b1a-9c41-5f0e8a6b2d10")]
    id: String,
    /// The company's own id of the member, where there is one.
    #[schema(example = "1001")]
    member: Option<String>,
    #[schema(example = "main")]
    provider: String,
    /// `waiting`, `opened` (somebody went to LINE with it), `linked`, `revoked` (also by what became of the member) or
    /// `expired`.
    #[schema(example = "waiting")]
    state: &'static str,
    return_url: Option<String>,
    #[schema(example = "2026-12-24T09:00:00.000Z")]
    created_at: String,
    #[schema(example = "2026-12-24T09:10:00.000Z")]
    expires_at: String,
    opened_at: Option<String>,
    revoked_at: Option<String>,
    linked_at: Option<String>,
    /// The link that it made.
    link_id: Option<String>,
}

/// What a person brought back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Brought {
    /// The parameter `result` of the address that they came to.
    #[schema(example = "KaI2YOxCUHHy0idLqknf44-Vec2M86b0wJBOZq3GFJE", pattern = "^[A-Za-z0-9_-]+$")]
    result: String,
}

/// What came of a ticket.
#[derive(Debug, Serialize, ToSchema)]
pub struct Outcome {
    ticket_id: String,
    #[schema(example = "1001")]
    member: Option<String>,
    #[schema(example = "main")]
    provider: String,
    linked: bool,
    link_id: String,
    #[schema(example = "2026-12-24T09:02:11.000Z")]
    linked_at: String,
}

impl Standing {
    fn of(app: &App, ticket: Ticket) -> Self {
        Self {
            state: ticket.state(app.now()).word(),
            id: ticket.id,
            member: ticket.external_id,
            provider: ticket.provider,
            return_url: ticket.return_url,
            created_at: time(ticket.created_at),
            expires_at: time(ticket.expires_at),
            opened_at: ticket.opened_at.map(time),
            revoked_at: ticket.revoked_at.map(time),
            linked_at: ticket.used_at.map(time),
            link_id: ticket.link_id,
        }
    }
}

/// Make a link ticket
///
/// An address by which one member links a LINE account, once, within ten minutes, without a sign-in: show it as a link,
/// a QR code or a code to be typed, to the member and to nobody else. Open `status_url` beside it, or ask for the ticket
/// by its id, to learn when it was used.
#[utoipa::path(
    post, path = "/api/v1/link-tickets", tag = "Link tickets", operation_id = "create_link_ticket",
    request_body = Wanted,
    responses(
        (status = 201, description = "The ticket", body = Made),
        (status = 409, description = "The member is linked already"),
    ),
    security(("key" = ["tickets:write"])),
)]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Json(wanted): Json<Wanted>,
) -> Result<(StatusCode, Json<Made>)> {
    let provider = provider(&app, &caller, wanted.provider.as_deref())?;
    let mut tx = app.db.begin().await?;
    let member_id = company::find_id(&mut tx, &wanted.member).await?.ok_or_else(|| refuse(Unfit::Member))?;
    let new = New {
        member_id: &member_id,
        provider: &provider,
        return_url: wanted.return_url.as_deref(),
        made_by: &caller.actor(),
    };
    let made = ticket::create(&mut tx, &app, &new).await?.map_err(refuse)?;
    tx.commit().await?;
    let ticket::Made { id, url, code, qr_svg, status_url, expires_at } = made;
    Ok((StatusCode::CREATED, Json(Made { id, url, code, qr_svg, status_url, expires_at: time(expires_at) })))
}

/// See how far a link ticket is
#[utoipa::path(
    get, path = "/api/v1/link-tickets/{id}", tag = "Link tickets", operation_id = "get_link_ticket",
    params(("id" = String, Path, description = "The ticket's id", example = "0198c5a2-7d3e-7b1a-9c41-5f0e8a6b2d10")),
    responses((status = 200, description = "The ticket as it stands", body = Standing)),
    security(("key" = ["tickets:write"])),
)]
pub async fn show(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<Standing>> {
    Ok(Json(Standing::of(&app, find(&app, &caller, &id).await?)))
}

/// Revoke a link ticket
///
/// From now on nobody links by it, also who has begun. Where it is over already this changes nothing. The link of one
/// that was used stays.
#[utoipa::path(
    delete, path = "/api/v1/link-tickets/{id}", tag = "Link tickets", operation_id = "revoke_link_ticket",
    params(("id" = String, Path, description = "The ticket's id", example = "0198c5a2-7d3e-7b1a-9c41-5f0e8a6b2d10")),
    responses((status = 200, description = "The ticket as it stands now", body = Standing)),
    security(("key" = ["tickets:write"])),
)]
pub async fn revoke(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<Standing>> {
    let found = find(&app, &caller, &id).await?;
    let mut tx = app.db.begin().await?;
    ticket::revoke(&mut tx, app.now(), &found, &caller.actor()).await?;
    tx.commit().await?;
    show(State(app), caller, Path(id)).await
}

/// Redeem a result
///
/// A person who linked by a ticket comes to its `return_url` with the parameter `result`. It is told once, within ten
/// minutes, who that was: so a link that somebody copies is of no use to them.
#[utoipa::path(
    post, path = "/api/v1/link-tickets/redeem", tag = "Link tickets", operation_id = "redeem_link_ticket",
    request_body = Brought,
    responses(
        (status = 200, description = "What came of the ticket", body = Outcome),
        (status = 404, description = "Unknown, redeemed before, or too old; which of these is not told"),
    ),
    security(("key" = ["tickets:write"])),
)]
pub async fn redeem(State(app): State<App>, caller: Caller, Json(brought): Json<Brought>) -> Result<Json<Outcome>> {
    let mut tx = app.db.begin().await?;
    let found = ticket::redeem(&mut tx, app.now(), &brought.result, &caller.providers).await?;
    let found = found.ok_or(Error::NotFound)?;
    tx.commit().await?;
    Ok(Json(Outcome {
        ticket_id: found.ticket_id,
        member: found.external_id,
        provider: found.provider,
        linked: true,
        link_id: found.link_id,
        linked_at: time(found.linked_at),
    }))
}

/// A ticket that the key may know of.
async fn find(app: &App, caller: &Caller, id: &str) -> Result<Ticket> {
    let found = ticket::find(&mut *app.db.conn().await?, id).await?.ok_or(Error::NotFound)?;
    if !caller.sees(&found.provider) {
        return Err(caller.refuse_foreign(app, "link_ticket", id).await);
    }
    Ok(found)
}

/// The provider that is named, or the only one with LINE Login that the key is for. Another key's is none.
fn provider(app: &App, caller: &Caller, named: Option<&str>) -> Result<String> {
    let mut known = caller.providers(app).filter(|name| app.config.provider[*name].login.is_some());
    let found = match named {
        Some(named) => known.find(|name| *name == named),
        None => known.next().filter(|_| known.next().is_none()),
    };
    found.map(str::to_owned).ok_or_else(|| refuse(Unfit::Provider))
}

fn refuse(unfit: Unfit) -> Error {
    let wrong = |path: &str, message: &str| Problem::invalid(vec![Flaw::new(path, message)]).into();
    match unfit {
        Unfit::Provider => wrong("provider", "names no provider with LINE Login, or is needed where there are several"),
        Unfit::ReturnUrl => wrong(
            "return_url",
            "must be a page of an origin in tickets.return_urls, with no fragment and no parameter result",
        ),
        Unfit::Member => wrong("member", "names no member, or one who is disabled"),
        Unfit::AlreadyLinked => {
            Problem::new(Kind::AlreadyLinked, "Unlink the member first, or leave the link as it is.").into()
        }
    }
}
