//! Imports (table `imports`): the rows of a CSV file, some hundreds in one transaction.
//!
//! How far a file came commits with what its rows did, so that an import which was killed goes on where it stopped when
//! the same command is run again. A file is known by what is in it, not by its name.

mod journal;

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use aws_lc_rs::digest::{self, SHA256};
use csv::StringRecord;
use indicatif::{ProgressBar, ProgressStyle};

use self::journal::Entry;
use crate::{
    app::App,
    db::{Millis, Tx},
    error::{self, Error},
    kill,
};

/// Rows of one transaction.
const AT_ONCE: usize = 480;
/// Others write too: SQLite has one writer.
const BREATH: Duration = Duration::from_millis(4);
/// Rows between two lines where no bar is drawn.
const LINE_EVERY: u64 = 50_000;
/// Tries of a batch while the database is away, or somebody holds what it needs.
const TRIES: u32 = 5;

/// Which file, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The CSV file, in UTF-8; its first row names the columns
    pub file: PathBuf,
    /// Looks at every row and says what would come of it; stores nothing. What rows of one file do to each other it
    /// does not see
    #[arg(long)]
    pub dry_run: bool,
    /// Goes through a file again that was imported before
    #[arg(long)]
    pub again: bool,
}

/// Why an import cannot begin, or go on.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    #[error("{0} is no file")]
    NoFile(PathBuf),
    #[error("the file cannot be read: {0}")]
    Csv(#[from] csv::Error),
    #[error("the first row: {0}")]
    Header(String),
    #[error("another process imports this file at the moment")]
    Twice,
    #[error("line {line}: {why}; run the command again to go on from there")]
    Stopped { line: u64, why: String },
    #[error(transparent)]
    Failed(#[from] Error),
}

impl From<sqlx::Error> for ImportError {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// A row of the file, or why it cannot be read.
#[derive(Debug)]
pub struct Row {
    pub line: u64,
    pub record: Result<StringRecord, String>,
}

/// What became of a row: a word that is counted, and what is to be told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub word: &'static str,
    pub note: Option<String>,
}

/// The word of rows that changed nothing because of a mistake or a conflict.
pub const REFUSED: &str = "refused";

impl Outcome {
    pub fn of(word: &'static str) -> Self {
        Self { word, note: None }
    }

    pub fn told(word: &'static str, note: impl Into<String>) -> Self {
        Self { word, note: Some(note.into()) }
    }

    pub fn refused(note: impl Into<String>) -> Self {
        Self::told(REFUSED, note)
    }
}

/// How an import ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Rows by what became of them.
    pub counts: BTreeMap<String, u64>,
    pub lines: Vec<String>,
}

impl Ended {
    /// The command's exit code: 4 where rows were refused.
    pub fn code(&self) -> u8 {
        if self.counts.contains_key(REFUSED) { 4 } else { 0 }
    }
}

/// A file that is being imported.
pub struct Import<'a> {
    app: &'a App,
    reader: csv::Reader<File>,
    header: StringRecord,
    /// Read ahead: it belongs to the next batch.
    ahead: Option<Row>,
    entry: Entry,
    is_dry: bool,
    bar: ProgressBar,
    told_at: u64,
    note: &'a mut (dyn FnMut(&str) + Send),
}

/// What opening a file came to.
pub enum Opened<'a> {
    Open(Box<Import<'a>>),
    /// It was imported before: nothing is to be done.
    Done(Ended),
}

impl<'a> Import<'a> {
    /// Opens a file and finds how far it came. `note` gets what is told beside the answer.
    pub async fn open(
        app: &'a App,
        options: &Options,
        (kind, subject): (&'static str, &str),
        note: &'a mut (dyn FnMut(&str) + Send),
    ) -> Result<Opened<'a>, ImportError> {
        let path = options.file.as_path();
        let (hash, size) = digest_of(path)?;
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(path)?;
        let header = reader.headers()?.clone();
        let entry = if options.dry_run {
            Entry::default()
        } else {
            journal::begin(app, (kind, subject, &hash), options.again).await?
        };
        if let Some(ended_at) = entry.ended_at {
            let at = when(ended_at);
            let line = format!("this file was imported before, on {at}; nothing to do (--again goes through it anew)");
            let lines = [vec![line], summary(&entry)].concat();
            return Ok(Opened::Done(Ended { counts: BTreeMap::new(), lines }));
        }
        let mut import =
            Self { app, reader, header, ahead: None, entry, is_dry: options.dry_run, bar: bar(size), told_at: 0, note };
        import.skip()?;
        Ok(Opened::Open(Box::new(import)))
    }

    /// The names of the columns.
    pub fn header(&self) -> &StringRecord {
        &self.header
    }

    /// For the audit.
    pub fn id(&self) -> &str {
        &self.entry.id
    }

    pub fn is_dry(&self) -> bool {
        self.is_dry
    }

    /// Goes past what was done before.
    fn skip(&mut self) -> Result<(), ImportError> {
        if self.entry.rows_done > 0 {
            (self.note)(&format!("goes on after {} rows that are done", self.entry.rows_done));
        }
        for _ in 0..self.entry.rows_done {
            self.read()?;
        }
        Ok(())
    }

