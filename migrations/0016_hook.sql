-- What the company's own systems are told, and what became of telling them.

CREATE TABLE hook_endpoints (
  id            TEXT PRIMARY KEY,
  url           TEXT NOT NULL,                -- may hold a token of the receiver's: shown to keys that may read hooks, never logged
  description   TEXT NOT NULL,
  provider      TEXT,                         -- null: of all
  channel       TEXT,                         -- null: of all; its provider stands beside it
  sealed_secret TEXT NOT NULL,
  secret_last4  TEXT NOT NULL,
  secret_at     BIGINT NOT NULL,
  sealed_former_secret TEXT,                  -- signs beside the other one
  former_until  BIGINT,
  failing_since BIGINT,                       -- the first failure after which nothing was delivered
  failures      BIGINT NOT NULL DEFAULT 0,    -- rests in a row that helped nothing
  rest_until    BIGINT,                       -- nothing is sent there before
  disabled_at   BIGINT,
  disabled_why  TEXT,                         -- a machine word
  created_at    BIGINT NOT NULL,
  updated_at    BIGINT NOT NULL,
  deleted_at    BIGINT                        -- it stays until its log is gone
);

-- What each endpoint wants to hear of: types, or `*` for all of them, or `line.webhook` alone: LINE's bodies as they came.
CREATE TABLE hook_subscriptions (
  endpoint_id TEXT NOT NULL REFERENCES hook_endpoints (id),
  type        TEXT NOT NULL,
  PRIMARY KEY (endpoint_id, type)
);

-- Written in the transaction of what it tells of, where an endpoint wants it.
CREATE TABLE hook_events (
  id           TEXT PRIMARY KEY,              -- the webhook-id; in the order of time
  type         TEXT NOT NULL,
  at           BIGINT NOT NULL,
  provider     TEXT,
  channel      TEXT,
  member_id    TEXT,                          -- whom it is about
  line_user_id TEXT,
  source       TEXT,                          -- LINE's event id, or the body that is passed on
  data         TEXT NOT NULL,                 -- JSON
  erased_at    BIGINT
);
CREATE INDEX hook_events_by_member ON hook_events (member_id) WHERE member_id IS NOT NULL;
CREATE INDEX hook_events_by_line_user ON hook_events (line_user_id) WHERE line_user_id IS NOT NULL;
CREATE INDEX hook_events_by_source ON hook_events (source) WHERE source IS NOT NULL;

CREATE TABLE hook_deliveries (
  endpoint_id  TEXT NOT NULL,                 -- of hook_endpoints
  event_id     TEXT NOT NULL,
  state        TEXT NOT NULL,                 -- waiting | delivered | failed | cancelled
  attempts     BIGINT NOT NULL,               -- counted at the claim; the fence of its result
  tries        BIGINT NOT NULL,               -- of these, since it was last asked for: a replay begins anew
  due_at       BIGINT NOT NULL,
  leased_until BIGINT,                        -- by the database's clock
  status       BIGINT,                        -- the last answer's
  error        TEXT,                          -- the last failure, or why it is cancelled
  created_at   BIGINT NOT NULL,
  updated_at   BIGINT NOT NULL,
  PRIMARY KEY (endpoint_id, event_id)
);
CREATE INDEX hook_deliveries_waiting ON hook_deliveries (endpoint_id, due_at) WHERE state = 'waiting';
CREATE INDEX hook_deliveries_by_event ON hook_deliveries (event_id);

-- Messages whose end is to be told.
CREATE TABLE hook_watches (
  message_id TEXT PRIMARY KEY,
  from_seq   BIGINT NOT NULL,                 -- all deliveries before it are over
  looks      BIGINT NOT NULL,
  look_at    BIGINT NOT NULL
);
CREATE INDEX hook_watches_due ON hook_watches (look_at);
