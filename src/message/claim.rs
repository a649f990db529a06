//! The claim: what is due becomes a request in one transaction, before anything goes to LINE.

mod waiting;

use std::{
    collections::BTreeMap,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, LazyLock},
    time::Duration,
};

pub use self::waiting::STATEMENTS;
use self::waiting::Waiting;
use super::{
    addressee, collapse, expand,
    order::Lane,
    recipient::{Source, Sources},
};
use crate::{
    app::App,
    db::{Conn, Locking, Millis, Rows, new_id, with_lock},
    error::Result,
    hook_event,
    line::messaging::Endpoint,
};

/// How long a try may be in flight before the request is found again; longer than the client's time limit.
pub(super) const IN_FLIGHT: Duration = Duration::from_secs(30);
/// LINE remembers a retry key for 24 hours from the first try; this leaves half an hour of doubt.
pub(super) const DEADLINE: Duration = Duration::from_secs(23 * 3600 + 30 * 60);

/// Deliveries in bulk that are looked at, however few may be pushed.
const LOOKED_AT: usize = 64;
/// People that LINE takes in one multicast.
const MULTICAST: usize = 500;
/// The reason of a delivery that waits after LINE refused the multicast it was in.
pub(super) const REFUSED_TOGETHER: &str = "refused_together";

/// A claimed request. Its attempt number is the fence: a later claim makes this one's result void.
#[derive(Debug)]
pub(super) struct Try {
    /// Also the retry key that LINE is given.
    pub request_id: String,
    pub attempt: i64,
    /// What the backoff counts.
    pub count: i64,
    pub lane: Lane,
    pub endpoint: Endpoint,
    pub body: String,
    pub first_attempt_at: Millis,
    /// Its deliveries, by message and number; none of a request that was claimed before.
    pub to: Vec<(String, i64)>,
}

/// How many requests a claim may make, by endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Room {
    pub pushes: usize,
    pub multicasts: usize,
    /// Recipients in bulk, as far as the month goes.
    pub bulk: usize,
}

/// What a claim took, and what of its room is left.
#[derive(Debug, Default)]
pub(super) struct Claimed {
    pub tries: Vec<Try>,
    /// Deliveries that were looked at.
    pub found: usize,
    pub left: Room,
}

impl Room {
    pub fn is_empty(self) -> bool {
        self.pushes == 0 && self.multicasts == 0
    }

    /// Takes a request's place, where there is one.
    fn take(&mut self, endpoint: Endpoint) -> bool {
        let places = if endpoint == Endpoint::Multicast { &mut self.multicasts } else { &mut self.pushes };
        let is_free = *places > 0;
        *places -= usize::from(is_free);
        is_free
    }
}

/// A request in the making.
struct Draft {
    content: Arc<str>,
    to: Vec<Waiting>,
}

impl Draft {
    fn endpoint(&self) -> Endpoint {
        if self.to.len() > 1 { Endpoint::Multicast } else { Endpoint::Push }
    }
}

