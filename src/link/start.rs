//! The start of every way through LINE Login: `POST /line/start`.

use axum::{
    Form,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;
use url::Url;

use super::{
    Purpose,
    attempt::{self, LIFE},
    liff::{
        proven::{self, Claim},
        seen,
    },
    ticket::{self, Ticket},
};
use crate::{
    app::App,
    config::BotPrompt,
    error::{Error, Result},
    line::login::{Authorize, LoginChannel},
    member::guard::MaybeSession,
    seal,
    web::{browser, cookie, return_to, visit::Visit},
};

#[derive(Deserialize)]
pub struct Fields {
    purpose: String,
    provider: String,
    #[serde(default)]
    return_to: String,
    /// Set by the button of an error page: LINE's auto login is not tried again.
    fresh: Option<String>,
}

impl Fields {
    /// The page from which a link is started, after the sign-in: it too starts afresh, or LINE opens the other browser again.
    fn account(&self) -> &'static str {
        if self.fresh.is_some() { "/account?fresh=1" } else { "/account" }
    }
}

/// `POST /line/start`: makes an attempt and sends the browser to LINE.
pub async fn submit(
    State(app): State<App>,
    visit: Visit,
    MaybeSession(session): MaybeSession,
    headers: HeaderMap,
    Form(fields): Form<Fields>,
) -> Result<Response> {
    let purpose = Purpose::of_word(&fields.purpose).ok_or(Error::BadRequest("unknown purpose"))?;
    let channel = login_channel(&app, &fields.provider)?;
    let session = match (purpose, session) {
        // A ticket is as good as a member's word, whoever is signed in here; for this one link.
        (Purpose::SignIn | Purpose::Ticket, _) => None,
        (Purpose::Link, None) => return Err(Error::SignIn { return_to: fields.account().into() }),
        // Only the password counts: LINE's own sign-in is silent, and would prove LINE by LINE.
        (Purpose::Link, Some(session)) if !session.is_fresh(app.now()) => {
            return Err(Error::Reauth { return_to: fields.account().into() });
        }
        (Purpose::Link, Some(session)) => Some(session),
    };

    let ticket = match purpose {
        Purpose::Ticket => Some(ticket::page::of_form(&app, &visit, &fields.provider, &fields.return_to).await?),
        Purpose::SignIn | Purpose::Link => None,
    };
    let browser = browser::of(&app, &visit, &headers);
    // Who proved their LINE account by LIFF just now is not sent through LINE, which is not open inside of LIFF.
    if purpose != Purpose::SignIn && fields.fresh.is_none() {
        let (session, ticket) = (session.as_ref(), ticket.as_ref());
        let claim = Claim { provider: &fields.provider, visit: &visit, browser: &browser, session, ticket };
        if let Some(answer) = proven::claim(&app, &claim).await? {
            return Ok(answer);
        }
    }
    if is_inside_liff(&app, &headers, &browser).await? {
        return Ok(Redirect::to(&format!("/liff/{}", fields.provider)).into_response());
    }
    let new = attempt::New {
        provider: &fields.provider,
        purpose,
        session: session.as_ref(),
        browser: &browser,
        ticket: ticket.as_ref(),
        return_to: &way_back(&app, &fields, ticket.as_ref()),
        address: &visit.address,
        user_agent: &visit.user_agent,
    };
    let mut tx = app.db.begin().await?;
    let secrets = attempt::insert(&mut tx, &app, &new).await?;
    if let Some(ticket) = &ticket {
        ticket::open(&mut tx, app.now(), ticket, &visit.address).await?;
    }
    tx.commit().await?;
    let url = authorize_url(&app, &channel, &visit, &fields, &secrets)?;
    // A little longer than the attempt, so that a late return is told "too late" and not "wrong browser".
    let life = i64::try_from(LIFE.as_secs() * 6).ok();
    Ok((cookie::set(&app.config, cookie::ATTEMPT, &browser, life), Redirect::to(url.as_str())).into_response())
}

/// Whether this is LINE's browser and showed us a LIFF app's tokens: LINE Login is not open there, and the LIFF app's page
/// is the way.
pub(super) async fn is_inside_liff(app: &App, headers: &HeaderMap, browser: &str) -> Result<bool> {
    let agent = headers.get("user-agent").and_then(|value| value.to_str().ok()).unwrap_or_default();
    Ok(agent.contains(" Line/") && seen::is_known(&mut *app.db.conn().await?, &seal::hash(browser)).await?)
}

/// A ticket's page has the ticket in its address: that is kept by its id, and nowhere as it is.
fn way_back(app: &App, fields: &Fields, ticket: Option<&Ticket>) -> String {
    match ticket {
        Some(_) => "/t".to_owned(),
        None => return_to::path(&fields.return_to, &app.config.public_url),
    }
}

/// Where LINE asks the person.
fn authorize_url(
    app: &App,
    channel: &LoginChannel,
    visit: &Visit,
    fields: &Fields,
    secrets: &attempt::Secrets,
) -> Result<Url> {
    let bot_prompt = app.config.provider[&fields.provider].login.as_ref().and_then(|login| match login.bot_prompt {
        BotPrompt::Normal => Some("normal"),
        BotPrompt::Aggressive => Some("aggressive"),
        BotPrompt::Off => None,
    });
    let ask = Authorize {
        state: &secrets.state,
        nonce: &secrets.nonce,
        verifier: &secrets.verifier,
        bot_prompt,
        ui_locales: visit.locale.tag(),
        disable_auto_login: fields.fresh.is_some(),
    };
    app.line.authorize_url(channel, &ask).map_err(Error::internal)
}

/// The LINE Login channel of a provider, as the LINE client wants it.
pub fn login_channel(app: &App, provider: &str) -> Result<LoginChannel> {
    let login = app.config.provider.get(provider).and_then(|found| found.login.as_ref()).ok_or(Error::NotFound)?;
    Ok(LoginChannel {
        channel_id: login.channel_id.clone(),
        secret: login.channel_secret.clone(),
        former_secret: login.former_channel_secret.clone(),
        redirect_uri: app.config.callback_url(provider),
    })
}
