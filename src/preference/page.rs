//! `/account/preferences`: one form, kept as a whole or not at all.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{
    Chosen, Flaw, Wanted, keep, read_language, read_quiet, read_zone,
    zone::{self, Region},
};
use crate::{
    app::App,
    config::QuietHours,
    db::Conn,
    error::{Error, Result},
    member::{
        self,
        guard::SignedIn,
        session::{self, Session},
    },
    message::topic,
    web::{
        cookie,
        form::Form,
        locale::Locale,
        page::{Page, html},
        visit::Visit,
    },
};

const HERE: &str = "/account/preferences";
/// What the times of the form begin with where nobody has chosen any.
const USUAL: [&str; 2] = ["22:00", "07:00"];

#[derive(Template)]
#[template(path = "preference/page.html")]
struct Preferences {
    page: Page,
    is_saved: bool,
    topics: Vec<Topic>,
    /// The company's quiet hours, where it has any.
    company_hours: Option<[String; 2]>,
    is_quiet_own: bool,
    quiet_from: String,
    quiet_to: String,
    languages: [Locale; Locale::ALL.len()],
    language: String,
    regions: &'static [Region],
    /// Empty where it is the company's.
    zone: String,
    /// It is not among those that are offered.
    is_zone_rare: bool,
    company_zone: String,
    problem_quiet: bool,
    problem_language: bool,
    problem_zone: bool,
}

/// A topic that the company names.
struct Topic {
    name: String,
    label: String,
    description: String,
    is_wanted: bool,
}

#[derive(Deserialize)]
pub struct Asked {
    #[serde(default)]
    done: String,
}

#[derive(Deserialize)]
pub struct Fields {
    language: String,
    time_zone: String,
    /// `company` or `own`.
    quiet: String,
    #[serde(default)]
    quiet_from: String,
    #[serde(default)]
    quiet_to: String,
    /// `shown.NAME` for each topic that the page showed, and `topic.NAME` for each that is wanted. A topic that is new
    /// since then was not refused.
    #[serde(flatten)]
    others: BTreeMap<String, String>,
}

/// `GET /account/preferences`
pub async fn show(
    State(app): State<App>,
    visit: Visit,
    SignedIn(session): SignedIn,
    Query(asked): Query<Asked>,
) -> Result<Response> {
    let mut conn = app.db.conn().await?;
    let chosen = Chosen::find(&mut conn, &session.member_id).await?;
    let unwanted = unwanted(&mut conn, &app, &session.member_id).await?;
    let mut form = form(&app, &visit, &chosen, |name| !unwanted.contains(name));
    form.is_saved = asked.done == "saved";
    html(&form)
}

/// `POST /account/preferences`
pub async fn submit(
    State(app): State<App>,
    visit: Visit,
    SignedIn(session): SignedIn,
    Form(fields): Form<Fields>,
) -> Result<Response> {
    let wanted = match read(&app, &fields) {
        Ok(wanted) => wanted,
        Err(flaws) => return refuse(&app, &visit, &session, &fields, &flaws).await,
    };
    let mut tx = app.db.begin().await?;
    let ended = || Error::SignIn { return_to: HERE.into() };
    member::hold(&mut tx, &app.db, &session.member_id).await?.ok_or_else(ended)?;
    if !session::is_live(&mut tx, &session).await? {
        return Err(ended());
    }
    let changes = keep(&mut tx, &app, app.now(), &session.member_id, &visit.address, &wanted).await?;
    tx.commit().await?;
    app.wake();
    // The switch at the foot of the pages gives way to the newer choice.
    let switch = changes.contains(&"language").then(|| cookie::remove(&app.config, cookie::LOCALE));
    Ok((switch, Redirect::to("/account/preferences?done=saved")).into_response())
}

