//! Guesses (table `throttles`): how often a password or a code was tried in vain, and until when to rest.
//!
//! A try is counted, in a commit of its own, before anything is compared: of 500 that come at one time, ten are
//! compared. Success forgets the tries; so does a reset. What is counted:
//!
//! - a browser unknown to the account, by the address it names, whether that is anybody's or not: ten tries, then
//!   rests from a minute up to a quarter of an hour; after 100 in a row one try a day, so that patience does not
//!   pay either. The owner gets in by a known browser, by LINE, or by a reset
//! - a browser in which this member signed in before ([`device`](super::device)), by itself, by the same rules: others
//!   who guess from elsewhere do not keep it out
//! - a signed-in member who proves it again, by the member
//! - all unknown browsers together: many failures over many accounts, from many networks, make each of them wait
//! - mails that strangers cause, by the network they come from
//! - short codes of tickets, by the network they are typed in, and all together as the unknown browsers are

use std::time::Duration;

use super::password::{self, Verdict};
use crate::{
    app::App,
    db::{Conn, Millis},
    error::{Error, Result},
    web::visit,
};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Tries of one kind that count together.
struct Rule {
    /// Tries without a rest after them.
    free: i64,
    /// Fewer tries than `free` are forgotten after this.
    window: Duration,
    /// The first rest; each further try doubles it.
    first: Duration,
    longest: Duration,
    /// Quiet after which all is forgotten.
    quiet: Duration,
}

const SOON: Rule = Rule {
    free: 10,
    window: MINUTE.saturating_mul(15),
    first: MINUTE,
    longest: MINUTE.saturating_mul(15),
    quiet: HOUR,
};
const HOUR: Duration = Duration::from_secs(3600);
/// NIST: at most 100 failures in a row.
const EVER: Rule = Rule { free: 100, window: KEPT, first: DAY, longest: DAY, quiet: KEPT };
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Failures of unknown browsers over all accounts: an alarm, and a rest for all of them.
pub const BRAKE_AT: i64 = 1000;
const BRAKE: Rule = Rule {
    free: BRAKE_AT,
    window: MINUTE.saturating_mul(10),
    first: MINUTE.saturating_mul(10),
    longest: MINUTE.saturating_mul(10),
    quiet: MINUTE.saturating_mul(10),
};
const BRAKE_NAME: &str = "brake";
const CODE_BRAKE_NAME: &str = "code_brake";
/// Failures that one network adds to the brake within its window, so that no single one can hold it.
const BRAKE_SHARE: Rule = Rule { free: 50, ..BRAKE };
/// Mails to strangers that one network may cause within an hour.
const MAILS: Rule = Rule { free: 120, window: HOUR, first: MINUTE.saturating_mul(10), longest: HOUR, quiet: HOUR };

/// Who tries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guesser {
    /// A browser that the account does not know; `account` is the address as one normal form.
    Unknown { account: String },
    /// A browser in which this member signed in before.
    Known { token_hash: String, member_id: String },
    /// A signed-in member.
    Member { member_id: String },
    /// Whoever confirms this sign-up.
    SignUp { id: String },
    /// Whoever has mails sent to addresses that they need not own; `address` is where they come from.
    Stranger { address: String },
    /// Whoever types the short code of a ticket; `address` is where they come from.
    TicketCode { address: String },
}

/// One counter of a guesser.
struct Counter {
    name: String,
    rule: &'static Rule,
}

/// A row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
struct Tries {
    tries: i64,
    since: Millis,
    tried_at: Millis,
    rests_till: Millis,
}

impl Guesser {
    fn counters(&self, app: &App) -> Vec<Counter> {
        let counter = |kind: &str, id: &str, rule| Counter { name: format!("{kind}:{id}"), rule };
        match self {
            Self::Unknown { account } => {
                // Keyed, so that a copy of the table does not tell whose address was tried.
                let id = app.sealer.sign(&format!("throttle:{account}"));
                vec![counter("account", &id, &SOON), counter("account_ever", &id, &EVER)]
            }
            Self::Known { token_hash, member_id } => {
                let id = format!("{token_hash}:{member_id}");
                vec![counter("device", &id, &SOON), counter("device_ever", &id, &EVER)]
            }
            Self::Member { member_id } => {
                vec![counter("member", member_id, &SOON), counter("member_ever", member_id, &EVER)]
            }
            Self::SignUp { id } => vec![counter("sign_up", id, &SOON)],
            Self::Stranger { address } => vec![counter("mails", &of_network(app, address), &MAILS)],
            Self::TicketCode { address } => vec![counter("ticket", &of_network(app, address), &SOON)],
        }
    }

