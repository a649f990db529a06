//! `musubi doctor`: what going live needs, checked one by one, with the next step where something is missing.

mod token;

use std::fmt;

use crate::{
    app::App,
    channel::{self, Kind},
    config::LineHosts,
    hook,
    line::{self, jwks::Algorithm},
    link, message,
    oidc::Oidc,
    rich_menu::command::{self as rich_menu, Compared},
};

/// One thing looked at.
#[derive(Debug)]
pub struct Finding {
    what: String,
    result: Result<String, String>,
}

impl Finding {
    pub fn is_fine(&self) -> bool {
        self.result.is_ok()
    }

    fn new<T: Into<String>, E: fmt::Display>(what: impl Into<String>, result: Result<T, E>) -> Self {
        Self { what: what.into(), result: result.map(Into::into).map_err(|error| error.to_string()) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.result {
            Ok(text) => write!(f, "✓ {}: {text}", self.what),
            Err(text) => write!(f, "✗ {}: {text}", self.what),
        }
    }
}

/// Looks at everything; the configuration itself was checked when it was read.
pub async fn examine(app: &App) -> Vec<Finding> {
    let schema = app.db.check_schema().await;
    let readable = schema.is_ok();
    let mut findings = vec![
        Finding::new::<_, fmt::Error>("configuration", Ok("read, without mistakes")),
        Finding::new("database schema", schema.map(|()| "up to date")),
        Finding::new("secrets", sealing(app)),
        Finding::new("public URL", public_url(app)),
        Finding::new("mail", mail(app).await),
        Finding::new("LINE hosts", line_hosts(app)),
    ];
    if readable {
        findings.push(Finding::new("consent texts", consent_texts(app).await));
        findings.push(Finding::new("outbox", outbox(app).await));
        findings.push(Finding::new("hooks", hooks(app).await));
    }
    if let Some(oidc) = &app.oidc {
        findings.push(Finding::new("company's sign-in", company(app, oidc).await));
        let back = app.config.url("/");
        let callback =
            format!("register {} at the provider, and {back} for after a sign-out", app.config.company_callback_url());
        findings.push(Finding::new::<_, fmt::Error>("callback of the company's sign-in", Ok(callback)));
    }
    for (name, provider) in app.config.provider.iter().filter(|(_, provider)| provider.login.is_some()) {
        findings.push(Finding::new(format!("LINE Login channel of {name}"), login(app, name).await));
        let callback = format!("register {} in LINE's console", app.config.callback_url(name));
        findings.push(Finding::new::<_, fmt::Error>(format!("callback of {name}"), Ok(callback)));
        if let Some(liff_id) = provider.login.as_ref().and_then(|login| login.liff_id.as_deref()) {
            findings.push(Finding::new(format!("LIFF app of {name}"), liff(app, name, liff_id).await));
        }
        if provider.login.as_ref().is_some_and(|login| login.channel.is_none()) {
            let text =
                format!("none named in provider.{name}.login.channel: friendship stays unknown, no friend is offered");
            findings.push(Finding::new::<_, fmt::Error>(format!("official account of {name}"), Ok(text)));
        }
    }
    for name in app.config.channel.keys() {
        findings.push(Finding::new(format!("Messaging channel {name}"), bot(app, name).await));
        if readable {
            findings.push(Finding::new(format!("access token of {name}"), token::of_bot(app, name).await));
            findings.push(Finding::new(format!("quota of {name}"), quota(app, name).await));
            findings.push(Finding::new(format!("rich menus of {name}"), menus(app, name).await));
            findings.push(Finding::new(format!("provider of {name}"), same_provider(app, name).await));
        }
    }
    findings
}

fn sealing(app: &App) -> Result<String, String> {
    let sealed = app.sealer.seal("doctor", b"x").map_err(|error| error.to_string())?;
    let opened = app.sealer.open("doctor", &sealed).map_err(|error| error.to_string())?;
    if opened == b"x" {
        Ok(format!("sealed with key {:?}", app.config.security.sealing_key))
    } else {
        Err("what was sealed did not open".into())
    }
}

/// Whether the company's provider can be read, with its keys.
async fn company(app: &App, oidc: &Oidc) -> Result<String, String> {
    let now = app.now().0;
    let found = oidc.discovery(now).await.map_err(|error| error.to_string())?;
    oidc.key(&found, Algorithm::Es256, None, now).await.map_err(|error| error.to_string())?;
    let ends =
        if found.end_session_endpoint.is_some() { "a sign-out ends there too" } else { "it announces no sign-out" };
    Ok(format!("{} answers, and its keys can be read; {ends}", oidc.issuer()))
}

/// Whether the texts are those that people agreed to under the same version.
async fn consent_texts(app: &App) -> Result<String, String> {
    let changed = link::consent::list_changed(app).await.map_err(|error| error.to_string())?;
    if changed.is_empty() {
        return Ok(format!("version {:?}", app.config.consent.version));
    }
    Err(changed.join("; "))
}

/// Whether something waits for an operator, since the database may have been put back from a backup.
async fn outbox(app: &App) -> Result<String, String> {
    let mut conn = app.db.conn().await.map_err(|error| error.to_string())?;
    let size = message::hold::size(&mut conn).await.map_err(|error| error.to_string())?;
    if size == message::hold::Size::default() {
        return Ok("nothing is held back".into());
    }
    Err(format!("{size}; look with `musubi outbox held`, then `musubi outbox release` or `cancel`"))
}

/// Whether the company's systems take what they are told. An endpoint's URL may hold a token, so that only its host is
/// named.
async fn hooks(app: &App) -> Result<String, String> {
    let mut conn = app.db.conn().await.map_err(|error| error.to_string())?;
    let list = hook::endpoint::list(&mut conn).await.map_err(|error| error.to_string())?;
    let name =
        |url: &str| url::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    let ill: Vec<String> = list
        .iter()
        .map(|endpoint| &endpoint.row)
        .filter_map(|row| match row.disabled_why.as_deref() {
            Some("failing") => Some(format!("{} ({}) took nothing for days, and is disabled", row.id, name(&row.url))),
            Some("gone") => Some(format!("{} ({}) says that it is gone, and is disabled", row.id, name(&row.url))),
            Some(_) => None,
            None if row.failing_since.is_some() => {
                Some(format!("{} ({}) takes nothing at present", row.id, name(&row.url)))
            }
            None => None,
        })
        .collect();
    if ill.is_empty() {
        return Ok(format!("{} endpoints, all well", list.len()));
    }
    Err(format!("{}; mend the receiver, enable the endpoint, and replay what it missed", ill.join("; ")))
}

fn public_url(app: &App) -> Result<String, String> {
    if app.config.is_plain_http() {
        return Err(format!("{} is plain http on this machine; LINE needs https from outside", app.config.public_url));
    }
    Ok(format!("{} (that it is reached from outside cannot be seen from here)", app.config.public_url))
}

/// Whether the mail server answers; no mail is sent.
async fn mail(app: &App) -> Result<String, String> {
    let Some(post) = &app.post else {
        return Ok("no [mail] section: nobody can sign up or reset a password, and nothing is mailed".into());
    };
    match post.test().await {
        Ok(true) => Ok("the mail server answers".into()),
        Ok(false) => Err("the mail server does not answer as one; look at mail.url".into()),
        Err(error) => Err(format!("{error}; look at mail.url")),
    }
}

fn line_hosts(app: &App) -> Result<String, String> {
    let (ours, theirs) = (&app.config.line, LineHosts::default());
    let foreign: Vec<String> = [
        ("access", &ours.access, &theirs.access),
        ("api", &ours.api, &theirs.api),
        ("api_data", &ours.api_data, &theirs.api_data),
        ("liff", &ours.liff, &theirs.liff),
        ("liff_sdk", &ours.liff_sdk, &theirs.liff_sdk),
        ("pictures", &ours.pictures, &theirs.pictures),
    ]
    .into_iter()
    .filter(|(_, ours, theirs)| ours != theirs)
    .map(|(name, ours, _)| format!("line.{name} is {}", ours.as_str().trim_end_matches('/')))
    .collect();
    if foreign.is_empty() {
        return Ok("LINE's own".into());
    }
    Err(format!("{}: that is not LINE; remove the [line] section to go live", foreign.join(", ")))
}

async fn login(app: &App, name: &str) -> Result<String, String> {
    let section = format!("provider.{name}.login");
    let next = format!("compare {section}.channel_id and channel_secret with LINE's console");
    channel::token(app, Kind::Login(name)).await.map_err(|error| refused(&error, &next))?;
    Ok("LINE took its id and secret".into())
}

/// Whether LINE's keys can be read, by which the tokens of the LIFF app are verified.
async fn liff(app: &App, name: &str, liff_id: &str) -> Result<String, String> {
    let keys = app.line.keys().await.map_err(|error| format!("LINE's keys cannot be read: {error}"))?;
    let (endpoint, keys) = (app.config.liff_endpoint(name), keys.len());
    Ok(format!(
        "set the endpoint URL of {liff_id} to {endpoint}, with the scopes openid and profile, in LINE's console ({keys} \
         keys of LINE read)"
    ))
}

/// The bot's own name and ID, which also prove its credentials.
async fn bot(app: &App, name: &str) -> Result<String, String> {
    let kind = app.config.channel.get(name).map(|channel| channel.token).unwrap_or_default();
    channel::token(app, Kind::Bot(name)).await.map_err(|error| refused(&error, &token::mend(name, kind)))?;
    let info = channel::call(app, Kind::Bot(name), |token| async move { app.line.bot_info(&token).await }).await;
    let info = info.map_err(|error| error.to_string())?;
    Ok(format!("{} ({})", info.display_name, info.basic_id))
}

/// How the month stands, and what is short.
async fn quota(app: &App, name: &str) -> Result<String, String> {
    let text = |error: &dyn fmt::Display| error.to_string();
    let outlook = message::quota::outlook(app, name).await.map_err(|error| text(&error))?;
    let state = message::quota::state(app, name).await.map_err(|error| text(&error))?;
    let stands = outlook.describe(&app.zone);
    match state.shortage {
        Some(why) => Err(format!("{why}; raise the plan at LINE, or wait for the next month ({stands})")),
        None => Ok(stands),
    }
}

/// Whether the rich menu files are in order, and are what was applied.
async fn menus(app: &App, name: &str) -> Result<String, String> {
    match rich_menu::compare(app, name).await.map_err(|error| error.to_string())? {
        Compared::NeverApplied => Ok("without mistakes; applied when `musubi serve` starts".into()),
        Compared::Same { version } => Ok(format!("applied as the files say (version {version})")),
        Compared::Differs(menus) => Err(format!(
            "the files differ from what was applied ({}); look with `musubi rich-menu plan --channel {name}`, then \
             `musubi rich-menu apply --channel {name}`",
            menus.join(", ")
        )),
    }
}

/// Why there is no token, with the next step where LINE refused the credentials.
fn refused(error: &line::Error, next: &str) -> String {
    match error {
        line::Error::Refused { status: 400..=404, .. } => format!("{error}; {next}"),
        other => other.to_string(),
    }
}

/// LINE has no call that names a channel's provider. What can be seen is whether the bot knows a LINE user
/// who signed in through the login channel: user IDs are per provider.
async fn same_provider(app: &App, name: &str) -> Result<String, String> {
    let provider = app.config.channel.get(name).map(|channel| channel.provider.clone()).unwrap_or_default();
    let text = |error: &dyn fmt::Display| error.to_string();
    let mut conn = app.db.conn().await.map_err(|error| text(&error))?;
    let friend: Option<String> = sqlx::query_scalar(
        "SELECT u.user_id FROM line_users u JOIN friends f ON f.line_user_id = u.id
         WHERE u.provider = $1 AND f.channel = $2 AND f.friend = 'yes' LIMIT 1",
    )
    .bind(&provider)
    .bind(name)
    .fetch_optional(&mut *conn)
    .await
    .map_err(|error| text(&error))?;
    let Some(user_id) = friend else { return Ok("not to be seen before the first friend signed in".into()) };
    let user = user_id.as_str();
    match channel::call(app, Kind::Bot(name), |token| async move { app.line.profile_of(&token, user).await }).await {
        Ok(Some(_)) => Ok(format!("the bot knows a LINE user of {provider}")),
        Ok(None) | Err(line::Error::Refused { status: 400, .. }) => Err(format!(
            "the bot does not know a friend who signed in through {provider}: are both channels of one provider?"
        )),
        Err(error) => Err(text(&error)),
    }
}