    /// The next rows, of which no two have a key in common; none at the end.
    pub fn next_batch(&mut self, keys: impl Fn(&StringRecord) -> Vec<String>) -> Result<Vec<Row>, ImportError> {
        let (mut batch, mut seen) = (Vec::new(), HashSet::new());
        while batch.len() < AT_ONCE {
            let row = match self.ahead.take() {
                Some(row) => row,
                None => match self.read()? {
                    Some(row) => row,
                    None => break,
                },
            };
            let keys = row.record.as_ref().map(&keys).unwrap_or_default();
            if keys.iter().any(|key| seen.contains(key)) {
                self.ahead = Some(row);
                break;
            }
            seen.extend(keys);
            batch.push(row);
        }
        Ok(batch)
    }

    fn read(&mut self) -> Result<Option<Row>, ImportError> {
        let mut record = StringRecord::new();
        match self.reader.read_record(&mut record) {
            Ok(false) => Ok(None),
            Ok(true) => Ok(Some(Row { line: self.line_of(&record), record: Ok(record) })),
            Err(error) if error.is_io_error() => Err(error.into()),
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                Ok(Some(Row { line, record: Err(words(&error)) }))
            }
        }
    }

    /// Where a record begins. What the reader says of it is where it looked for it: before the empty lines.
    fn line_of(&self, record: &StringRecord) -> u64 {
        let looked = record.position().map_or(0, csv::Position::line);
        let inside = record.iter().flat_map(str::bytes).filter(|byte| *byte == b'\n').count() as u64;
        looked.max(self.reader.position().line().saturating_sub(inside + 1))
    }

    /// Commits what a batch did with how far the file is now; a dry run takes it back. Then the rows' notes are told.
    pub async fn commit(&mut self, mut tx: Tx, rows: &[Row], outcomes: &[Outcome]) -> Result<(), ImportError> {
        let mut entry = self.entry.clone();
        entry.rows_done += rows.len() as u64;
        for outcome in outcomes {
            *entry.counts.entry(outcome.word.to_owned()).or_default() += 1;
        }
        if self.is_dry {
            tx.rollback().await?;
        } else {
            if !journal::advance(&mut tx, self.app.now(), &entry, self.entry.rows_done).await? {
                return Err(ImportError::Twice);
            }
            kill::point("import.recorded");
            tx.commit().await?;
            kill::point("import.committed");
        }
        self.entry = entry;
        self.tell(rows, outcomes);
        tokio::time::sleep(BREATH).await;
        Ok(())
    }

    fn tell(&mut self, rows: &[Row], outcomes: &[Outcome]) {
        let note = &mut self.note;
        for (row, outcome) in rows.iter().zip(outcomes) {
            if let Some(text) = &outcome.note {
                self.bar.suspend(|| note(&format!("line {}: {text}", row.line)));
            }
        }
        self.bar.set_position(self.reader.position().byte());
        if self.bar.is_hidden() && self.entry.rows_done >= self.told_at + LINE_EVERY {
            self.told_at = self.entry.rows_done;
            note(&format!("{} rows are done", self.entry.rows_done));
        }
    }

    /// Notes that the file is through.
    pub async fn finish(self: Box<Self>) -> Result<Ended, ImportError> {
        self.bar.finish_and_clear();
        if !self.is_dry {
            journal::end(self.app, &self.entry.id).await?;
        }
        let mut lines = summary(&self.entry);
        if self.is_dry {
            lines.push("nothing was stored".to_owned());
        }
        Ok(Ended { counts: self.entry.counts, lines })
    }
}

/// Whether a failed batch is tried again: after `tried` tries, waiting a little.
pub async fn is_worth_another_try(error: &ImportError, tried: u32) -> bool {
    let is_passing = matches!(error, ImportError::Failed(error::Error::Unavailable(_))) && tried < TRIES;
    if is_passing {
        tracing::warn!(%error, "a batch is tried again");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    is_passing
}

fn summary(entry: &Entry) -> Vec<String> {
    let counts: Vec<String> = entry.counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    let counts = if counts.is_empty() { String::new() } else { format!("; {}", counts.join(", ")) };
    vec![format!("rows: {}{counts}", entry.rows_done)]
}

fn words(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("has {len} columns; the first row has {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => "is not UTF-8".to_owned(),
        _ => error.to_string(),
    }
}

/// A hash of all that is in the file, and its size.
fn digest_of(path: &Path) -> Result<(String, u64), ImportError> {
    let failed = |error| ImportError::File(path.to_owned(), error);
    let mut file = File::open(path).map_err(failed)?;
    // It is read twice.
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(ImportError::NoFile(path.to_owned()));
    }
    let (mut context, mut size, mut buffer) = (digest::Context::new(&SHA256), 0, vec![0; 256 * 1024]);
    loop {
        let read = file.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            break;
        }
        context.update(&buffer[..read]);
        size += read as u64;
    }
    let hash = context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((hash, size))
}

fn when(at: Millis) -> String {
    jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().strftime("%F %H:%M UTC").to_string()
}

/// Drawn on a terminal only.
fn bar(size: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("imported [{bar:40}] {percent}% {eta}");
    let bar = ProgressBar::new(size);
    style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style.progress_chars("=> ")))
}
