-- One way to send: to one person or to many, now or later, urgent or in bulk.

ALTER TABLE members ADD COLUMN time_zone TEXT;       -- an IANA name

-- What the company calls its members by, to choose whom a message is for.
CREATE TABLE member_tags (
  member_id TEXT NOT NULL REFERENCES members (id),
  tag       TEXT NOT NULL,
  PRIMARY KEY (member_id, tag)
);
CREATE INDEX member_tags_by_tag ON member_tags (tag, member_id);

-- What a member does not want to hear of.
CREATE TABLE topic_opt_outs (
  member_id  TEXT NOT NULL REFERENCES members (id),
  topic      TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (member_id, topic)
);

ALTER TABLE messages ADD COLUMN source TEXT;          -- JSON of the template as it was when accepted, by language; null: rendered at acceptance
ALTER TABLE messages ADD COLUMN data TEXT;            -- JSON that fills it
ALTER TABLE messages ADD COLUMN content TEXT;         -- JSON list of LINE message objects, where all recipients get the same
ALTER TABLE messages ADD COLUMN audience TEXT;        -- JSON of who was meant, where they are many
ALTER TABLE messages ADD COLUMN send_at BIGINT;       -- not before
ALTER TABLE messages ADD COLUMN collapse_key TEXT;    -- replaces a waiting, never tried delivery of the same key
ALTER TABLE messages ADD COLUMN idempotency_key TEXT; -- of whoever asked
ALTER TABLE messages ADD COLUMN fingerprint TEXT;     -- hash of what was asked under that key
ALTER TABLE messages ADD COLUMN expanded_to TEXT;     -- the last link (of a tag, the last member) that was looked at, while recipients are added
ALTER TABLE messages ADD COLUMN expanded_at BIGINT;   -- when all were, or all that waited were cancelled; of a message to one person, at acceptance
ALTER TABLE messages ADD COLUMN cancelled_at BIGINT;
CREATE UNIQUE INDEX messages_by_key ON messages (idempotency_key);
CREATE INDEX messages_to_expand ON messages (channel, id) WHERE expanded_at IS NULL;
CREATE INDEX messages_to_collapse ON messages (channel, collapse_key) WHERE collapse_key IS NOT NULL;
UPDATE messages SET expanded_at = created_at;

-- A message to all goes through these; whoever is left out is found among few.
CREATE INDEX links_active ON links (provider, id) WHERE ended_at IS NULL;
CREATE INDEX members_disabled ON members (id) WHERE disabled_at IS NOT NULL;
CREATE INDEX friends_lost ON friends (line_user_id, channel) WHERE friend = 'no';

-- Who was left out at acceptance, and why.
CREATE TABLE message_exclusions (
  message_id TEXT NOT NULL REFERENCES messages (id),
  reason     TEXT NOT NULL,                           -- a machine word
  recipients BIGINT NOT NULL,
  PRIMARY KEY (message_id, reason)
);

CREATE TABLE deliveries_new (
  message_id   TEXT NOT NULL,                         -- of messages; not looked up a million times
  seq          BIGINT NOT NULL,
  channel      TEXT NOT NULL,
  lane         TEXT NOT NULL,                         -- transactional | bulk
  member_id    TEXT,
  line_user_id TEXT NOT NULL,
  link_id      TEXT,                                  -- null: to the person who wrote, linked or not
  content      TEXT,                                  -- JSON list of LINE message objects; null: the message's, or rendered when it is sent
  state        TEXT NOT NULL,                         -- waiting | sending | sent | failed | unknown | cancelled
  reason       TEXT,                                  -- a machine word
  note         TEXT,                                  -- LINE's last words
  attempts     BIGINT NOT NULL,                       -- requests made for it
  request_id   TEXT REFERENCES requests (id),         -- the present or last one
  superseded_by TEXT,                                 -- the message of the same collapse key that tells it too
  order_at     BIGINT NOT NULL,                       -- when it was meant to be sent: the order of a person's messages
  due_at       BIGINT NOT NULL,                       -- when it is tried next
  created_at   BIGINT NOT NULL,
  updated_at   BIGINT NOT NULL,
  PRIMARY KEY (message_id, seq)
);
INSERT INTO deliveries_new SELECT message_id, seq, channel, 'transactional', member_id, line_user_id, link_id, content,
  state, reason, note, attempts, request_id, NULL, created_at, due_at, created_at, updated_at FROM deliveries;
DROP TABLE deliveries;
ALTER TABLE deliveries_new RENAME TO deliveries;
CREATE INDEX deliveries_waiting ON deliveries (channel, lane, due_at, message_id, seq) WHERE state = 'waiting';
CREATE INDEX deliveries_by_request ON deliveries (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX deliveries_by_link ON deliveries (link_id, state);
CREATE INDEX deliveries_superseded ON deliveries (superseded_by, link_id) WHERE superseded_by IS NOT NULL;
CREATE INDEX deliveries_of_answers ON deliveries (line_user_id) WHERE link_id IS NULL;
CREATE INDEX deliveries_in_order ON deliveries (channel, line_user_id, order_at)
  WHERE lane = 'transactional' AND state IN ('waiting', 'sending');

ALTER TABLE requests ADD COLUMN endpoint TEXT NOT NULL DEFAULT 'push'; -- push | multicast
ALTER TABLE requests ADD COLUMN recipients BIGINT NOT NULL DEFAULT 1;

-- Messages of an hour to endpoints that LINE counts by the hour, and what LINE said of the month.
CREATE TABLE quotas (
  channel    TEXT PRIMARY KEY,
  monthly    BIGINT,                                  -- LINE's limit; null: none
  used       BIGINT NOT NULL,                         -- LINE's count
  spent      BIGINT NOT NULL,                         -- ours since then
  checked_at BIGINT NOT NULL
);
