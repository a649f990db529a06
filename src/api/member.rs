//! Members: made, changed, looked at, cut off, and gone; by the company's own ids.

use std::collections::BTreeMap;

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::{
    caller::Caller,
    json::Json,
    list::{List, Page, Paging},
    path::Path,
    schema, time,
};
use crate::{
    app::App,
    db::Conn,
    error::{Error, Flaw, Kind, Problem, Result},
    member::{
        attribute,
        company::{self, By, Change, Details, Filter, Friendship, Refusal},
        disabling::{self, Named, Outcome},
    },
    message::topic,
    privacy,
};

const MOST_TOPICS: usize = 100;

/// A member of the company's.
#[derive(Debug, Serialize, ToSchema)]
pub struct Member {
    /// Musubi's id.
    #[schema(example = "0198c5a2-7d3e-7b1a-9c41-5f0e8a6b2d10")]
    id: String,
    /// The company's id; null of a member who signed up themselves.
    #[schema(example = "1001")]
    external_id: Option<String>,
    #[schema(example = "hanako@example.com")]
    email: Option<String>,
    #[schema(example = "Hanako Yamada")]
    name: String,
    #[schema(example = "ja")]
    language: Option<String>,
    #[schema(example = "Asia/Tokyo")]
    time_zone: Option<String>,
    /// The hours that they chose to be left in peace by messages to many, by their own clock; null: the company's hold.
    #[schema(example = "22:00-07:00")]
    quiet_hours: Option<String>,
    /// By name: a text, a number, or true or false.
    #[schema(value_type = Object, example = json!({ "tier": "gold" }))]
    attributes: Map<String, Value>,
    #[schema(example = json!(["newsletter"]))]
    tags: Vec<String>,
    /// Topics of messages that are not sent to them.
    topics_opted_out: Vec<String>,
    /// `company`, or `sign_up` where they signed up themselves.
    #[schema(example = "company")]
    source: String,
    #[schema(example = "2026-12-24T09:00:00.000Z")]
    created_at: String,
    /// Since when they may not sign in and are sent nothing.
    disabled_at: Option<String>,
}

/// What is said of a member. What is not said stays as it is; null takes it away. Language, time zone, quiet hours and
/// topics are also the member's own to choose, on the account page: say them only where the member told you so.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Said {
    /// An address that another member has is refused. Who has none gets no mail, and no password.
    #[serde(deserialize_with = "said")]
    #[schema(value_type = Option<String>, example = "hanako@example.com")]
    email: Option<Option<String>>,
    /// 1 to 100 characters; the company's id where none is said.
    #[serde(deserialize_with = "said")]
    #[schema(value_type = Option<String>, example = "Hanako Yamada")]
    name: Option<Option<String>>,
    /// Such as `ja` or `zh-TW`.
    #[serde(deserialize_with = "said")]
    #[schema(value_type = Option<String>, example = "ja")]
    language: Option<Option<String>>,
    /// An IANA name.
    #[serde(deserialize_with = "said")]
    #[schema(value_type = Option<String>, example = "Asia/Tokyo")]
    time_zone: Option<Option<String>>,
    #[serde(deserialize_with = "said")]
    #[schema(schema_with = schema::quiet_hours)]
    quiet_hours: Option<Option<String>>,
    #[schema(schema_with = schema::attributes)]
    attributes: Map<String, Value>,
    #[schema(schema_with = schema::tags)]
    tags: Option<Vec<String>>,
    #[schema(schema_with = schema::topics)]
    topics_opted_out: Option<Vec<String>>,
}

/// A field that is there, if only as null.
fn said<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(deserializer).map(Some)
}

/// Which members are listed.
#[derive(Debug, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
pub struct Filters {
    linked: Option<String>,
    friend: Option<(String, String)>,
    tag: Option<String>,
    attribute: Option<(String, String)>,
}

