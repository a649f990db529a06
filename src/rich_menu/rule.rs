//! Who sees a menu: the `when` of its file, an expression over what is known of a person.

use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, context};

use super::Menu;

/// What is known of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    /// An active link, not suspended, to a member who is not disabled.
    pub linked: bool,
}

/// Somebody of whom nothing is known: the channel's default menu is theirs.
pub(super) const STRANGER: Facts = Facts { linked: false };

/// Whether `when` holds for a person. A name that is not known is an error, never just false.
pub(super) fn holds(when: &str, facts: Facts) -> Result<bool, Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let value = environment.compile_expression(when)?.eval(context! { linked => facts.linked })?;
    if value.is_undefined() {
        return Err(Error::new(ErrorKind::UndefinedError, "a name in it is not known"));
    }
    Ok(value.is_true())
}

/// The menu a person should see: the first, by file name, whose rule holds.
pub(super) fn choose(menus: &[Menu], facts: Facts) -> Result<Option<&Menu>, Error> {
    for menu in menus {
        if holds(&menu.when, facts)? {
            return Ok(Some(menu));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_over_the_link() {
        for (when, linked, unlinked) in [
            ("linked", true, false),
            ("not linked", false, true),
            ("true", true, true),
            ("linked and not linked", false, false),
        ] {
            assert_eq!(holds(when, Facts { linked: true }).unwrap(), linked, "{when}");
            assert_eq!(holds(when, STRANGER).unwrap(), unlinked, "{when}");
        }
        for broken in ["", "linkd", "not linkd", "linked and", "member.tier == 'gold'", "linked linked"] {
            assert!(holds(broken, Facts { linked: true }).is_err(), "{broken:?}");
        }
    }
}
