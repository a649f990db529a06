//! A plan as a person reads it.

use std::fmt;

use super::{Plan, Step, Why};

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { label, why, .. } => match why {
                Why::New => write!(f, "+ {label}"),
                Why::Vanished => write!(f, "+ {label}: it is gone at LINE, and is made again"),
                Why::Picture => write!(f, "~ {label}: picture changed"),
                Why::Content => write!(f, "~ {label}: texts or areas changed"),
                Why::Both => write!(f, "~ {label}: picture, and texts or areas changed"),
            },
            Self::Finish { label, .. } => write!(f, "~ {label}: begun before, is finished"),
            Self::Alias { alias, label, is_new: true, .. } => write!(f, "+ alias {alias} → {label}"),
            Self::Alias { alias, label, is_new: false, .. } => write!(f, "~ alias {alias} → {label}"),
            Self::Default { menu: Some((_, label)), before } => write!(f, "~ default → {label} (now: {before})"),
            Self::Default { menu: None, before } => write!(f, "- default (now: {before})"),
            Self::Unalias { alias } => write!(f, "- alias {alias}"),
            Self::Delete { name, is_former: false, .. } => write!(f, "- {name}"),
            Self::Delete { name, is_former: true, .. } => write!(f, "- {name}, as it was"),
        }
    }
}

/// A line for each difference, and for what stays.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: Vec<String> = self.conflicts.iter().map(|conflict| format!("! {conflict}")).collect();
        lines.extend(self.steps.iter().map(Step::to_string));
        lines.extend(self.rules.iter().map(|label| format!("~ {label}: who sees it, or how it is reached")));
        if self.is_order_changed {
            lines.push("~ the order in which rules are asked".to_owned());
        }
        lines.extend(self.same.iter().map(|label| format!("= {label}")));
        lines.extend(self.left_alone.iter().map(|what| format!("  left alone: {what}")));
        f.write_str(&lines.join("\n"))
    }
}