impl TryFrom<BTreeMap<String, String>> for Filters {
    type Error = String;

    fn try_from(given: BTreeMap<String, String>) -> Result<Self, String> {
        let mut filters = Self { linked: None, friend: None, tag: None, attribute: None };
        for (name, value) in given {
            match name.as_str() {
                "linked" => filters.linked = Some(value),
                "tag" => filters.tag = Some(value),
                "friend" => {
                    let parts = value.rsplit_once(':').filter(|(_, word)| ["yes", "no", "unknown"].contains(word));
                    let (channel, word) = parts.ok_or("friend must be CHANNEL:yes, CHANNEL:no or CHANNEL:unknown")?;
                    filters.friend = Some((channel.to_owned(), word.to_owned()));
                }
                other => match other.strip_prefix("attribute.").filter(|name| attribute::is_name(name)) {
                    Some(_) if filters.attribute.is_some() => {
                        return Err("attribute.NAME is taken once".to_owned());
                    }
                    Some(name) => filters.attribute = Some((name.to_owned(), value)),
                    None => {
                        return Err(format!(
                            "unknown parameter {other:?}: there are linked, friend, tag, attribute.NAME, limit, cursor"
                        ));
                    }
                },
            }
        }
        Ok(filters)
    }
}

/// What the list takes, for the documentation; [`Filters`] reads it.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct FilterParams {
    /// Only who is linked in this provider.
    pub linked: Option<String>,
    /// Only who is linked in the provider of this channel, and a friend of its official account or not:
    /// `CHANNEL:yes`, `CHANNEL:no` or `CHANNEL:unknown`.
    #[param(pattern = r"^[^\u0000-\u001f\u007f-\u009f]*:(yes|no|unknown)$", max_length = 1024)]
    pub friend: Option<String>,
    /// Only who has this tag.
    pub tag: Option<String>,
    /// `attribute.NAME=VALUE`: only whose attribute of this name has this value, such as `attribute.tier=gold`; one of
    /// them.
    #[param(style = Form, explode, schema_with = schema::attribute_filter)]
    pub attribute: Option<String>,
}

/// Make or change a member
///
/// The company's id is the path's last part, percent-encoded. A member who is not there is made; of one who is,
/// changes what is said. Members are made one for one id, however many calls come at once, and never merged by an
/// address.
#[utoipa::path(
    put, path = "/api/v1/members/{external_id}", tag = "Members", operation_id = "put_member",
    params(("external_id" = String, Path, description = "The company's id", example = "1001")),
    request_body = Said,
    responses(
        (status = 200, description = "The member, changed or as before", body = Member),
        (status = 201, description = "The member, made", body = Member),
        (status = 409, description = "Another member has the address"),
    ),
    security(("key" = ["members:write"])),
)]
pub async fn put(
    State(app): State<App>,
    caller: Caller,
    Path(external_id): Path<String>,
    Json(said): Json<Said>,
) -> Result<(StatusCode, Json<Member>)> {
    let (wanted, topics) = read(&external_id, said)?;
    let mut tx = app.db.begin().await?;
    let kept = company::upsert(&mut tx, &app, &[wanted], by(&caller)).await?.pop().ok_or(Error::NotFound)?;
    let kept = kept.map_err(refuse)?;
    if let Some(topics) = topics {
        topic::replace(&mut tx, &app.db, app.now(), &kept.member_id, &topics).await?;
    }
    let member = find(&mut tx, &app, &kept.member_id).await?;
    tx.commit().await?;
    app.wake();
    let status = if kept.change == Change::Created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(member)))
}

/// Look at a member
#[utoipa::path(
    get, path = "/api/v1/members/{external_id}", tag = "Members", operation_id = "get_member",
    params(("external_id" = String, Path, description = "The company's id", example = "1001")),
    responses((status = 200, description = "The member", body = Member)),
    security(("key" = ["members:read"])),
)]
pub async fn show(State(app): State<App>, _: Caller, Path(external_id): Path<String>) -> Result<Json<Member>> {
    let mut conn = app.db.conn().await?;
    let id = company::find_id(&mut conn, &external_id).await?.ok_or(Error::NotFound)?;
    find(&mut conn, &app, &id).await.map(Json)
}

