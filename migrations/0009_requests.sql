-- A request's id is its retry key: one index less, and one that grows at its end. Requests have lanes, so that what was
-- claimed before a fault does not overtake what is urgent now.
CREATE TABLE requests_new (
  id                  TEXT PRIMARY KEY,       -- the retry key that LINE is given
  channel             TEXT NOT NULL,
  lane                TEXT NOT NULL,          -- transactional | bulk
  endpoint            TEXT NOT NULL,          -- push | multicast
  recipients          BIGINT NOT NULL,
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
-- An open one goes on under the key that LINE knows.
INSERT INTO requests_new SELECT CASE WHEN r.state = 'open' THEN r.retry_key ELSE r.id END, r.channel,
  COALESCE((SELECT MIN(d.lane) FROM deliveries d WHERE d.request_id = r.id), 'bulk'),
  r.endpoint, r.recipients, r.body, r.state, r.attempts, r.first_attempt_at, r.next_attempt_at, r.line_request_id,
  r.accepted_request_id, r.sent_message_ids, r.note, r.closed_at FROM requests r;

CREATE TABLE deliveries_new (
  message_id   TEXT NOT NULL,                 -- of messages; not looked up a million times
  seq          BIGINT NOT NULL,
  channel      TEXT NOT NULL,
  lane         TEXT NOT NULL,                 -- transactional | bulk
  member_id    TEXT,
  line_user_id TEXT NOT NULL,
  link_id      TEXT,                          -- null: to the person who wrote, linked or not
  content      TEXT,                          -- JSON list of LINE message objects; null: the message's, or rendered when it is sent
  state        TEXT NOT NULL,                 -- waiting | sending | sent | failed | unknown | cancelled
  reason       TEXT,                          -- a machine word
  note         TEXT,                          -- LINE's last words
  attempts     BIGINT NOT NULL,               -- requests made for it
  request_id   TEXT,                          -- of requests: the present or last one
  superseded_by TEXT,                         -- the message of the same collapse key that tells it too
  retried_at   BIGINT,                        -- when a first try did not end it: later ones to the same person wait
  order_at     BIGINT NOT NULL,               -- when it was meant to be sent: the order of a person's messages
  due_at       BIGINT NOT NULL,               -- when it is tried next
  created_at   BIGINT NOT NULL,
  updated_at   BIGINT NOT NULL,
  PRIMARY KEY (message_id, seq)
);
INSERT INTO deliveries_new SELECT d.message_id, d.seq, d.channel, d.lane, d.member_id, d.line_user_id, d.link_id, d.content,
  d.state, d.reason, d.note, d.attempts,
  COALESCE((SELECT r.retry_key FROM requests r WHERE r.id = d.request_id AND r.state = 'open'), d.request_id),
  d.superseded_by, NULL, d.order_at, d.due_at, d.created_at, d.updated_at FROM deliveries d;
DROP TABLE deliveries;
DROP TABLE requests;
ALTER TABLE requests_new RENAME TO requests;
ALTER TABLE deliveries_new RENAME TO deliveries;
CREATE INDEX requests_open ON requests (channel, lane, next_attempt_at) WHERE state = 'open';
CREATE INDEX deliveries_waiting ON deliveries (channel, lane, due_at, message_id, seq) WHERE state = 'waiting';
CREATE INDEX deliveries_by_request ON deliveries (request_id) WHERE request_id IS NOT NULL;
-- Without the state, so that a change of it does not touch a place of its own for each person.
CREATE INDEX deliveries_by_link ON deliveries (link_id);
CREATE INDEX deliveries_superseded ON deliveries (superseded_by, link_id) WHERE superseded_by IS NOT NULL;
CREATE INDEX deliveries_of_answers ON deliveries (line_user_id) WHERE link_id IS NULL;
CREATE INDEX deliveries_in_order ON deliveries (channel, line_user_id, order_at)
  WHERE lane = 'transactional' AND state IN ('waiting', 'sending');
CREATE INDEX deliveries_retried ON deliveries (channel, line_user_id, order_at)
  WHERE retried_at IS NOT NULL AND state IN ('waiting', 'sending');

-- How often a channel failed in a row; it begins again with one request.
ALTER TABLE send_pauses ADD COLUMN failures BIGINT NOT NULL DEFAULT 0;
