//! Links that were accepted and come a moment later: those of bulk requests and of batches.
//!
//! They come by the simulator's clock, as soon as anybody looks, or at the control API's word. Whoever is no friend by
//! then, or whose menu is gone, is passed over in silence. What a person was given meanwhile is overwritten: LINE's
//! documents do not say, and this is the harder case for a caller.

use std::mem;

use serde::{Deserialize, Serialize};

use super::Batch;
use crate::simulator::state::{Account, PersonId, Tie};

/// A person, and the menu they are to have; none: no menu of their own.
pub(super) type Link = (PersonId, Option<String>);

/// One accepted request.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(in crate::simulator) struct Pending {
    pub due: i64,
    pub links: Vec<Link>,
    /// The request id, of a batch.
    pub batch: Option<String>,
}

/// Carries out what is due, in the order in which it is due.
pub(in crate::simulator) fn settle(account: &mut Account, now: i64) {
    if account.pending_menus.iter().all(|pending| pending.due > now) {
        return;
    }
    let mut all = mem::take(&mut account.pending_menus);
    all.sort_by_key(|pending| pending.due);
    for pending in all {
        if pending.due > now {
            account.pending_menus.push(pending);
        } else {
            carry_out(account, pending);
        }
    }
}

/// Carries out everything now; gives how many requests there were.
pub(super) fn finish(account: &mut Account, now: i64) -> usize {
    let all = mem::take(&mut account.pending_menus);
    let count = all.len();
    for pending in all {
        carry_out(account, Pending { due: pending.due.min(now), ..pending });
    }
    count
}

fn carry_out(account: &mut Account, Pending { due, mut links, batch }: Pending) {
    let most = account.menus_fail_after.take().unwrap_or(usize::MAX).min(links.len());
    let left = links.split_off(most);
    for (person, menu) in links {
        show(account, person, menu);
    }
    if let Some(batch) = batch.and_then(|id| account.menu_batches.get_mut(&id)) {
        *batch = Batch { completed_at: Some(due), failed: !left.is_empty(), left, ..batch.clone() };
    }
}

fn show(account: &mut Account, person: PersonId, menu: Option<String>) {
    let is_friend = account.ties.get(&person) == Some(&Tie::Friend);
    match menu {
        Some(menu) if is_friend && account.menus.contains_key(&menu) => {
            account.linked_menus.insert(person, menu);
        }
        None if is_friend => {
            account.linked_menus.remove(&person);
        }
        _ => {}
    }
}