/// List members
///
/// In the order in which they were made. With several filters, those for whom all of them hold.
#[utoipa::path(
    get, path = "/api/v1/members", tag = "Members", operation_id = "list_members", params(FilterParams, Paging),
    responses(
        (status = 200, description = "A page of members", body = Page<Member>),
        (status = 404, description = "The key is for no such provider or channel"),
    ),
    security(("key" = ["members:read"])),
)]
pub async fn list(State(app): State<App>, caller: Caller, list: List<Filters>) -> Result<Json<Page<Member>>> {
    let filter = filter(&app, &caller, &list.filter).await?;
    let mut conn = app.db.conn().await?;
    let after = list.after.as_deref().unwrap_or_default();
    let rows = company::list(&mut conn, &app.db, &filter, after, list.rows()).await?;
    let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
    let mut topics = topic::list(&mut conn, &app.db, &ids).await?;
    let show = |row: Details| {
        let topics = topics.remove(&row.id).unwrap_or_default();
        Member::new(row, topics)
    };
    Ok(Json(list.page(rows, |row| row.id.clone(), show)))
}

/// Delete a member
///
/// As where a person withdraws: every link ends here at once and at LINE as soon as LINE answers, sessions end, what
/// waits is not sent, and name, address, attributes and tags are erased; the rest follows when LINE has agreed. The id
/// is free for a new member.
#[utoipa::path(
    delete, path = "/api/v1/members/{external_id}", tag = "Members", operation_id = "delete_member",
    params(("external_id" = String, Path, description = "The company's id", example = "1001")),
    responses((status = 204, description = "The member is gone")),
    security(("key" = ["members:write"])),
)]
pub async fn delete(State(app): State<App>, caller: Caller, Path(external_id): Path<String>) -> Result<StatusCode> {
    let is_deleted = privacy::delete::by_company(&app, &external_id, by(&caller)).await?;
    if is_deleted { Ok(StatusCode::NO_CONTENT) } else { Err(Error::NotFound) }
}

/// Cut a member off
///
/// Every session ends, nobody signs in as them, and nothing is sent to them; links and data stay. Again changes nothing.
#[utoipa::path(
    post, path = "/api/v1/members/{external_id}/disable", tag = "Members", operation_id = "disable_member",
    params(("external_id" = String, Path, description = "The company's id", example = "1001")),
    responses((status = 200, description = "The member", body = Member)),
    security(("key" = ["members:write"])),
)]
pub async fn disable(State(app): State<App>, caller: Caller, Path(external_id): Path<String>) -> Result<Json<Member>> {
    let outcome = disabling::cut_off(&app, Named::ExternalId(&external_id), by(&caller)).await?;
    after(&app, &external_id, outcome).await
}

/// Let a member in again
///
/// Ends what `disable` began; no session comes back. Again changes nothing.
#[utoipa::path(
    post, path = "/api/v1/members/{external_id}/enable", tag = "Members", operation_id = "enable_member",
    params(("external_id" = String, Path, description = "The company's id", example = "1001")),
    responses((status = 200, description = "The member", body = Member)),
    security(("key" = ["members:write"])),
)]
pub async fn enable(State(app): State<App>, caller: Caller, Path(external_id): Path<String>) -> Result<Json<Member>> {
    let outcome = disabling::let_in(&app, Named::ExternalId(&external_id), by(&caller)).await?;
    after(&app, &external_id, outcome).await
}

