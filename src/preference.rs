//! What members choose for themselves: topics, quiet hours, language, time zone (`/account/preferences`; tables `members`,
//! `topic_opt_outs`).
//!
//! The company may say the same of its members, by the API; whoever said it last is heeded, and an answer that says nothing
//! of it changes nothing.

pub mod page;

mod zone;

use std::collections::BTreeMap;

use crate::{
    app::App,
    audit,
    config::QuietHours,
    db::{Conn, Millis},
    error::Result,
    member::company,
    menu_change,
    message::topic,
    web::locale::Locale,
};

/// What a member has chosen; none where it is as the company, LINE or the browser says.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
struct Chosen {
    locale: Option<String>,
    time_zone: Option<String>,
    quiet_hours: Option<String>,
}

/// What a member wants from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    locale: Option<Locale>,
    time_zone: Option<String>,
    quiet_hours: Option<QuietHours>,
    /// Those that were asked about, and whether the member wants to hear of them. Others stay as they are.
    topics: BTreeMap<String, bool>,
}

/// What cannot be taken, by the field of the form that says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    Language,
    Zone,
    Quiet,
}

impl Chosen {
    async fn find(conn: &mut Conn, member_id: &str) -> Result<Self> {
        let chosen = sqlx::query_as("SELECT locale, time_zone, quiet_hours FROM members WHERE id = $1")
            .bind(member_id)
            .fetch_one(conn)
            .await?;
        Ok(chosen)
    }

    /// In one of the languages that there are.
    fn locale(&self) -> Option<Locale> {
        self.locale.as_deref().and_then(Locale::of_tag)
    }

    fn quiet_hours(&self) -> Option<QuietHours> {
        self.quiet_hours.as_deref().and_then(QuietHours::parse)
    }

    /// After the wish. `ja-JP` is Japanese already, and stays what the company says.
    fn after(&self, wanted: &Wanted) -> Self {
        let is_same = self.locale() == wanted.locale;
        Self {
            locale: if is_same { self.locale.clone() } else { wanted.locale.map(|locale| locale.tag().to_owned()) },
            time_zone: wanted.time_zone.clone(),
            quiet_hours: wanted.quiet_hours.map(|hours| hours.to_string()),
        }
    }

    /// What differs, by the API's names.
    fn changes(&self, other: &Self) -> Vec<&'static str> {
        let differs = [
            ("language", self.locale != other.locale),
            ("time_zone", self.time_zone != other.time_zone),
            ("quiet_hours", self.quiet_hours != other.quiet_hours),
        ];
        differs.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
    }
}

/// A zone of the form: empty is the company's.
fn read_zone(name: &str) -> Result<Option<String>, Flaw> {
    match name {
        "" => Ok(None),
        name => company::time_zone(name).map(Some).ok_or(Flaw::Zone),
    }
}

/// A language of the form: empty is none.
fn read_language(tag: &str) -> Result<Option<Locale>, Flaw> {
    match tag {
        "" => Ok(None),
        tag => Locale::ALL.into_iter().find(|locale| locale.tag() == tag).map(Some).ok_or(Flaw::Language),
    }
}

/// Quiet hours of the form: the company's, or from one time of the day to another.
fn read_quiet(whose: &str, from: &str, to: &str) -> Result<Option<QuietHours>, Flaw> {
    match whose {
        "company" => Ok(None),
        "own" => QuietHours::parse(&format!("{from}-{to}")).map(Some).ok_or(Flaw::Quiet),
        _ => Err(Flaw::Quiet),
    }
}

/// Keeps what a member wants, who is held; gives what has changed besides topics. What waits on a topic that is not wanted
/// any more is cancelled.
async fn keep(
    conn: &mut Conn,
    app: &App,
    now: Millis,
    member_id: &str,
    address: &str,
    wanted: &Wanted,
) -> Result<Vec<&'static str>> {
    let before = Chosen::find(conn, member_id).await?;
    let after = before.after(wanted);
    let changes = before.changes(&after);
    if !changes.is_empty() {
        update(conn, member_id, &after).await?;
        let entry = audit::Entry {
            action: "preferences_changed",
            member_id: Some(member_id),
            address: Some(address),
            data: serde_json::json!({ "fields": changes }),
            ..Default::default()
        };
        audit::insert(conn, now, entry).await?;
    }
    if changes.contains(&"language") {
        // A rule of the menus may ask for it.
        menu_change::of_members(conn, app, &[member_id.to_owned()]).await?;
    }
    for (name, wants) in &wanted.topics {
        if *wants {
            topic::opt_in(conn, now, member_id, name).await?;
        } else {
            topic::opt_out(conn, now, member_id, name).await?;
        }
    }
    Ok(changes)
}

async fn update(conn: &mut Conn, member_id: &str, chosen: &Chosen) -> Result<()> {
    sqlx::query("UPDATE members SET locale = $1, time_zone = $2, quiet_hours = $3 WHERE id = $4")
        .bind(&chosen.locale)
        .bind(&chosen.time_zone)
        .bind(&chosen.quiet_hours)
        .bind(member_id)
        .execute(conn)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_form_says_is_taken_or_refused() {
        let hours = |text: &str| Ok(QuietHours::parse(text));
        for (whose, from, to, expected) in [
            ("company", "22:00", "07:00", Ok(None)),
            ("company", "", "nonsense", Ok(None)),
            ("own", "22:00", "07:00", hours("22:00-07:00")),
            ("own", "12:00", "13:30", hours("12:00-13:30")),
            ("own", "07:00", "07:00", Err(Flaw::Quiet)),
            ("own", "", "07:00", Err(Flaw::Quiet)),
            ("own", "22:00", "", Err(Flaw::Quiet)),
            ("own", "24:00", "07:00", Err(Flaw::Quiet)),
            ("own", "22:00-07:00", "08:00", Err(Flaw::Quiet)),
            ("nobody's", "22:00", "07:00", Err(Flaw::Quiet)),
        ] {
            assert_eq!(read_quiet(whose, from, to), expected, "{whose} {from} {to}");
        }
        assert_eq!(read_zone(""), Ok(None));
        assert_eq!(read_zone("Asia/Bangkok"), Ok(Some("Asia/Bangkok".to_owned())));
        assert_eq!(read_zone("Asia/../etc/passwd"), Err(Flaw::Zone));
        assert_eq!(read_language(""), Ok(None));
        assert_eq!(read_language("zh-TW"), Ok(Some(Locale::ZhTw)));
        assert_eq!(read_language("zh"), Err(Flaw::Language));
    }

    #[test]
    fn what_is_the_same_stays_as_it_was_said() {
        let chosen = |tag: &str| Chosen { locale: Some(tag.to_owned()), time_zone: None, quiet_hours: None };
        let wanted = |locale| Wanted { locale, time_zone: None, quiet_hours: None, topics: BTreeMap::new() };
        for (before, wish, after) in [
            ("ja-JP", Some(Locale::Ja), Some("ja-JP")),
            ("ja-JP", Some(Locale::Th), Some("th")),
            ("ja-JP", None, None),
            // No page speaks it.
            ("fr", None, Some("fr")),
        ] {
            let kept = chosen(before).after(&wanted(wish));
            assert_eq!(kept.locale.as_deref(), after, "{before}");
            assert_eq!(chosen(before).changes(&kept).is_empty(), after == Some(before), "{before}");
        }
    }
}
