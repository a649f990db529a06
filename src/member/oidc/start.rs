//! The start of the way to the company's provider: `POST /company/start`.

use axum::{
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{
    Purpose,
    attempt::{self, LIFE},
    provider,
    refusal::{Cause, Restart},
};
use crate::{
    app::App,
    error::{Error, Result},
    member::guard::MaybeSession,
    oidc::Authorize,
    web::{browser, cookie, form::Form, return_to, visit::Visit},
};

#[derive(Deserialize)]
pub struct Fields {
    purpose: String,
    #[serde(default)]
    return_to: String,
}

/// `POST /company/start`: makes an attempt and sends the browser to the company's provider.
pub async fn submit(
    State(app): State<App>,
    visit: Visit,
    MaybeSession(session): MaybeSession,
    headers: HeaderMap,
    Form(fields): Form<Fields>,
) -> Result<Response> {
    let oidc = provider(&app)?;
    let purpose = Purpose::of_word(&fields.purpose).ok_or(Error::BadRequest("unknown purpose"))?;
    let return_to = return_to::path(&fields.return_to, &app.config.public_url);
    let session = match (purpose, session) {
        (Purpose::SignIn, _) => None,
        (Purpose::Reauth, Some(session)) => Some(session),
        (Purpose::Reauth, None) => return Err(Error::SignIn { return_to }),
    };

    let discovery = oidc.discovery(app.now().0).await.map_err(|error| {
        tracing::warn!(%error, "nobody can be sent to the company's sign-in");
        Cause::ProviderFault.refuse(&Restart { purpose, return_to: return_to.clone() })
    })?;
    let browser = browser::of(&app, &visit, &headers);
    let new = attempt::New {
        purpose,
        session: session.as_ref(),
        browser: &browser,
        return_to: &return_to,
        address: &visit.address,
    };
    let mut tx = app.db.begin().await?;
    let secrets = attempt::insert(&mut tx, &app, &new).await?;
    tx.commit().await?;

    let ask = Authorize {
        state: &secrets.state,
        nonce: &secrets.nonce,
        verifier: &secrets.verifier,
        ui_locales: visit.locale.tag(),
        again: purpose == Purpose::Reauth,
    };
    let url = oidc.authorize_url(&discovery, &ask);
    // A little longer than the attempt, so that a late return is told "too late" and not "wrong browser".
    let life = i64::try_from(LIFE.as_secs() * 6).ok();
    Ok((cookie::set(&app.config, cookie::ATTEMPT, &browser, life), Redirect::to(url.as_str())).into_response())
}