    /// The counter of all who guess so, none of whom is known.
    fn brake(&self) -> Option<&'static str> {
        match self {
            Self::Unknown { .. } => Some(BRAKE_NAME),
            Self::TicketCode { .. } => Some(CODE_BRAKE_NAME),
            Self::Known { .. } | Self::Member { .. } | Self::SignUp { .. } | Self::Stranger { .. } => None,
        }
    }
}

/// Compares a password, where the guesser may try; the answer else is [`Error::TooMany`].
pub async fn compare(app: &App, guesser: &Guesser, stored: Option<&str>, password: &str) -> Result<Verdict> {
    admit(app, guesser).await?;
    let verdict = password::verify(app, stored, password).await;
    if verdict.is_err() {
        give_back(app, guesser).await?;
    }
    verdict
}

/// Counts a try, unless the guesser must rest.
pub async fn admit(app: &App, guesser: &Guesser) -> Result<()> {
    let (now, counters) = (app.now(), guesser.counters(app));
    // Most of a flood is turned away here, without a write.
    let till = rests_till(&mut *app.db.conn().await?, &counters, guesser.brake()).await?;
    if till > now {
        return Err(rest(now, till));
    }
    let mut tx = app.db.begin().await?;
    for counter in &counters {
        let kept = hold(&mut tx, now, &counter.name).await?;
        let counted = count(kept, counter.rule, now).map_err(|till| rest(now, till))?;
        update(&mut tx, &counter.name, counted).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Takes a try back that was counted and not compared.
pub async fn give_back(app: &App, guesser: &Guesser) -> Result<()> {
    let mut tx = app.db.begin().await?;
    for Counter { name, rule } in guesser.counters(app) {
        sqlx::query(
            "UPDATE throttles SET tries = tries - 1, rests_till = CASE WHEN tries > $1 THEN rests_till ELSE 0 END
             WHERE name = $2 AND tries > 0",
        )
        .bind(rule.free)
        .bind(name)
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Forgets the tries of a guesser who was right.
pub async fn succeed(conn: &mut Conn, app: &App, guesser: &Guesser) -> Result<()> {
    for Counter { name, .. } in guesser.counters(app) {
        sqlx::query("DELETE FROM throttles WHERE name = $1").bind(name).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Notes that a guesser was wrong, for the brake.
pub async fn fail(conn: &mut Conn, app: &App, guesser: &Guesser, address: &str) -> Result<()> {
    let Some(brake) = guesser.brake() else { return Ok(()) };
    let now = app.now();
    let share = format!("{brake}_share:{}", of_network(app, address));
    match count(hold(conn, now, &share).await?, &BRAKE_SHARE, now) {
        Ok(counted) if counted.tries <= BRAKE_SHARE.free => update(conn, &share, counted).await?,
        Ok(_) | Err(_) => return Ok(()),
    }
    // A rest that has begun meanwhile is not made longer by those who were on their way.
    if let Ok(counted) = count(hold(conn, now, brake).await?, &BRAKE, now) {
        update(conn, brake, counted).await?;
        if counted.tries == BRAKE.free {
            tracing::error!(
                failures = counted.tries,
                brake,
                "alarm: passwords, or codes of tickets, are guessed from many places; who is unknown must wait"
            );
        }
    }
    Ok(())
}

/// The state after one more try, or until when to rest.
fn count(kept: Tries, rule: &Rule, now: Millis) -> Result<Tries, Millis> {
    if kept.rests_till > now {
        return Err(kept.rests_till);
    }
    let forgotten = match kept.tries {
        0 => true,
        tries if tries < rule.free => now >= kept.since.plus(rule.window),
        _ => now >= kept.tried_at.plus(rule.quiet),
    };
    let (tries, since) = if forgotten { (1, now) } else { (kept.tries + 1, kept.since) };
    let rests_till = match u32::try_from(tries - rule.free) {
        Ok(doublings) => now.plus(rule.first.saturating_mul(1 << doublings.min(16)).min(rule.longest)),
        Err(_) => Millis(0),
    };
    Ok(Tries { tries, since, tried_at: now, rests_till })
}

/// Stands for an IPv4 address, or the /48 of IPv6 that anybody is given who asks. Keyed, as accounts are.
fn of_network(app: &App, address: &str) -> String {
    let network = visit::network(address);
    let wide = match network.strip_suffix("::/64") {
        Some(prefix) => prefix.split(':').take(3).collect::<Vec<_>>().join(":"),
        None => network,
    };
    app.sealer.sign(&format!("throttle network:{wide}"))
}

fn rest(now: Millis, till: Millis) -> Error {
    Error::TooMany { seconds: u64::try_from((till.0 - now.0 + 999) / 1000).unwrap_or(0).max(1) }
}

async fn rests_till(conn: &mut Conn, counters: &[Counter], brake: Option<&str>) -> Result<Millis> {
    let name = |index: usize| counters.get(index).map_or("", |counter| counter.name.as_str());
    let till: Option<i64> = sqlx::query_scalar("SELECT MAX(rests_till) FROM throttles WHERE name IN ($1, $2, $3)")
        .bind(name(0))
        .bind(name(1))
        .bind(brake.unwrap_or_default())
        .fetch_one(conn)
        .await?;
    Ok(Millis(till.unwrap_or(0)))
}

/// The row, held until the transaction ends.
async fn hold(conn: &mut Conn, now: Millis, name: &str) -> Result<Tries> {
    let held = sqlx::query_as(
        "INSERT INTO throttles (name, tries, since, tried_at, rests_till) VALUES ($1, 0, $2, $2, 0)
         ON CONFLICT (name) DO UPDATE SET tries = throttles.tries
         RETURNING tries, since, tried_at, rests_till",
    )
    .bind(name)
    .bind(now)
    .fetch_one(conn)
    .await?;
    Ok(held)
}

async fn update(conn: &mut Conn, name: &str, counted: Tries) -> Result<()> {
    sqlx::query("UPDATE throttles SET tries = $1, since = $2, tried_at = $3, rests_till = $4 WHERE name = $5")
        .bind(counted.tries)
        .bind(counted.since)
        .bind(counted.tried_at)
        .bind(counted.rests_till)
        .bind(name)
        .execute(conn)
        .await?;
    Ok(())
}

/// Deletes what no rule remembers any more, some at a time: those of every guess after a month, the others after a day.
pub async fn prune(conn: &mut Conn, now: Millis) -> Result<u64> {
    let deleted = sqlx::query(
        "DELETE FROM throttles WHERE name IN
           (SELECT name FROM throttles WHERE tried_at < $1 AND rests_till < $2
              AND (tried_at < $3 OR name NOT LIKE '%_ever:%') LIMIT 500)",
    )
    .bind(now.minus(DAY))
    .bind(now)
    .bind(now.minus(KEPT))
    .execute(conn)
    .await?;
    Ok(deleted.rows_affected())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Tries = Tries { tries: 0, since: Millis(0), tried_at: Millis(0), rests_till: Millis(0) };

    /// Tries again as soon as it may, `times` times; gives the rests in minutes.
    fn rests(rule: &Rule, times: usize) -> Vec<i64> {
        let (mut now, mut kept, mut rests) = (Millis(1_000_000), NOTHING, Vec::new());
        for _ in 0..times {
            kept = count(kept, rule, now).unwrap();
            let till = kept.rests_till.max(now);
            if till > now {
                assert_eq!(count(kept, rule, till.plus_signed(-1)), Err(till));
            }
            rests.push((till.0 - now.0) / 60_000);
            now = till;
        }
        rests
    }

    #[test]
    fn p02_ten_are_free_then_the_rests_double() {
        assert_eq!(rests(&SOON, 16), [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 4, 8, 15, 15, 15]);
        assert_eq!(rests(&EVER, 103)[98..], [0, 24 * 60, 24 * 60, 24 * 60, 24 * 60]);
        assert_eq!(rests(&BRAKE, 1001)[998..], [0, 10, 0]);
    }

    #[test]
    fn p02_tries_are_forgotten_after_their_time() {
        let (start, quarter) = (Millis(1_000_000), MINUTE * 15);
        let nine = (0..9).fold(NOTHING, |kept, _| count(kept, &SOON, start).unwrap());
        let after = |kept, time| count(kept, &SOON, start.plus(time)).unwrap().tries;
        assert_eq!(after(nine, quarter - Duration::from_millis(1)), 10);
        assert_eq!(after(nine, quarter), 1);
        let ten = count(nine, &SOON, start).unwrap();
        assert_eq!(after(ten, quarter), 11, "who had to rest is remembered longer");
        assert_eq!(after(ten, HOUR), 1);
    }
}