async fn after(app: &App, external_id: &str, outcome: Outcome) -> Result<Json<Member>> {
    if outcome == Outcome::Unknown {
        return Err(Error::NotFound);
    }
    let mut conn = app.db.conn().await?;
    let id = company::find_id(&mut conn, external_id).await?.ok_or(Error::NotFound)?;
    find(&mut conn, app, &id).await.map(Json)
}

/// Who acts, for the audit.
pub(super) fn by(caller: &Caller) -> By<'_> {
    By { what: "key", id: &caller.key_id }
}

async fn find(conn: &mut Conn, app: &App, id: &str) -> Result<Member> {
    let ids = [id.to_owned()];
    let details = company::details(conn, &app.db, &ids).await?.pop().ok_or(Error::NotFound)?;
    let topics = topic::list(conn, &app.db, &ids).await?.remove(id).unwrap_or_default();
    Ok(Member::new(details, topics))
}

impl Member {
    fn new(details: Details, topics_opted_out: Vec<String>) -> Self {
        Self {
            id: details.id,
            external_id: details.external_id,
            email: details.email,
            name: details.name,
            language: details.language,
            time_zone: details.time_zone,
            quiet_hours: details.quiet_hours,
            attributes: details.attributes,
            tags: details.tags,
            topics_opted_out,
            source: details.source,
            created_at: time(details.created_at),
            disabled_at: details.disabled_at.map(time),
        }
    }
}

/// What was said, looked at, with all that is wrong with it.
fn read(external_id: &str, said: Said) -> Result<(company::Wanted, Option<Vec<String>>), Problem> {
    if !company::is_external_id(external_id) {
        let detail = "The company's id is 1 to 100 visible characters, and no path such as `..`.";
        return Err(Problem::new(Kind::BadRequest, detail));
    }
    let mut flaws = Vec::new();
    let topics = said.topics_opted_out;
    if let Some(topics) = &topics {
        if topics.len() > MOST_TOPICS {
            flaws.push(Flaw::new("topics_opted_out", "are more than 100"));
        }
        for (place, _) in topics.iter().enumerate().filter(|(_, topic)| !topic::is_topic(topic)) {
            let text = "must be 1 to 64 letters without control characters";
            flaws.push(Flaw::new(format!("topics_opted_out[{place}]"), text));
        }
    }
    let said = company::Said {
        email: said.email,
        name: said.name,
        language: said.language,
        time_zone: said.time_zone,
        quiet_hours: said.quiet_hours,
        attributes: said.attributes,
        tags: said.tags,
    };
    let wanted = company::check(external_id, said).map_err(|mistakes| {
        flaws.extend(mistakes.into_iter().map(|mistake| Flaw::new(mistake.field, mistake.text)));
    });
    match wanted {
        Ok(wanted) if flaws.is_empty() => Ok((wanted, topics)),
        Ok(_) | Err(()) => Err(Problem::invalid(flaws)),
    }
}

fn refuse(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::EmailTaken => Problem::new(Kind::Conflict, "Another member has this e-mail address."),
        Refusal::TooManyAttributes => Problem::invalid(vec![Flaw::new("attributes", refusal.to_string())]),
    }
}

/// What is asked for, in the providers that the key is for.
async fn filter(app: &App, caller: &Caller, asked: &Filters) -> Result<Filter> {
    if let Some(provider) = asked.linked.as_ref()
        && !caller.providers(app).any(|known| known == provider)
    {
        return Err(caller.refuse_foreign(app, "provider", provider).await);
    }
    let mut friend = None;
    if let Some((channel, word)) = &asked.friend {
        let known = caller.channels(app).find(|known| known == channel).and_then(|name| app.config.channel.get(name));
        let Some(known) = known else { return Err(caller.refuse_foreign(app, "channel", channel).await) };
        friend = Some(Friendship { provider: known.provider.clone(), channel: channel.clone(), friend: word.clone() });
    }
    Ok(Filter { linked: asked.linked.clone(), friend, tag: asked.tag.clone(), attribute: asked.attribute.clone() })
}
