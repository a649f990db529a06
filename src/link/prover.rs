//! Who says yes for the member: a signed-in member, or whoever holds a ticket of theirs.

use super::{attempt::Pending, liff, refusal::Cause, ticket::Ticket};
use crate::{
    db::Millis,
    member::{self, session::Session},
};

/// Whose member account it is, by what proof.
pub(super) enum Prover {
    Session(Box<Session>),
    Ticket(Box<Ticket>),
}

impl Prover {
    pub fn member_id(&self) -> &str {
        match self {
            Self::Session(session) => &session.member_id,
            Self::Ticket(ticket) => &ticket.member_id,
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Self::Session(session) => &session.name,
            Self::Ticket(ticket) => &ticket.name,
        }
    }

    pub fn email(&self) -> &str {
        match self {
            Self::Session(session) => &session.email,
            Self::Ticket(ticket) => &ticket.email,
        }
    }

    pub fn locale(&self) -> Option<&str> {
        match self {
            Self::Session(session) => session.locale.as_deref(),
            Self::Ticket(ticket) => ticket.locale.as_deref(),
        }
    }

    /// The member's name and address as the page shows them; whoever holds a ticket may be somebody else.
    pub fn shown(&self) -> (String, String) {
        match self {
            Self::Session(session) => (session.name.clone(), member::masked_email(&session.email)),
            Self::Ticket(ticket) => (ticket.masked_name(), ticket.masked_detail()),
        }
    }

    /// Kept with the link.
    pub fn source(&self, pending: &Pending) -> &'static str {
        match self {
            Self::Session(_) if pending.purpose == liff::PROVEN => "liff",
            Self::Session(_) => "web",
            Self::Ticket(_) => "ticket",
        }
    }

    /// Since when the member must be as they were.
    pub fn since(&self, pending: &Pending) -> Millis {
        match self {
            // LINE's proof came first, and who the member is only afterwards.
            Self::Session(session) if pending.purpose == liff::PROVEN => session.authenticated_at,
            Self::Session(_) => pending.created_at,
            Self::Ticket(ticket) => ticket.created_at,
        }
    }

    /// What is said where the member is not as they were.
    pub fn changed(&self) -> Cause {
        match self {
            Self::Session(_) => Cause::Unavailable,
            Self::Ticket(_) => Cause::TicketGone,
        }
    }

    pub fn ticket(&self) -> Option<&Ticket> {
        match self {
            Self::Session(_) => None,
            Self::Ticket(ticket) => Some(ticket),
        }
    }
}
