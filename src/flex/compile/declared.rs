//! What `$data` says of the values that a template writes.

use super::{Compiler, Filter, Kind};

impl Compiler {
    pub(super) fn check_filters(&mut self, path: &str, filters: &[Filter], at: &str) {
        if !filters.iter().any(|filter| matches!(filter, Filter::Default(_))) {
            self.must_be_there(path, at);
        }
        let Some(kind) = self.kind(path) else { return };
        let wrong = match (filters.first(), &kind) {
            (Some(Filter::Number(_)), Kind::Number) | (Some(Filter::Date(_)), Kind::Date) => None,
            (Some(Filter::Number(_)), _) => Some("not as a number"),
            (Some(Filter::Date(_)), _) => Some("not as a date"),
            (_, Kind::List(_) | Kind::Object(_) | Kind::Bool) => Some("which is no text"),
            _ => None,
        };
        if let Some(wrong) = wrong {
            self.complain(at, format!("{path} is declared as {}, {wrong}", kind.word()));
        }
    }

    /// An optional value is written where a condition found it, or with a default.
    pub(super) fn must_be_there(&mut self, path: &str, at: &str) {
        let optional = self.field(path).map(|(_, optional)| optional).unwrap_or_default();
        // A condition that found `order.shop` has found `order` too.
        let is_known = |part: &str| self.present.iter().any(|known| known == part || is_below(known, part));
        if optional.iter().any(|part| !is_known(part)) {
            self.complain(at, format!("{path} is optional: give it a default, or write it in $then of an $if"));
        }
    }

    pub(super) fn kind(&self, path: &str) -> Option<Kind> {
        self.field(path).map(|(kind, _)| kind)
    }

    /// What is declared of a path, and which parts of it may be missing. Without a declaration nothing is known.
    pub(super) fn field(&self, path: &str) -> Option<(Kind, Vec<String>)> {
        let fields = self.schema.as_ref()?;
        let mut names = path.split('.');
        let mut part = names.next()?.to_owned();
        let mut optional = Vec::new();
        let mut kind = match self.loops.iter().rev().find(|(name, _)| *name == part) {
            Some((_, of)) => of.clone()?,
            None => {
                let field = fields.get(&part)?;
                optional.extend(field.is_optional.then(|| part.clone()));
                field.kind.clone()
            }
        };
        for name in names {
            let Kind::Object(fields) = &kind else { return None };
            let field = fields.get(name)?;
            part = format!("{part}.{name}");
            optional.extend(field.is_optional.then(|| part.clone()));
            kind = field.kind.clone();
        }
        Some((kind, optional))
    }
}

fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.starts_with('.'))
}