/// What the form says, or all that is wrong with it.
fn read(app: &App, fields: &Fields) -> Result<Wanted, Vec<Flaw>> {
    let language = read_language(&fields.language);
    let time_zone = read_zone(&fields.time_zone);
    let quiet_hours = read_quiet(&fields.quiet, &fields.quiet_from, &fields.quiet_to);
    let shown = app.config.topic.keys().filter(|name| fields.others.contains_key(&format!("shown.{name}")));
    let topics = shown.map(|name| (name.clone(), fields.others.contains_key(&format!("topic.{name}")))).collect();
    match (language, time_zone, quiet_hours) {
        (Ok(locale), Ok(time_zone), Ok(quiet_hours)) => Ok(Wanted { locale, time_zone, quiet_hours, topics }),
        (language, zone, quiet) => Err([language.err(), zone.err(), quiet.err()].into_iter().flatten().collect()),
    }
}

/// The form with what was said, and its mistakes.
async fn refuse(app: &App, visit: &Visit, session: &Session, fields: &Fields, flaws: &[Flaw]) -> Result<Response> {
    let mut conn = app.db.conn().await?;
    let chosen = Chosen::find(&mut conn, &session.member_id).await?;
    let unwanted = unwanted(&mut conn, app, &session.member_id).await?;
    let is_wanted = |name: &str| match fields.others.contains_key(&format!("shown.{name}")) {
        true => fields.others.contains_key(&format!("topic.{name}")),
        false => !unwanted.contains(name),
    };
    let [problem_language, problem_zone, problem_quiet] =
        [Flaw::Language, Flaw::Zone, Flaw::Quiet].map(|flaw| flaws.contains(&flaw));
    let before = form(app, visit, &chosen, is_wanted);
    let form = Preferences {
        language: if problem_language { before.language } else { fields.language.clone() },
        is_zone_rare: if problem_zone { before.is_zone_rare } else { is_rare(&fields.time_zone) },
        zone: if problem_zone { before.zone } else { fields.time_zone.clone() },
        is_quiet_own: fields.quiet == "own",
        quiet_from: fields.quiet_from.clone(),
        quiet_to: fields.quiet_to.clone(),
        problem_language,
        problem_zone,
        problem_quiet,
        ..before
    };
    Ok((StatusCode::UNPROCESSABLE_ENTITY, html(&form)?).into_response())
}

/// The topics that the member does not want to hear of.
async fn unwanted(conn: &mut Conn, app: &App, member_id: &str) -> Result<BTreeSet<String>> {
    let mut found = topic::list(conn, &app.db, &[member_id.to_owned()]).await?;
    Ok(found.remove(member_id).unwrap_or_default().into_iter().collect())
}

/// The form as what is chosen stands.
fn form(app: &App, visit: &Visit, chosen: &Chosen, is_wanted: impl Fn(&str) -> bool) -> Preferences {
    let (tag, default) = (visit.locale.tag(), &app.config.default_locale);
    let topics = app.config.topic.iter().map(|(name, topic)| Topic {
        label: topic.label(tag, default).to_owned(),
        description: topic.description(tag, default).to_owned(),
        is_wanted: is_wanted(name),
        name: name.clone(),
    });
    let company_hours = app.config.sending.quiet_hours.as_ref().map(QuietHours::clocks);
    let own_hours = chosen.quiet_hours().as_ref().map(QuietHours::clocks);
    let [quiet_from, quiet_to] =
        own_hours.clone().or_else(|| company_hours.clone()).unwrap_or_else(|| USUAL.map(str::to_owned));
    let zone = chosen.time_zone.clone().unwrap_or_default();
    Preferences {
        page: Page::new(app, visit),
        is_saved: false,
        topics: topics.collect(),
        is_quiet_own: own_hours.is_some(),
        company_hours,
        quiet_from,
        quiet_to,
        languages: Locale::ALL,
        language: chosen.locale().map(|locale| locale.tag().to_owned()).unwrap_or_default(),
        regions: zone::regions(),
        is_zone_rare: is_rare(&zone),
        zone,
        company_zone: app.config.time_zone.clone(),
        problem_quiet: false,
        problem_language: false,
        problem_zone: false,
    }
}

fn is_rare(zone: &str) -> bool {
    !zone.is_empty() && !zone::is_offered(zone)
}