/// Whether there is anything to claim, by reading only: most rounds end here.
pub(super) async fn is_due(conn: &mut Conn, channel: &str, now: Millis) -> Result<bool> {
    for statement in [
        "SELECT id FROM requests WHERE channel = $1 AND lane = $2 AND state = 'open' AND next_attempt_at <= $3 LIMIT 1",
        "SELECT message_id FROM deliveries
         WHERE channel = $1 AND lane = $2 AND state = 'waiting' AND due_at <= $3 LIMIT 1",
    ] {
        for lane in LANES {
            let query = sqlx::query_scalar::<_, String>(statement).bind(channel).bind(lane.word()).bind(now);
            if query.fetch_optional(&mut *conn).await?.is_some() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// What is urgent comes first, also of what was claimed before.
const LANES: [Lane; 2] = [Lane::Transactional, Lane::Bulk];

/// Claims due requests and makes new ones of due deliveries. They are sent once the caller's transaction has committed.
/// `is_wide`: many recipients go into one request at present.
pub(super) async fn claim(
    app: &App,
    conn: &mut Conn,
    channel: &str,
    room: Room,
    is_wide: bool,
    sources: &mut Sources,
) -> Result<Claimed> {
    let now = app.now();
    let mut claimed = Claimed { left: room, ..Claimed::default() };
    for lane in LANES {
        for endpoint in [Endpoint::Push, Endpoint::Multicast] {
            claim_open(app, conn, channel, (lane, endpoint), now, &mut claimed).await?;
        }
        let bulk = room.bulk.saturating_sub(claimed.found);
        let most = if lane == Lane::Bulk { bulk } else { usize::MAX };
        let limit = match lane {
            Lane::Transactional => claimed.left.pushes,
            Lane::Bulk if claimed.left.is_empty() || bulk == 0 => 0,
            Lane::Bulk if is_wide || is_for_many(conn, channel, now, sources).await? => {
                // Without a place it is waited for.
                claimed.found += usize::from(claimed.left.multicasts == 0);
                claimed.left.multicasts * MULTICAST
            }
            // More than may be pushed: what says the same goes together.
            Lane::Bulk => claimed.left.pushes.max(LOOKED_AT),
        };
        let mut drafts = Drafts::default();
        let mut list = waiting::list(app, conn, lane, channel, now, limit).await?;
        list.truncate(most);
        read_attributes(app, conn, sources, &mut list).await?;
        for waiting in list {
            claimed.found += 1;
            match waiting::left_out(&waiting, now) {
                None => draft(app, conn, now, sources, lane, &mut drafts, waiting).await?,
                Some(reason) => waiting::end(conn, now, &waiting, "cancelled", reason, None).await?,
            }
        }
        drafts.list.retain(|draft| claimed.left.take(draft.endpoint()));
        let made = make_requests(app, conn, channel, lane, now, std::mem::take(&mut drafts.list)).await?;
        claimed.tries.extend(made);
        hook_event::delivery::not_rendered(conn, app, channel, &drafts.failed).await?;
    }
    Ok(claimed)
}

/// Reads what is rendered now and asks for more than a name.
async fn read_attributes(app: &App, conn: &mut Conn, sources: &mut Sources, list: &mut [Waiting]) -> Result<()> {
    let mut asking = BTreeMap::<String, bool>::new();
    for waiting in list.iter().filter(|waiting| waiting.content.is_none()) {
        if !asking.contains_key(&waiting.message_id) {
            let source = sources.find(conn, &waiting.message_id).await?;
            let asks = matches!(source.as_deref(), Some(Source::Template(template)) if template.asks_attributes);
            asking.insert(waiting.message_id.clone(), asks);
        }
    }
    let asks = |waiting: &&mut Waiting| waiting.content.is_none() && asking.get(&waiting.message_id) == Some(&true);
    addressee::read_attributes(conn, &app.db, list.iter_mut().filter(asks).map(|waiting| &mut waiting.person)).await
}

/// Whether what is due first in bulk says the same to all.
async fn is_for_many(conn: &mut Conn, channel: &str, now: Millis, sources: &mut Sources) -> Result<bool> {
    let first: Option<String> = sqlx::query_scalar(
        "SELECT message_id FROM deliveries
         WHERE channel = $1 AND lane = 'bulk' AND state = 'waiting' AND due_at <= $2
         ORDER BY due_at, message_id, seq LIMIT 1",
    )
    .bind(channel)
    .bind(now)
    .fetch_optional(&mut *conn)
    .await?;
    let Some(message_id) = first else { return Ok(false) };
    Ok(matches!(sources.find(conn, &message_id).await?.as_deref(), Some(Source::Content(_))))
}

/// Requests in the making; those in bulk that say the same go together.
#[derive(Default)]
struct Drafts {
    list: Vec<Draft>,
    /// The place of the open one, by message and content.
    open: BTreeMap<(String, Arc<str>), usize>,
    /// What could not be rendered, by message and number.
    failed: Vec<(String, i64)>,
}

async fn draft(
    app: &App,
    conn: &mut Conn,
    now: Millis,
    sources: &mut Sources,
    lane: Lane,
    drafts: &mut Drafts,
    mut waiting: Waiting,
) -> Result<()> {
    if lane == Lane::Bulk
        && let Some(later) = expand::quiet_until(app, now, &waiting.person)
    {
        return waiting::postpone(conn, now, &waiting, later).await;
    }
    let content = match waiting.content.take() {
        Some(content) => Ok(content.into()),
        None => render(app, conn, sources, &waiting).await?,
    };
    match content {
        Ok(content) => drafts.add(lane, content, waiting),
        Err(why) => {
            waiting::end(conn, now, &waiting, "failed", "not_rendered", Some(&why)).await?;
            drafts.failed.push((waiting.message_id, waiting.seq));
        }
    }
    Ok(())
}

/// What a delivery says, or why that cannot be told.
async fn render(
    app: &App,
    conn: &mut Conn,
    sources: &mut Sources,
    waiting: &Waiting,
) -> Result<std::result::Result<Arc<str>, String>> {
    let Some(source) = sources.find(conn, &waiting.message_id).await? else {
        return Ok(Err("the message has no template".to_owned()));
    };
    let template = match source.as_ref() {
        Source::Content(content) => return Ok(Ok(content.clone())),
        Source::Template(template) => template,
    };
    let updates = match &waiting.link_id {
        Some(link_id) if template.collapses => Some(collapse::updates(conn, &waiting.message_id, link_id).await?),
        _ => None,
    };
    Ok(caught(|| template.render(app, &waiting.person, updates).map(Arc::from)))
}

/// A panic over one message must not hold up all others of its channel, for ever.
fn caught(render: impl FnOnce() -> std::result::Result<Arc<str>, String>) -> std::result::Result<Arc<str>, String> {
    panic::catch_unwind(AssertUnwindSafe(render))
        .unwrap_or_else(|_| Err("the template could not be rendered: a fault of ours, see the log".to_owned()))
}

impl Drafts {
    /// What was refused together goes alone: LINE refuses a multicast as a whole for one of its people.
    fn add(&mut self, lane: Lane, content: Arc<str>, waiting: Waiting) {
        if lane == Lane::Transactional || waiting.reason.as_deref() == Some(REFUSED_TOGETHER) {
            self.list.push(Draft { content, to: vec![waiting] });
            return;
        }
        let key = (waiting.message_id.clone(), content);
        if let Some(draft) = self.open.get(&key).and_then(|place| self.list.get_mut(*place))
            && draft.to.len() < MULTICAST
            && draft.to.iter().all(|other| other.user_id != waiting.user_id)
        {
            draft.to.push(waiting);
            return;
        }
        self.list.push(Draft { content: key.1.clone(), to: vec![waiting] });
        self.open.insert(key, self.list.len() - 1);
    }
}

/// Claims requests that are due again, as far as there is room.
async fn claim_open(
    app: &App,
    conn: &mut Conn,
    channel: &str,
    (lane, endpoint): (Lane, Endpoint),
    now: Millis,
    claimed: &mut Claimed,
) -> Result<()> {
    let limit = if endpoint == Endpoint::Multicast { claimed.left.multicasts } else { claimed.left.pushes };
    if limit == 0 {
        return Ok(());
    }
    let rows: Vec<(String, i64, String, Millis)> = sqlx::query_as(app.db.locking(OPEN))
        .bind(channel)
        .bind(lane.word())
        .bind(endpoint.word())
        .bind(now)
        .bind(now.minus(DEADLINE))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&mut *conn)
        .await?;
    for (request_id, attempts, body, first_attempt_at) in rows {
        sqlx::query("UPDATE requests SET attempts = attempts + 1, next_attempt_at = $1 WHERE id = $2")
            .bind(now.plus(IN_FLIGHT))
            .bind(&request_id)
            .execute(&mut *conn)
            .await?;
        let attempt = attempts + 1;
        claimed.left.take(endpoint);
        let to = Vec::new();
        claimed.tries.push(Try { request_id, attempt, count: attempt, lane, endpoint, body, first_attempt_at, to });
    }
    Ok(())
}

const OPEN: Locking = with_lock!(
    "SELECT id, attempts, body, first_attempt_at FROM requests
     WHERE channel = $1 AND lane = $2 AND state = 'open' AND endpoint = $3 AND next_attempt_at <= $4
       AND first_attempt_at > $5
     ORDER BY next_attempt_at LIMIT $6",
    "FOR UPDATE SKIP LOCKED"
);

/// Writes the requests and puts their deliveries on their way.
async fn make_requests(
    app: &App,
    conn: &mut Conn,
    channel: &str,
    lane: Lane,
    now: Millis,
    drafts: Vec<Draft>,
) -> Result<Vec<Try>> {
    let (mut tries, mut ways) = (Vec::new(), Vec::new());
    for draft in drafts {
        let new = request(now, lane, &draft)?;
        ways.extend(new.to.iter().map(|(message_id, seq)| (message_id.clone(), *seq, new.request_id.clone())));
        tries.push((new, i64::try_from(draft.to.len()).unwrap_or(i64::MAX)));
    }
    insert_requests(app, conn, channel, now, &tries).await?;
    put_on_way(app, conn, now, &ways).await?;
    Ok(tries.into_iter().map(|(new, _)| new).collect())
}

fn request(now: Millis, lane: Lane, draft: &Draft) -> Result<Try> {
    let people: Vec<&str> = draft.to.iter().filter_map(|to| to.user_id.as_deref()).collect();
    let to = match people.as_slice() {
        [one] => serde_json::to_string(one)?,
        many => serde_json::to_string(many)?,
    };
    Ok(Try {
        request_id: new_id(now),
        attempt: 1,
        count: draft.to.iter().map(|to| to.attempts + 1).max().unwrap_or(1),
        lane,
        endpoint: draft.endpoint(),
        // `content` is JSON already, and is not parsed again.
        body: format!(r#"{{"to":{to},"messages":{}}}"#, draft.content),
        first_attempt_at: now,
        to: draft.to.iter().map(|to| (to.message_id.clone(), to.seq)).collect(),
    })
}

async fn insert_requests(
    app: &App,
    conn: &mut Conn,
    channel: &str,
    now: Millis,
    requests: &[(Try, i64)],
) -> Result<()> {
    static INSERT: LazyLock<Rows> = LazyLock::new(|| {
        Rows::new(
            "INSERT INTO requests (id, channel, lane, body, endpoint, recipients, first_attempt_at, next_attempt_at,
               state, attempts)
             SELECT column1, column2, column3, column4, column5, column6, column7, column8, 'open', 1 FROM (VALUES",
            8,
            ") AS v WHERE 1 = 1 ON CONFLICT DO NOTHING",
        )
    });
    for (text, rows) in INSERT.pieces(&app.db, requests) {
        let mut insert = sqlx::query(text);
        for (new, recipients) in rows {
            insert = insert.bind(&new.request_id).bind(channel).bind(new.lane.word()).bind(&new.body);
            insert = insert.bind(new.endpoint.word()).bind(recipients).bind(now).bind(now.plus(IN_FLIGHT));
        }
        insert.execute(&mut *conn).await?;
    }
    Ok(())
}

/// By message and number: the request that carries it.
async fn put_on_way(app: &App, conn: &mut Conn, now: Millis, ways: &[(String, i64, String)]) -> Result<()> {
    static UPDATE: LazyLock<Rows> = LazyLock::new(|| {
        Rows::new(
            "UPDATE deliveries SET state = 'sending', request_id = v.column3, attempts = deliveries.attempts + 1,
               updated_at = v.column4
             FROM (VALUES",
            4,
            ") AS v WHERE deliveries.message_id = v.column1 AND deliveries.seq = v.column2
               AND deliveries.state = 'waiting'",
        )
    });
    for (text, rows) in UPDATE.pieces(&app.db, ways) {
        let mut update = sqlx::query(text);
        for (message_id, seq, request_id) in rows {
            update = update.bind(message_id).bind(seq).bind(request_id).bind(now);
        }
        update.execute(&mut *conn).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_one_message_alone() {
        assert_eq!(caught(|| Ok("[]".into())).as_deref(), Ok("[]"));
        assert!(caught(|| panic!("a fault")).unwrap_err().contains("a fault of ours"));
    }

    fn to(user_id: &str) -> Waiting {
        Waiting { user_id: Some(user_id.into()), ..Waiting::default() }
    }

    #[test]
    fn the_body_is_json() {
        let content = r#"[{"type":"text"}]"#;
        for (people, endpoint, expected) in [
            (vec!["U\"1"], Endpoint::Push, serde_json::json!("U\"1")),
            (vec!["U1", "U2"], Endpoint::Multicast, serde_json::json!(["U1", "U2"])),
        ] {
            let to = people.into_iter().map(to).collect();
            let made = request(Millis(1), Lane::Bulk, &Draft { content: content.into(), to }).unwrap();
            let body: serde_json::Value = serde_json::from_str(&made.body).unwrap();
            assert_eq!(body, serde_json::json!({ "to": expected, "messages": [{ "type": "text" }] }));
            assert_eq!(made.endpoint, endpoint);
        }
    }

    #[test]
    fn what_says_the_same_in_bulk_goes_together() {
        let mut drafts = Drafts::default();
        for number in 0..501 {
            drafts.add(Lane::Bulk, "same".into(), to(&number.to_string()));
        }
        drafts.add(Lane::Bulk, "same".into(), to("500"));
        drafts.add(Lane::Bulk, "same".into(), Waiting { reason: Some(REFUSED_TOGETHER.into()), ..to("9") });
        drafts.add(Lane::Transactional, "same".into(), to("9"));
        drafts.add(Lane::Bulk, "other".into(), Waiting { attempts: 1, ..to("9") });
        let sizes: Vec<usize> = drafts.list.iter().map(|draft| draft.to.len()).collect();
        assert_eq!(sizes, [500, 1, 1, 1, 1, 1], "500 at most, nobody twice, what was refused alone, one by one alone");
    }
}
