//! The SQL of what people were told.

use std::sync::LazyLock;

use crate::{
    db::{Conn, Db, Millis, Rows},
    error::Result,
};

/// What a person was told.
pub(super) struct Row {
    pub line_user_id: String,
    pub channel: String,
    pub menu: Option<String>,
    pub rich_menu_id: Option<String>,
    pub now: Millis,
    pub request: Option<String>,
    pub refused: Option<String>,
}

pub(super) async fn upsert(conn: &mut Conn, db: &Db, list: &[Row]) -> Result<()> {
    static INSERT: LazyLock<Rows> = LazyLock::new(|| {
        Rows::new(
            "INSERT INTO user_menus
               (line_user_id, channel, menu, rich_menu_id, applied_at, checked_at, request, refused)
             SELECT DISTINCT column1, column2, column3, column4, column5, column5, column6, column7 FROM (VALUES",
            7,
            ") AS v WHERE 1 = 1 ORDER BY 1
             ON CONFLICT (line_user_id, channel) DO UPDATE SET menu = excluded.menu,
               rich_menu_id = excluded.rich_menu_id, applied_at = excluded.applied_at,
               checked_at = excluded.checked_at, request = excluded.request, refused = excluded.refused",
        )
    });
    for (text, rows) in INSERT.pieces(db, list) {
        let mut insert = sqlx::query(text);
        for row in rows {
            insert = insert.bind(&row.line_user_id).bind(&row.channel).bind(&row.menu).bind(&row.rich_menu_id);
            insert = insert.bind(row.now).bind(&row.request).bind(&row.refused);
        }
        insert.execute(&mut *conn).await?;
    }
    Ok(())
}

/// Forgets what people were told, of whom LINE tells nothing: when they come back they are told anew.
pub(in super::super) async fn forget(conn: &mut Conn, db: &Db, channel: &str, people: &[String]) -> Result<()> {
    static DELETE: LazyLock<Rows> =
        LazyLock::new(|| Rows::new("DELETE FROM user_menus WHERE (line_user_id, channel) IN (VALUES", 2, ")"));
    for (text, rows) in DELETE.pieces(db, people) {
        let mut delete = sqlx::query(text);
        for line_user_id in rows {
            delete = delete.bind(line_user_id).bind(channel);
        }
        delete.execute(&mut *conn).await?;
    }
    Ok(())
}

/// Takes changes away that were looked at, as (LINE user, mark): not those that came since.
pub(in super::super) async fn forget_changes(
    conn: &mut Conn,
    db: &Db,
    channel: &str,
    list: &[(&str, &str)],
) -> Result<()> {
    static DELETE: LazyLock<Rows> =
        LazyLock::new(|| Rows::new("DELETE FROM menu_changes WHERE (line_user_id, mark, channel) IN (VALUES", 3, ")"));
    for (text, rows) in DELETE.pieces(db, list) {
        let mut delete = sqlx::query(text);
        for (line_user_id, mark) in rows {
            delete = delete.bind(*line_user_id).bind(*mark).bind(channel);
        }
        delete.execute(&mut *conn).await?;
    }
    Ok(())
}

/// Has a person's menu read back at LINE.
pub(in super::super) async fn want_check(
    conn: &mut Conn,
    due_at: Millis,
    channel: &str,
    line_user_id: &str,
    request: Option<&str>,
    tries: i64,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO menu_checks (channel, line_user_id, request, tries, due_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (channel, line_user_id) DO UPDATE SET
           request = excluded.request, tries = excluded.tries, due_at = excluded.due_at",
    )
    .bind(channel)
    .bind(line_user_id)
    .bind(request)
    .bind(tries)
    .bind(due_at)
    .execute(conn)
    .await?;
    Ok(())
}
