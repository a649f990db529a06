//! What follows from LINE's event: a rule without a database.

use crate::link::refusal::Cause;

/// What is true when the event is handled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub is_ok: bool,
    /// The event comes from the person whom the link token was made for, and by the same channel.
    pub is_same_person: bool,
    pub is_in_time: bool,
    /// Neither disabled nor deleted, with the password and in the session of the yes.
    pub is_member_unchanged: bool,
    /// The two were linked after the yes, and unlinked again.
    pub is_unlinked_since: bool,
}

/// What follows from an event whose nonce is known and was not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Link,
    Refuse(Reason),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// Another LINE user was in the browser.
    Failed,
    /// LINE's own check should have seen it.
    OtherPerson,
    Expired,
    MemberChanged,
    UnlinkedSince,
    Conflict(Cause),
}

impl Reason {
    /// For the row and the audit.
    pub fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::OtherPerson => "other_person",
            Self::Expired => "expired",
            Self::MemberChanged => "member_changed",
            Self::UnlinkedSince => "unlinked_since",
            Self::Conflict(cause) => cause.reason(),
        }
    }
}

pub(super) fn judge(facts: &Facts) -> Verdict {
    match facts {
        Facts { is_ok: false, .. } => Verdict::Refuse(Reason::Failed),
        Facts { is_same_person: false, .. } => Verdict::Refuse(Reason::OtherPerson),
        Facts { is_in_time: false, .. } => Verdict::Refuse(Reason::Expired),
        Facts { is_member_unchanged: false, .. } => Verdict::Refuse(Reason::MemberChanged),
        Facts { is_unlinked_since: true, .. } => Verdict::Refuse(Reason::UnlinkedSince),
        Facts { .. } => Verdict::Link,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn support_has_words_for_each_reason() {
        let next = |reason: &Reason| {
            Some(match reason {
                Reason::Failed => Reason::OtherPerson,
                Reason::OtherPerson => Reason::Expired,
                Reason::Expired => Reason::MemberChanged,
                Reason::MemberChanged => Reason::UnlinkedSince,
                Reason::UnlinkedSince => Reason::Conflict(Cause::ConflictLine),
                Reason::Conflict(_) => return None,
            })
        };
        for reason in std::iter::successors(Some(Reason::Failed), next) {
            assert!(crate::link::attempt::told::of(reason.word()).is_some(), "no words for {reason:?}");
        }
    }

    #[test]
    fn what_follows_from_an_event() {
        let good = Facts {
            is_ok: true,
            is_same_person: true,
            is_in_time: true,
            is_member_unchanged: true,
            is_unlinked_since: false,
        };
        for (facts, expected) in [
            (good, Verdict::Link),
            (Facts { is_ok: false, is_same_person: false, ..good }, Verdict::Refuse(Reason::Failed)),
            (Facts { is_same_person: false, is_in_time: false, ..good }, Verdict::Refuse(Reason::OtherPerson)),
            (Facts { is_in_time: false, is_member_unchanged: false, ..good }, Verdict::Refuse(Reason::Expired)),
            (Facts { is_member_unchanged: false, ..good }, Verdict::Refuse(Reason::MemberChanged)),
            (Facts { is_unlinked_since: true, ..good }, Verdict::Refuse(Reason::UnlinkedSince)),
        ] {
            assert_eq!(judge(&facts), expected, "{facts:?}");
        }
    }
}
