//! Who sees a menu, and when: the rule of its file. [`expression`] is over what is known of a person, [`window`] over
//! the time.

mod expression;
mod window;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

pub(super) use self::{expression::Expression, window::Window};
use super::fact::Facts;
use crate::db::Millis;

/// What a file says of who sees its menu; stored as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// An expression; none: the menu is reached by a tab only.
    pub when: Option<String>,
    /// Local date and time in the company's zone, from which on it holds.
    pub from: Option<String>,
    /// Until then, which is not in it.
    pub until: Option<String>,
    /// Such as `18:00-23:00`, every day. Hours that end before they begin go over midnight.
    pub hours: Option<String>,
}

/// A rule that is fit to be asked about a million people.
pub(super) struct Compiled {
    when: Option<Expression>,
    window: Window,
}

impl Rule {
    /// Says in words what is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        self.compile().map(|_| ())
    }

    /// Whether its time window is open.
    pub fn is_open(&self, now: Millis, zone: &TimeZone) -> Result<bool, String> {
        Ok(Window::read(self)?.is_open(now, zone))
    }

    /// When its time window opens or closes next; none where it never does again.
    pub fn next_boundary(&self, now: Millis, zone: &TimeZone) -> Result<Option<Millis>, String> {
        Ok(Window::read(self)?.next_boundary(now, zone))
    }

    pub(super) fn compile(&self) -> Result<Compiled, String> {
        let when = self.when.as_deref().map(Expression::read).transpose()?;
        Ok(Compiled { when, window: Window::read(self)? })
    }
}

impl Compiled {
    pub(super) fn window(&self) -> &Window {
        &self.window
    }

    /// Whether the expression holds for a person; what cannot be worked out for somebody does not.
    pub(super) fn holds(&self, facts: &Facts) -> bool {
        self.when.as_ref().is_some_and(|when| when.holds(facts).unwrap_or(false))
    }

    /// Why the expression does not hold for a person, where there is more to say than that.
    pub(super) fn why_not(&self, facts: &Facts) -> Option<String> {
        let Some(when) = &self.when else { return Some("it has no rule, and is reached by a tab only".to_owned()) };
        when.holds(facts).err().or_else(|| {
            let missing = when.attributes().filter(|name| !facts.has(name)).collect::<Vec<_>>();
            (!missing.is_empty()).then(|| format!("they have no member.{}", missing.join(", no member.")))
        })
    }

    /// Whether it asks for anything that the company says of members.
    pub(super) fn asks_member(&self) -> bool {
        self.when.as_ref().is_some_and(Expression::asks_member)
    }
}
