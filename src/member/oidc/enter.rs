//! What follows from a proof: one transaction that keeps what was said of the member, and signs them in or notes that they
//! proved themselves again. It commits with its audit row, or nothing of it does.

use axum::response::{IntoResponse, Redirect, Response};

use super::{
    attempt::{self, Attempt},
    callback::Arrival,
    is_way_in,
    refusal::Cause,
};
use crate::{
    app::App,
    audit,
    db::{Conn, Millis},
    error::Result,
    member::{
        self,
        company::{self, By, Refusal, Wanted},
        session::{self, Method},
    },
    web::cookie,
};

/// Signs in whoever the company's id names, as a new member where they are not known yet.
pub async fn sign_in(
    arrival: &Arrival,
    attempt: &Attempt,
    mut wanted: Wanted,
    proved_at: Option<Millis>,
) -> Result<Result<Response, Cause>> {
    let app = &arrival.app;
    let creates = app.config.member.oidc.as_ref().is_some_and(|oidc| oidc.create);
    let mut tx = app.db.begin().await?;
    match company::hold(&mut tx, &app.db, &wanted.external_id).await? {
        Some(member) if member.disabled_at.is_some() => return Ok(Err(Cause::Unavailable)),
        None if !creates => return Ok(Err(Cause::Unknown)),
        // From the second time on they may have chosen otherwise here.
        Some(member) if is_way_in(&mut tx, app, &member.id).await? => {
            (wanted.language, wanted.time_zone) = (None, None)
        }
        Some(_) | None => {}
    }
    let member_id = match keep(&mut tx, app, wanted).await? {
        Ok(member_id) => member_id,
        Err(cause) => return Ok(Err(cause)),
    };
    let method = Method::Oidc { proved_at };
    let old = arrival.session.as_ref();
    let token = session::replace(&mut tx, app, &arrival.visit, old, &member_id, &method).await?;
    attempt::set_outcome(&mut tx, &attempt.id, "signed_in").await?;
    audit::insert(&mut tx, app.now(), entry(arrival, "signed_in", &member_id)).await?;
    tx.commit().await?;
    app.wake();
    Ok(Ok(answer(app, attempt, &token)))
}

/// Notes that the member who is signed in here just proved to be there.
pub async fn prove(
    arrival: &Arrival,
    attempt: &Attempt,
    mut wanted: Wanted,
    proved_at: Millis,
) -> Result<Result<Response, Cause>> {
    let app = &arrival.app;
    let Some(session) = &arrival.session else { return Ok(Err(Cause::SessionChanged)) };
    let mut tx = app.db.begin().await?;
    let member = company::hold(&mut tx, &app.db, &wanted.external_id).await?;
    if member.is_none_or(|member| member.id != session.member_id) {
        return Ok(Err(Cause::OtherMember));
    }
    (wanted.language, wanted.time_zone) = (None, None);
    if let Err(cause) = keep(&mut tx, app, wanted).await? {
        return Ok(Err(cause));
    }
    let method = Method::Oidc { proved_at: Some(proved_at) };
    let Some(token) = session::rotate(&mut tx, app, &arrival.visit, session, &method).await? else {
        return Ok(Err(Cause::SessionChanged));
    };
    attempt::set_outcome(&mut tx, &attempt.id, "stepped_up").await?;
    audit::insert(&mut tx, app.now(), entry(arrival, "stepped_up", &session.member_id)).await?;
    tx.commit().await?;
    app.wake();
    Ok(Ok(answer(app, attempt, &token)))
}

/// Makes or changes the member; gives their id (ours).
async fn keep(conn: &mut Conn, app: &App, wanted: Wanted) -> Result<Result<String, Cause>> {
    let issuer = app.oidc.as_ref().map_or("", |oidc| oidc.issuer());
    let is_verified = wanted.email.as_ref().is_some_and(Option::is_some);
    let by = By { what: "oidc", id: issuer };
    let kept = company::upsert(conn, app, &[wanted], by).await?.pop();
    let member_id = match kept {
        Some(Ok(kept)) => kept.member_id,
        Some(Err(Refusal::EmailTaken)) => return Ok(Err(Cause::EmailTaken)),
        Some(Err(refusal @ Refusal::TooManyAttributes)) => {
            tracing::warn!(%refusal, "what the company's provider says is not kept");
            return Ok(Err(Cause::ProviderFault));
        }
        None => return Ok(Err(Cause::ProviderFault)),
    };
    if is_verified {
        member::verify_email(conn, app.now(), &member_id).await?;
    }
    sqlx::query("UPDATE members SET oidc_at = $1 WHERE id = $2").bind(app.now()).bind(&member_id).execute(conn).await?;
    Ok(Ok(member_id))
}

fn entry<'a>(arrival: &'a Arrival, action: &'a str, member_id: &'a str) -> audit::Entry<'a> {
    audit::Entry {
        action,
        member_id: Some(member_id),
        address: Some(&arrival.visit.address),
        data: serde_json::json!({ "method": "oidc" }),
        ..Default::default()
    }
}

fn answer(app: &App, attempt: &Attempt, token: &str) -> Response {
    let target = if attempt.return_to == "/" { "/account" } else { attempt.return_to.as_str() };
    (cookie::set(&app.config, cookie::SESSION, token, None), Redirect::to(target)).into_response()
}
