//! Statements over many rows at a time: one way to the database for many.

use super::{Db, Engine};

/// Rows of a statement: few lengths, so that each stays prepared. What is short of one is filled up with its last row,
/// so that a row twice must be the same as once.
const LENGTHS: [usize; 9] = [1, 2, 4, 6, 9, 14, 21, 32, 48];

/// A statement's texts, one for each length.
#[derive(Debug)]
pub struct Rows {
    sqlite: Vec<String>,
    postgres: Vec<String>,
}

impl Rows {
    /// `head`, then `(…), (…)` of so many columns, then `tail`. Head and tail have no parameters of their own.
    pub fn new(head: &str, columns: usize, tail: &str) -> Self {
        Self::locking(head, columns, tail, "")
    }

    /// [`new`](Self::new), with a lock clause that PostgreSQL reads at its end.
    pub fn locking(head: &str, columns: usize, tail: &str, lock: &str) -> Self {
        let texts = |place: &dyn Fn(usize) -> String| {
            LENGTHS.map(|length| {
                let row = |row: usize| (1..=columns).map(|column| place(row * columns + column)).collect::<Vec<_>>();
                let rows: Vec<String> = (0..length).map(|number| format!("({})", row(number).join(", "))).collect();
                format!("{head} {} {tail}", rows.join(", "))
            })
        };
        // SQLite looks a numbered parameter up among all of them; by their order they cost nothing.
        let postgres = texts(&|number| format!("${number}")).map(|text| format!("{text} {lock}").trim_end().to_owned());
        Self { sqlite: texts(&|_| "?".to_owned()).into(), postgres: postgres.into() }
    }

    /// Cuts a list into pieces that fit a statement: its text, and the piece with the rows that fill it.
    pub fn pieces<'a, T>(
        &'static self,
        db: &Db,
        list: &'a [T],
    ) -> impl Iterator<Item = (&'static str, impl Iterator<Item = &'a T>)> {
        let texts = if db.engine == Engine::Postgres { &self.postgres } else { &self.sqlite };
        cut(list).map(|(place, piece)| (texts[place].as_str(), piece))
    }
}

fn cut<T>(list: &[T]) -> impl Iterator<Item = (usize, impl Iterator<Item = &T>)> {
    list.chunks(LENGTHS[LENGTHS.len() - 1]).filter_map(|piece| {
        let place = LENGTHS.iter().position(|length| *length >= piece.len())?;
        let filling = std::iter::repeat_n(piece.last()?, LENGTHS[place] - piece.len());
        Some((place, piece.iter().chain(filling)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_numbered_on_or_in_order() {
        let rows = Rows::new("X VALUES", 2, "Y");
        assert_eq!(rows.postgres[1], "X VALUES ($1, $2), ($3, $4) Y");
        assert_eq!(rows.sqlite[1], "X VALUES (?, ?), (?, ?) Y");
    }

    #[test]
    fn pieces_lose_nothing_and_are_filled_with_their_last() {
        for length in [0, 1, 3, 4, 5, 12, 47, 48, 49, 61, 1000] {
            let list: Vec<usize> = (0..length).collect();
            let mut all = Vec::new();
            for (place, piece) in cut(&list) {
                let piece: Vec<usize> = piece.copied().collect();
                assert_eq!(piece.len(), LENGTHS[place]);
                all.extend(piece);
            }
            all.dedup();
            assert_eq!(all, list, "{length}");
        }
    }
}
