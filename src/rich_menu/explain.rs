//! `musubi rich-menu explain MEMBER`: which menu a member should see on each channel, what decides it, and whether LINE
//! was told.

use super::{
    choice::{By, Choices},
    fact::{self, Person},
    overrule::{self, Overrule},
    set, sweep,
};
use crate::{
    app::App,
    db::{Conn, Millis},
    error::Result,
    line_user::Friend,
    member,
};

/// What is said of a member, in lines; none where there is no such member.
pub async fn explain(app: &App, member: &str) -> Result<Option<Vec<String>>> {
    let mut conn = app.db.conn().await?;
    let Some(member_id) = member::find_named(&mut conn, member).await? else { return Ok(None) };
    let overrules = overrule::list(&mut conn, &member_id).await?;
    let mut lines = Vec::new();
    for (channel, known) in &app.config.channel {
        let line_user_id = find_line_user(&mut conn, &member_id, &known.provider).await?;
        let overrule = overrules.iter().find(|overrule| overrule.channel == *channel);
        match line_user_id {
            None => {
                lines.push(format!("{channel}: not linked in {}; LINE shows them the default menu", known.provider))
            }
            Some(id) => lines.extend(of_channel(&mut conn, app, channel, &id, overrule).await?),
        }
    }
    Ok(Some(lines))
}

async fn of_channel(
    conn: &mut Conn,
    app: &App,
    channel: &str,
    line_user_id: &str,
    overrule: Option<&Overrule>,
) -> Result<Vec<String>> {
    let Some(set) = set::current(conn, channel).await? else {
        return Ok(vec![format!("{channel}: no menus were applied; see `musubi rich-menu apply`")]);
    };
    let choices = match Choices::new(app, set, app.now()) {
        Ok(choices) => choices,
        Err(why) => return Ok(vec![format!("{channel}: the applied rules cannot be read: {why}")]),
    };
    let Some(person) = fact::find(conn, app, channel, line_user_id).await? else { return Ok(Vec::new()) };
    let mut lines = vec![head(channel, &choices, &person)];
    if let Some(overrule) = overrule {
        lines.push(format!("  override: {}{}", overrule.menu, over(app, overrule)));
    }
    lines.extend(rules(&choices, &person));
    lines.push(told(app, conn, channel, &choices, &person).await?);
    Ok(lines)
}

/// Which menu, and why.
fn head(channel: &str, choices: &Choices, person: &Person) -> String {
    let (menu, by) = choices.of(person);
    let Some(menu) = menu else { return format!("{channel}: no menu: no rule holds") };
    let language = if menu.language.is_empty() { String::new() } else { format!(" ({})", menu.language) };
    let by = match by {
        By::Overrule => "by its override",
        By::Rule | By::Nothing => "by its rule",
    };
    let default = if choices.own(person).is_none() { ", as the channel's default" } else { "" };
    format!("{channel}: {}{language}, {by}{default}", menu.name)
}

fn over(app: &App, overrule: &Overrule) -> String {
    match overrule.until {
        Some(until) if until <= app.now() => format!(", over since {}", time(app, until)),
        Some(until) => format!(", until {}", time(app, until)),
        None => String::new(),
    }
}

/// Each rule in the order in which they are asked.
fn rules(choices: &Choices, person: &Person) -> Vec<String> {
    let line = |(name, holds): (&str, Result<(), String>)| {
        let rule = choices.set.menus.iter().find(|menu| menu.name == name).and_then(|menu| menu.rule.when.as_deref());
        let rule = rule.map_or(String::new(), |rule| format!(" `{rule}`"));
        match holds {
            Ok(()) => format!("  rule of {name}{rule}: holds"),
            Err(why) if why.is_empty() => format!("  rule of {name}{rule}: does not hold"),
            Err(why) => format!("  rule of {name}{rule}: does not hold: {why}"),
        }
    };
    choices.explain(&person.facts).map(line).collect()
}

/// What LINE was told, and whether more is to come.
async fn told(app: &App, conn: &mut Conn, channel: &str, choices: &Choices, person: &Person) -> Result<String> {
    let told = &person.told;
    let at = told.applied_at.map_or(String::new(), |at| format!(" at {}", time(app, at)));
    if person.facts.friend == Friend::No {
        return Ok("  not a friend of the official account: LINE is told when they follow".to_owned());
    }
    if let Some(why) = &told.refused {
        return Ok(format!("  refused by LINE{at}: {why}"));
    }
    let own = choices.own(person).map(|menu| menu.rich_menu_id.as_str());
    let is_pending = own != told.rich_menu_id.as_deref() || is_waiting(conn, channel, &person.id).await?;
    let note = match sweep::find(conn, channel).await?.and_then(|sweep| sweep.note) {
        Some(note) if is_pending => format!(" (LINE is left alone for a while: {note})"),
        _ => String::new(),
    };
    Ok(match (is_pending, &told.menu, told.applied_at) {
        (true, ..) => format!("  pending: LINE is not told yet{note}"),
        (false, Some(menu), _) => format!("  given{at}: {menu}"),
        (false, None, Some(_)) => format!("  given{at}: none of their own, the default shows"),
        (false, None, None) => "  nothing was to be told: the default shows".to_owned(),
    })
}

fn time(app: &App, at: Millis) -> String {
    let time = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().to_zoned(app.zone.clone());
    time.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

async fn find_line_user(conn: &mut Conn, member_id: &str, provider: &str) -> Result<Option<String>> {
    let found = sqlx::query_scalar(
        "SELECT line_user_id FROM links WHERE member_id = $1 AND provider = $2 AND ended_at IS NULL",
    )
    .bind(member_id)
    .bind(provider)
    .fetch_optional(conn)
    .await?;
    Ok(found)
}

async fn is_waiting(conn: &mut Conn, channel: &str, line_user_id: &str) -> Result<bool> {
    let found: Option<String> =
        sqlx::query_scalar("SELECT mark FROM menu_changes WHERE channel = $1 AND line_user_id = $2")
            .bind(channel)
            .bind(line_user_id)
            .fetch_optional(conn)
            .await?;
    Ok(found.is_some())
}
