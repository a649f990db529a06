//! `musubi member import`: members out of a CSV file, each as by [`company::upsert`]. An empty cell says nothing.

use csv::StringRecord;
use serde_json::{Map, Number, Value};

use super::{
    company::{self, By, Change, Mistake, Said, Wanted},
    email_key,
};
use crate::{
    app::App,
    error::Result,
    import::{self, Ended, Import, ImportError, Opened, Options, Outcome, Row},
};

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Column {
    ExternalId,
    Email,
    Name,
    Language,
    TimeZone,
    Tags,
    Attribute(String, Kind),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Flag,
}

/// Imports a file; `note` gets what is told beside the answer.
pub async fn run(app: &App, options: &Options, note: &mut (dyn FnMut(&str) + Send)) -> Result<Ended, ImportError> {
    let mut import = match Import::open(app, options, ("members", ""), note).await? {
        Opened::Open(import) => import,
        Opened::Done(ended) => return Ok(ended),
    };
    let columns = columns(import.header())?;
    let key = |column: &Column| columns.iter().position(|known| known == column);
    let (id, email) = (key(&Column::ExternalId), key(&Column::Email));
    loop {
        let rows = import.next_batch(|record| {
            let id = id.and_then(|place| record.get(place)).map(|id| format!("id:{id}"));
            id.into_iter().chain(email.and_then(|place| record.get(place)).and_then(email_key)).collect()
        })?;
        if rows.is_empty() {
            return import.finish().await;
        }
        let mut tried = 1;
        while let Err(error) = batch(app, &mut import, &columns, &rows).await {
            if !import::is_worth_another_try(&error, tried).await {
                return Err(error);
            }
            tried += 1;
        }
    }
}

async fn batch(app: &App, import: &mut Import<'_>, columns: &[Column], rows: &[Row]) -> Result<(), ImportError> {
    let read: Vec<Result<Wanted, String>> = rows.iter().map(|row| wanted(row, columns)).collect();
    let list: Vec<Wanted> = read.iter().flatten().cloned().collect();
    let mut tx = app.db.begin().await?;
    let by = By { what: "import", id: import.id() };
    let mut kept = company::upsert(&mut tx, app, &list, by).await?.into_iter();
    let mut outcomes = Vec::new();
    for row in read {
        outcomes.push(match row {
            Err(why) => Outcome::refused(why),
            Ok(_) => match kept.next() {
                Some(Ok(kept)) => Outcome::of(word(kept.change)),
                Some(Err(refusal)) => Outcome::refused(refusal.to_string()),
                None => Outcome::refused("was lost"),
            },
        });
    }
    import.commit(tx, rows, &outcomes).await
}

fn word(change: Change) -> &'static str {
    match change {
        Change::Created => "created",
        Change::Updated => "updated",
        Change::None => "as before",
    }
}

/// What each column holds, or which of their names are wrong.
fn columns(header: &StringRecord) -> Result<Vec<Column>, ImportError> {
    let wrong = |text: String| Err(ImportError::Header(text));
    let mut columns = Vec::new();
    for name in header {
        let Some(column) = column(name) else {
            return wrong(format!(
                "{name:?} is no column; there are external_id, email, name, language, time_zone, tags, and \
                 attribute.NAME, attribute.NAME:number, attribute.NAME:flag"
            ));
        };
        let is_same = |known: &Column| match (known, &column) {
            (Column::Attribute(known, _), Column::Attribute(name, _)) => known == name,
            (known, column) => known == column,
        };
        if columns.iter().any(is_same) {
            return wrong(format!("{name:?} is there twice"));
        }
        columns.push(column);
    }
    if columns.contains(&Column::ExternalId) { Ok(columns) } else { wrong("external_id is missing".to_owned()) }
}

fn column(name: &str) -> Option<Column> {
    Some(match name {
        "external_id" => Column::ExternalId,
        "email" => Column::Email,
        "name" => Column::Name,
        "language" => Column::Language,
        "time_zone" => Column::TimeZone,
        "tags" => Column::Tags,
        _ => {
            let rest = name.strip_prefix("attribute.")?;
            let (name, kind) = match rest.split_once(':') {
                None => (rest, Kind::Text),
                Some((name, "text")) => (name, Kind::Text),
                Some((name, "number")) => (name, Kind::Number),
                Some((name, "flag")) => (name, Kind::Flag),
                Some(_) => return None,
            };
            Column::Attribute(name.to_owned(), kind)
        }
    })
}

