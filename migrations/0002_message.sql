-- What was asked to be sent. Accepted recipients are the sum of the message's deliveries over all states.
CREATE TABLE messages (
  id         TEXT PRIMARY KEY,
  channel    TEXT NOT NULL,
  lane       TEXT NOT NULL,                   -- transactional
  cause      TEXT NOT NULL,                   -- what asked for it
  topic      TEXT,
  template   TEXT NOT NULL,
  locale     TEXT NOT NULL,
  accepted   BIGINT NOT NULL,
  created_at BIGINT NOT NULL
);

-- One HTTP request to LINE: written before the first try, never changed while its outcome is open.
CREATE TABLE requests (
  id                  TEXT PRIMARY KEY,
  channel             TEXT NOT NULL,
  retry_key           TEXT NOT NULL UNIQUE,
  body                TEXT NOT NULL,          -- sent as it is, each time
  state               TEXT NOT NULL,          -- open | sent | refused | failed | unknown
  attempts            BIGINT NOT NULL,        -- counted at the claim; the fence of its result
  first_attempt_at    BIGINT NOT NULL,
  next_attempt_at     BIGINT NOT NULL,
  line_request_id     TEXT,
  accepted_request_id TEXT,                   -- the earlier request that LINE had accepted under this key
  sent_message_ids    TEXT,                   -- JSON
  note                TEXT,                   -- LINE's last words
  closed_at           BIGINT
);
CREATE INDEX requests_open ON requests (channel, next_attempt_at) WHERE state = 'open';

-- One sending to one recipient: the outbox, and afterwards the push log.
CREATE TABLE deliveries (
  message_id   TEXT NOT NULL REFERENCES messages (id),
  seq          BIGINT NOT NULL,
  channel      TEXT NOT NULL,
  member_id    TEXT NOT NULL,
  line_user_id TEXT NOT NULL,
  link_id      TEXT NOT NULL,
  content      TEXT NOT NULL,                 -- JSON list of LINE message objects, rendered
  state        TEXT NOT NULL,                 -- waiting | sending | sent | failed | unknown | cancelled
  reason       TEXT,                          -- a machine word
  note         TEXT,                          -- LINE's last words
  attempts     BIGINT NOT NULL,               -- requests made for it
  request_id   TEXT REFERENCES requests (id), -- the present or last one
  due_at       BIGINT NOT NULL,
  created_at   BIGINT NOT NULL,
  updated_at   BIGINT NOT NULL,
  PRIMARY KEY (message_id, seq)
);
CREATE INDEX deliveries_waiting ON deliveries (channel, due_at) WHERE state = 'waiting';
CREATE INDEX deliveries_by_request ON deliveries (request_id);
CREATE INDEX deliveries_by_link ON deliveries (link_id, state);

-- A channel in which nothing is sent for a while, because LINE said so or is away.
CREATE TABLE send_pauses (
  channel      TEXT PRIMARY KEY,
  paused_until BIGINT NOT NULL,
  note         TEXT NOT NULL
);
