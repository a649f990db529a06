//! `musubi link import`: links of the system that a company leaves, out of a CSV file of members and LINE users.
//!
//! The file is the company's word, and no proof: a link made by it can be sent to, and the person is asked before it
//! signs them in ([`imported`](super::imported)). So nothing here believes more than it must: the member must exist, a
//! tie that stands is never overwritten, and a user id that LINE does not know as a friend's is sent nothing until LINE
//! tells of the person.

mod check;
mod write;

use std::collections::BTreeMap;

use csv::StringRecord;

use self::check::{Checked, check};
use crate::{
    app::App,
    error::Result,
    import::{self, Ended, Import, ImportError, Opened, Outcome, Row},
    line,
};

/// Which file, and into which provider.
#[derive(Debug, Clone, clap::Args)]
// Two groups of one name are no command.
#[group(skip)]
pub struct Options {
    #[command(flatten)]
    pub file: import::Options,
    /// Name of the [provider.…] whose user ids these are
    #[arg(long)]
    pub provider: String,
    /// Does not ask LINE about each user id; asking takes a second for some 20 of them, for each official account
    #[arg(long)]
    pub no_check: bool,
}

/// A row that can be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pair {
    line: u64,
    external_id: String,
    user_id: String,
}

/// What may become of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    /// Both are free.
    Link {
        member_id: String,
    },
    /// Linked to each other already.
    AsBefore,
    Refused(&'static str),
}

/// Imports a file; `note` gets what is told beside the answer.
pub async fn run(app: &App, options: &Options, note: &mut (dyn FnMut(&str) + Send)) -> Result<Ended, ImportError> {
    let provider = options.provider.as_str();
    if !app.config.provider.contains_key(provider) {
        let known = app.config.provider.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        return Err(ImportError::Header(format!("there is no provider {provider:?}; there are: {known}")));
    }
    let channels: Vec<String> = app.config.channels_of(provider).cloned().collect();
    let asks = !options.no_check && !channels.is_empty();
    let mut import = match Import::open(app, &options.file, ("links", provider), note).await? {
        Opened::Open(import) => import,
        Opened::Done(ended) => return Ok(ended),
    };
    let places = places(import.header())?;
    loop {
        let keys =
            |record: &StringRecord| places.iter().filter_map(|place| record.get(*place)).map(str::to_owned).collect();
        let rows = import.next_batch(keys)?;
        if rows.is_empty() {
            return import.finish().await;
        }
        let read: Vec<Result<Pair, String>> = rows.iter().map(|row| pair(row, places)).collect();
        let pairs: Vec<Pair> = read.iter().flatten().cloned().collect();
        let mut checked = BTreeMap::new();
        if asks {
            // Only who would be linked: LINE is not asked about others.
            let fates = write::judge(&mut *app.db.conn().await?, app, provider, &pairs).await?;
            let open = pairs.iter().zip(&fates).filter(|(_, fate)| matches!(fate, Fate::Link { .. }));
            checked = check(app, &channels, open.map(|(pair, _)| pair)).await?;
        }
        let batch = Batch { app, provider, channels: &channels, read: &read, pairs: &pairs, checked: &checked, asks };
        let mut tried = 1;
        while let Err(error) = batch.commit(&mut import, &rows).await {
            if !import::is_worth_another_try(&error, tried).await {
                return Err(error);
            }
            tried += 1;
        }
    }
}

struct Batch<'a> {
    app: &'a App,
    provider: &'a str,
    channels: &'a [String],
    read: &'a [Result<Pair, String>],
    pairs: &'a [Pair],
    checked: &'a BTreeMap<String, Checked>,
    asks: bool,
}

impl Batch<'_> {
    /// Writes the batch in one transaction.
    async fn commit(&self, import: &mut Import<'_>, rows: &[Row]) -> Result<(), ImportError> {
        let mut tx = self.app.db.begin().await?;
        let fates = write::judge(&mut tx, self.app, self.provider, self.pairs).await?;
        let open: Vec<write::New<'_>> = self
            .pairs
            .iter()
            .zip(&fates)
            .filter_map(|(pair, fate)| match fate {
                Fate::Link { member_id } => {
                    Some(write::New { user_id: &pair.user_id, member_id, checked: self.checked.get(&pair.user_id) })
                }
                Fate::AsBefore | Fate::Refused(_) => None,
            })
            .collect();
        let into = write::Into { provider: self.provider, channels: self.channels, import_id: import.id() };
        let made = write::link(&mut tx, self.app, &into, &open).await?;
        let mut fates = fates.iter();
        let outcomes: Vec<Outcome> = self
            .read
            .iter()
            .map(|row| match row {
                Err(why) => Outcome::refused(why.clone()),
                Ok(pair) => match fates.next() {
                    Some(Fate::Link { .. }) if made.contains(&pair.user_id) => self.outcome(pair),
                    Some(Fate::Link { .. }) | None => Outcome::refused("one of the two was linked just now"),
                    Some(Fate::AsBefore) => Outcome::of("as before"),
                    Some(Fate::Refused(why)) => Outcome::refused(*why),
                },
            })
            .collect();
        import.commit(tx, rows, &outcomes).await
    }

    fn outcome(&self, pair: &Pair) -> Outcome {
        match self.checked.get(&pair.user_id) {
            Some(checked) if checked.profile.is_some() => Outcome::of("linked"),
            Some(_) => Outcome::told(
                "linked but unknown to LINE",
                "LINE does not know this user as a friend: blocked, never added, or of another provider; nothing is \
                 sent until LINE tells of them",
            ),
            None if self.asks => Outcome::of("linked"),
            None => Outcome::of("linked without asking LINE"),
        }
    }
}

/// The places of the two columns.
fn places(header: &StringRecord) -> Result<[usize; 2], ImportError> {
    let place = |name: &str| {
        let mut found = header.iter().enumerate().filter(|(_, column)| *column == name).map(|(place, _)| place);
        match (found.next(), found.next()) {
            (Some(place), None) => Ok(place),
            (None, _) => Err(ImportError::Header(format!("{name} is missing"))),
            (Some(_), Some(_)) => Err(ImportError::Header(format!("{name} is there twice"))),
        }
    };
    let places = [place("external_id")?, place("line_user_id")?];
    if header.len() > places.len() {
        return Err(ImportError::Header("there are external_id and line_user_id, and no other columns".to_owned()));
    }
    Ok(places)
}

fn pair(row: &Row, places: [usize; 2]) -> Result<Pair, String> {
    let record = row.record.as_ref().map_err(Clone::clone)?;
    let [external_id, user_id] = places.map(|place| record.get(place).unwrap_or_default().to_owned());
    if !crate::member::company::is_external_id(&external_id) {
        return Err("external_id must be 1 to 100 visible characters".to_owned());
    }
    if !line::is_user_id(&user_id) {
        return Err("line_user_id is no LINE user id: U and 32 of 0-9 and a-f".to_owned());
    }
    Ok(Pair { line: row.line, external_id, user_id })
}
