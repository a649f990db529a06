//! People whose rich menu is to be looked at (table `menu_changes`): whatever a rule can see of a person commits
//! together with a row here, and `rich_menu` does the rest.
//!
//! One row is one person on one channel, however often they changed. Each change gives it a new mark: who looked before
//! it takes away the former mark only, and finds nothing.

use std::sync::LazyLock;

use crate::{
    app::App,
    db::{Conn, Db, Millis, Rows, new_id},
    error::Result,
};

/// A person to be looked at.
#[derive(Debug, Clone)]
pub struct Change {
    pub channel: String,
    pub line_user_id: String,
    /// Not before this.
    pub due_at: Millis,
    /// Above 0: LINE is told in any case, for what was told so often was not done.
    pub tries: i64,
}

/// The members are seen otherwise by a rule: looks at those who are linked, on every channel of their provider.
pub async fn of_members(conn: &mut Conn, app: &App, members: &[String]) -> Result<()> {
    static INSERT: LazyLock<Rows> = LazyLock::new(|| {
        Rows::new(
            "INSERT INTO menu_changes (channel, line_user_id, mark, due_at, tries)
             SELECT DISTINCT v.column2, l.line_user_id, v.column4, v.column5, 0 FROM (VALUES",
            5,
            ") AS v JOIN links l ON l.member_id = v.column1 AND l.provider = v.column3 AND l.ended_at IS NULL
             WHERE 1 = 1 ORDER BY 1, 2
             ON CONFLICT (channel, line_user_id) DO UPDATE SET mark = excluded.mark,
               due_at = CASE WHEN excluded.due_at < menu_changes.due_at THEN excluded.due_at ELSE menu_changes.due_at END",
        )
    });
    let (now, mark) = (app.now(), new_id(app.now()));
    let channels = || app.config.channel.iter();
    let list: Vec<_> = members.iter().flat_map(|member| channels().map(move |channel| (member, channel))).collect();
    for (text, rows) in INSERT.pieces(&app.db, &list) {
        let mut insert = sqlx::query(text);
        for (member, (channel, known)) in rows {
            insert = insert.bind(*member).bind(*channel).bind(&known.provider).bind(&mark).bind(now);
        }
        insert.execute(&mut *conn).await?;
    }
    Ok(())
}

/// A LINE user is seen otherwise: looks at them on every channel of their provider.
pub async fn of_line_user(conn: &mut Conn, app: &App, provider: &str, line_user_id: &str) -> Result<()> {
    let change = |channel: &String| Change {
        channel: channel.clone(),
        line_user_id: line_user_id.to_owned(),
        due_at: app.now(),
        tries: 0,
    };
    let list: Vec<Change> = app.config.channels_of(provider).map(change).collect();
    insert(conn, &app.db, app.now(), &list).await
}

/// Adds people to be looked at, or the newer mark to those who are; the sooner time and the more tries hold.
pub async fn insert(conn: &mut Conn, db: &Db, now: Millis, list: &[Change]) -> Result<()> {
    static INSERT: LazyLock<Rows> = LazyLock::new(|| {
        Rows::new(
            "INSERT INTO menu_changes (channel, line_user_id, mark, due_at, tries)
             SELECT DISTINCT column1, column2, column3, column4, column5 FROM (VALUES",
            5,
            ") AS v WHERE 1 = 1 ORDER BY 1, 2
             ON CONFLICT (channel, line_user_id) DO UPDATE SET mark = excluded.mark,
               due_at = CASE WHEN excluded.due_at < menu_changes.due_at THEN excluded.due_at ELSE menu_changes.due_at END,
               tries = CASE WHEN excluded.tries > menu_changes.tries THEN excluded.tries ELSE menu_changes.tries END",
        )
    });
    let mark = new_id(now);
    for (text, rows) in INSERT.pieces(db, list) {
        let mut insert = sqlx::query(text);
        for change in rows {
            insert = insert.bind(&change.channel).bind(&change.line_user_id).bind(&mark);
            insert = insert.bind(change.due_at).bind(change.tries);
        }
        insert.execute(&mut *conn).await?;
    }
    Ok(())
}
