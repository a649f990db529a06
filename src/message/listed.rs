//! Acceptance of an order for some members, each named: one message, whose deliveries commit with it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::LazyLock,
};

use super::{
    accept::{LeftOut, Recipients, count_left_out, insert_message},
    addressee::Addressee,
    collapse::{self, Added},
    expand,
    order::{Audience, Mistake, Order, Refusal},
};
use crate::{
    app::App,
    db::{Conn, Millis, Rows, new_id},
    error::Result,
};

/// Whoever of an order's members is there, by the id that the order names them by; a mistake for each who is not.
pub(super) async fn find(
    conn: &mut Conn,
    app: &App,
    order: &Order,
    mistakes: &mut Vec<Mistake>,
) -> Result<Vec<(String, Addressee)>> {
    let Audience::Members(ids) = &order.to else { return Ok(Vec::new()) };
    let found = look_up(conn, app, order, ids).await?;
    let (mut listed, mut members) = (Vec::new(), BTreeSet::new());
    for (place, id) in ids.iter().enumerate() {
        let Some(to) = found.get(id) else {
            let path = format!("to.members[{place}]");
            mistakes.push(Mistake::new(path, format!("there is no member {id:?}, by the company's id or ours")));
            continue;
        };
        // Somebody who is named twice, or by the company's id and by ours, gets it once.
        if members.insert(&to.member_id) {
            listed.push((id.clone(), to.clone()));
        }
    }
    Ok(listed)
}

#[derive(sqlx::FromRow)]
struct Row {
    wanted: String,
    #[sqlx(flatten)]
    to: Addressee,
}

async fn look_up(conn: &mut Conn, app: &App, order: &Order, ids: &[String]) -> Result<HashMap<String, Addressee>> {
    static FIND: LazyLock<Rows> = LazyLock::new(|| {
        Rows::new(
            "SELECT v.column1 AS wanted, m.id AS member_id, m.name, m.external_id, m.locale, m.time_zone, m.quiet_hours,
               m.disabled_at, l.id AS link_id, l.line_user_id, l.suspended_at, l.permission, u.language, f.friend,
               o.created_at AS opted_out_at
             FROM (VALUES",
            4,
            ") AS v
             JOIN members m ON (m.external_id = v.column1 OR m.id = v.column1) AND m.deleted_at IS NULL
             LEFT JOIN links l ON l.member_id = m.id AND l.provider = v.column2 AND l.ended_at IS NULL
             LEFT JOIN line_users u ON u.id = l.line_user_id
             LEFT JOIN friends f ON f.line_user_id = l.line_user_id AND f.channel = v.column3
             LEFT JOIN topic_opt_outs o ON o.member_id = m.id AND o.topic = v.column4",
        )
    });
    let provider = app.config.channel.get(&order.channel).map_or("", |channel| channel.provider.as_str());
    let mut found: HashMap<String, Addressee> = HashMap::new();
    for (text, piece) in FIND.pieces(&app.db, ids) {
        let mut query = sqlx::query_as::<_, Row>(text);
        for id in piece {
            query = query.bind(id).bind(provider).bind(&order.channel).bind(order.topic.as_deref().unwrap_or_default());
        }
        for Row { wanted, to } in query.fetch_all(&mut *conn).await? {
            // Where two are meant, it is the one by the company's id.
            if to.person.external_id.as_deref() == Some(&wanted) || !found.contains_key(&wanted) {
                found.insert(wanted, to);
            }
        }
    }
    Ok(found)
}

/// Adds the message with its deliveries; none where its key is taken. Whoever is gone since is left out as not linked.
pub(super) async fn accept(app: &App, order: &Order) -> Result<Option<(String, Vec<LeftOut>)>, Refusal> {
    let mut tx = app.db.begin().await?;
    let now = app.now();
    let id = new_id(now);
    let mut gone = Vec::new();
    let listed = find(&mut tx, app, order, &mut gone).await?;
    if !gone.is_empty() {
        return Err(Refusal::Mistakes(gone));
    }
    let (mut recipients, mut left_out) = (Vec::new(), Vec::new());
    for (member, to) in listed {
        match to.left_out() {
            Some(reason) => left_out.push(LeftOut { member, reason }),
            None => recipients.push(to),
        }
    }
    let count = i64::try_from(recipients.len()).unwrap_or(i64::MAX);
    if !insert_message(&mut tx, app, now, &id, order, Recipients::Listed(count)).await? {
        return Ok(None);
    }
    insert_deliveries(&mut tx, app, now, &id, order, &recipients).await?;
    if let Some(key) = &order.collapse_key {
        let added = Added { message_id: &id, channel: &order.channel, key, seqs: (0, count) };
        collapse::supersede(&mut tx, &app.db, now, added).await?;
    }
    let mut by_reason: BTreeMap<String, i64> = BTreeMap::new();
    for LeftOut { reason, .. } in &left_out {
        *by_reason.entry((*reason).to_owned()).or_default() += 1;
    }
    count_left_out(&mut tx, &id, &by_reason).await?;
    tx.commit().await?;
    Ok(Some((id, left_out)))
}

async fn insert_deliveries(
    conn: &mut Conn,
    app: &App,
    now: Millis,
    message_id: &str,
    order: &Order,
    recipients: &[Addressee],
) -> Result<()> {
    static INSERT: LazyLock<Rows> = LazyLock::new(|| {
        Rows::new(
            "INSERT INTO deliveries (message_id, seq, channel, lane, member_id, line_user_id, link_id, order_at, due_at,
               created_at, updated_at, state, attempts)
             SELECT column1, column2, column3, column4, column5, column6, column7, column8, column9, column10, column10,
               'waiting', 0 FROM (VALUES",
            10,
            ") AS v WHERE 1 = 1 ON CONFLICT DO NOTHING",
        )
    });
    let lane = order.lane().word();
    let order_at = order.send_at.map_or(now, |send_at| send_at.max(now));
    let numbered: Vec<(i64, &Addressee)> = (0..).zip(recipients).collect();
    for (text, piece) in INSERT.pieces(&app.db, &numbered) {
        let mut insert = sqlx::query(text);
        for (seq, to) in piece {
            let due_at = expand::due_at(app, lane, order_at, &to.person);
            insert = insert.bind(message_id).bind(seq).bind(&order.channel).bind(lane).bind(&to.member_id);
            insert = insert.bind(&to.line_user_id).bind(&to.link_id).bind(order_at).bind(due_at).bind(now);
        }
        insert.execute(&mut *conn).await?;
    }
    Ok(())
}
