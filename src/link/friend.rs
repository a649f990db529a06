//! `/account/friend`: without the official account as a friend nothing that we send arrives in LINE. So whoever has linked,
//! and is no friend, is asked to add it, and the page notices by itself when LINE tells us that they did.
//!
//! Whether somebody is a friend is a fact of the channel that is linked to the login channel; the link does not hang on it.

use askama::Template;
use axum::{
    Json,
    extract::{Query, State},
    http::{HeaderValue, header},
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{find_active, ticket::qr};
use crate::{
    app::App,
    db::Conn,
    error::{Error, Result},
    line::message::url,
    line_user::{self, Friend},
    member::guard::SignedIn,
    web::{
        headers,
        page::{Page, html},
        return_to,
        visit::Visit,
    },
};

/// Where somebody is who has linked.
pub(super) const LINKED: &str = "/account?done=linked";

#[derive(Template)]
#[template(path = "link/friend.html")]
struct AddFriend {
    page: Page,
    label: String,
    is_linked_now: bool,
    friend: Friend,
    /// The official account's page in LINE, as an address and as a picture of it.
    url: String,
    qr: String,
    here: String,
    state: String,
    next: String,
}

#[derive(Deserialize)]
pub struct Asked {
    provider: String,
    #[serde(default)]
    done: String,
    /// Where the person goes on to.
    #[serde(default)]
    return_to: String,
}

#[derive(Deserialize)]
pub struct OfProvider {
    provider: String,
}

/// `GET /account/friend`: looks again by itself, by a script or by a press.
pub async fn show(
    State(app): State<App>,
    visit: Visit,
    SignedIn(session): SignedIn,
    Query(asked): Query<Asked>,
) -> Result<Response> {
    let url = page_in_line(&app, &asked.provider);
    let friend = find_friend(&mut *app.db.conn().await?, &app, &session.member_id, &asked.provider).await?;
    let (Some(url), Some(friend)) = (url, friend) else { return Ok(Redirect::to("/account").into_response()) };
    let next = match return_to::path(&asked.return_to, &app.config.public_url) {
        path if path == "/" => "/account".to_owned(),
        path => path,
    };
    let page = Page::new(&app, &visit);
    let mut answer = html(&AddFriend {
        label: app.config.label_of(&asked.provider),
        is_linked_now: asked.done == "linked",
        friend,
        qr: qr::svg(&url)?,
        url,
        here: visit.here,
        state: format!("/account/friend/state?provider={}", asked.provider),
        next,
        page,
    })?;
    // Its script asks us whether they are a friend by now.
    let policy = HeaderValue::from_str(&headers::policy(&app, "connect-src 'self'; ")).map_err(Error::internal)?;
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    Ok(answer)
}

/// `GET /account/friend/state`: the same for the page's script.
pub async fn state(
    State(app): State<App>,
    SignedIn(session): SignedIn,
    Query(asked): Query<OfProvider>,
) -> Result<Json<Value>> {
    let friend = find_friend(&mut *app.db.conn().await?, &app, &session.member_id, &asked.provider).await?;
    let friend = friend.ok_or(Error::NotFound)?;
    Ok(Json(json!({ "state": friend.word() })))
}

/// Where somebody goes on to who has just linked: to be asked for the friend, where they are known to be none. The link
/// is made by then: whatever goes wrong here keeps nobody from their account.
pub(super) async fn after_link(app: &App, provider: &str, line_user_id: &str) -> String {
    match offer(app, provider, line_user_id).await {
        Ok(Some(_)) => format!("/account/friend?provider={provider}&done=linked"),
        Ok(None) => LINKED.to_owned(),
        Err(error) => {
            tracing::warn!(%error, "not known whether the person is a friend");
            LINKED.to_owned()
        }
    }
}

/// The official account's page in LINE, for a LINE user who is known to be no friend.
pub(super) async fn offer(app: &App, provider: &str, line_user_id: &str) -> Result<Option<String>> {
    let (Some((channel, _)), Some(url)) = (app.config.linked_channel(provider), page_in_line(app, provider)) else {
        return Ok(None);
    };
    let friend = line_user::find_friend(&mut *app.db.conn().await?, line_user_id, channel).await?;
    Ok((friend == Friend::No).then_some(url))
}

/// Where a person adds a provider's official account.
pub(super) fn page_in_line(app: &App, provider: &str) -> Option<String> {
    let (_, channel) = app.config.linked_channel(provider)?;
    channel.basic_id.as_deref().map(url::profile)
}

/// Whether a member's LINE user is a friend; none where they are not linked, or no official account is.
async fn find_friend(conn: &mut Conn, app: &App, member_id: &str, provider: &str) -> Result<Option<Friend>> {
    let Some((channel, _)) = app.config.linked_channel(provider) else { return Ok(None) };
    match find_active(conn, member_id, provider).await? {
        Some(active) => line_user::find_friend(conn, &active.line_user_id, channel).await.map(Some),
        None => Ok(None),
    }
}