/// What a row says, looked at.
fn wanted(row: &Row, columns: &[Column]) -> Result<Wanted, String> {
    let record = row.record.as_ref().map_err(Clone::clone)?;
    let (mut said, mut id, mut mistakes) = (Said { attributes: Map::new(), ..Said::default() }, "", Vec::new());
    for (column, cell) in columns.iter().zip(record).filter(|(_, cell)| !cell.is_empty()) {
        let text = || Some(Some(cell.to_owned()));
        match column {
            Column::ExternalId => id = cell,
            Column::Email => said.email = text(),
            Column::Name => said.name = text(),
            Column::Language => said.language = text(),
            Column::TimeZone => said.time_zone = text(),
            Column::Tags => said.tags = Some(tags(cell)),
            Column::Attribute(name, kind) => match value(cell, *kind) {
                Ok(value) => drop(said.attributes.insert(name.clone(), value)),
                Err(text) => mistakes.push(Mistake { field: format!("attribute.{name}"), text: text.to_owned() }),
            },
        }
    }
    let checked = company::check(id, said);
    if let Err(more) = &checked {
        mistakes.extend(more.iter().cloned());
    }
    match checked {
        Ok(wanted) if mistakes.is_empty() => Ok(wanted),
        _ => {
            let told: Vec<String> =
                mistakes.iter().map(|mistake| format!("{} {}", mistake.field, mistake.text)).collect();
            Err(told.join("; "))
        }
    }
}

fn tags(cell: &str) -> Vec<String> {
    cell.split([';', '|']).map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
}

fn value(cell: &str, kind: Kind) -> Result<Value, &'static str> {
    match kind {
        Kind::Text => Ok(Value::String(cell.to_owned())),
        Kind::Number => serde_json::from_str::<Number>(cell).map(Value::Number).map_err(|_| "is no number"),
        Kind::Flag => match cell {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err("is neither true nor false"),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn header(names: &[&str]) -> Result<Vec<Column>, String> {
        columns(&StringRecord::from(names.to_vec())).map_err(|error| error.to_string())
    }

    #[test]
    fn columns_are_known_and_there_once() {
        let known = header(&["external_id", "attribute.tier", "attribute.points:number", "tags"]).unwrap();
        assert_eq!(known[2], Column::Attribute("points".into(), Kind::Number));
        for (names, why) in [
            (&["email"][..], "external_id is missing"),
            (&["external_id", "e-mail"], "\"e-mail\" is no column"),
            (&["external_id", "attribute.a:date"], "is no column"),
            (&["external_id", "name", "name"], "\"name\" is there twice"),
            (&["external_id", "attribute.a", "attribute.a:flag"], "is there twice"),
        ] {
            let told = header(names).unwrap_err();
            assert!(told.contains(why), "{names:?}: {told}");
        }
    }

    #[test]
    fn an_empty_cell_says_nothing() {
        let columns =
            header(&["external_id", "email", "tags", "attribute.points:number", "attribute.vip:flag"]).unwrap();
        let row = |cells: &[&str]| Row { line: 2, record: Ok(StringRecord::from(cells.to_vec())) };
        let said = wanted(&row(&["1", "", "", "", ""]), &columns).unwrap();
        assert_eq!((said.email, said.tags, said.attributes.len()), (None, None, 0));
        let said = wanted(&row(&["1", "", " b; a |;", "1.5", "true"]), &columns).unwrap();
        assert_eq!(said.tags.unwrap(), ["a", "b"]);
        let values: Vec<_> = said.attributes.values().flatten().map(company_json).collect();
        assert_eq!(values, [json!(1.5), json!(true)]);
        let told = wanted(&row(&["", "x", "", "many", "yes"]), &columns).unwrap_err();
        for words in ["external_id must", "email is no", "attribute.points is no number", "attribute.vip is neither"] {
            assert!(told.contains(words), "{told}");
        }
    }

    fn company_json(attribute: &crate::member::attribute::Attribute) -> Value {
        attribute.json()
    }
}
