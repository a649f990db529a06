//! What this process counted since its start, for Prometheus. Labels are words of ours and names of the configuration:
//! nobody outside can add one.

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// The counters. They are made with the process and never reset.
#[derive(Debug, Default)]
pub struct Metrics {
    webhooks: Family<Labels, Counter>,
    webhook_commits: Counter,
    events_received: Family<Labels, Counter>,
    events_handled: Family<Labels, Counter>,
    hooks: Family<Ended, Counter>,
    hooks_disabled: Family<Ended, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    channel: String,
    result: &'static str,
}

impl Metrics {
    /// A request at the webhook, and how it was answered.
    pub fn webhook(&self, channel: &str, result: &'static str) {
        self.webhooks.get_or_create(&labels(channel, result)).inc();
    }

    /// A commit that stored one or more requests.
    pub fn webhook_commit(&self) {
        self.webhook_commits.inc();
    }

    /// Events in bodies that were stored, known ones included.
    pub fn events_received(&self, channel: &str, count: usize) {
        self.events_received.get_or_create(&labels(channel, "stored")).inc_by(count as u64);
    }

    /// A try to handle an event, and how it ended.
    pub fn event_handled(&self, channel: &str, result: &'static str) {
        self.events_handled.get_or_create(&labels(channel, result)).inc();
    }

    /// A try to tell a hook endpoint something, and the delivery's state after it.
    pub fn hook(&self, result: &'static str) {
        self.hooks.get_or_create(&Ended { result }).inc();
    }

    /// An endpoint that was disabled by itself.
    pub fn hook_disabled(&self, result: &'static str) {
        self.hooks_disabled.get_or_create(&Ended { result }).inc();
    }

    /// The counters in Prometheus' text format, without its end mark.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::default();
        registry.register("musubi_webhook_requests", "Requests at the webhook, by answer", self.webhooks.clone());
        registry.register("musubi_webhook_commits", "Commits that stored requests", self.webhook_commits.clone());
        registry.register("musubi_events_received", "Events stored, known ones included", self.events_received.clone());
        registry.register("musubi_events_handled", "Tries to handle an event, by end", self.events_handled.clone());
        registry.register("musubi_hook_tries", "Tries to tell a hook, by the state after it", self.hooks.clone());
        registry.register(
            "musubi_hooks_disabled",
            "Hooks that were disabled by themselves",
            self.hooks_disabled.clone(),
        );
        let mut text = String::new();
        text::encode_registry(&mut text, &registry)?;
        Ok(text)
    }
}

fn labels(channel: &str, result: &'static str) -> Labels {
    Labels { channel: channel.to_owned(), result }
}
