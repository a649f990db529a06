-- What LINE sends: bodies as received, and the events in them, each handled once. Both ids are in the order of time, so
-- that their indexes grow at one end and need no others beside them for pruning.

CREATE TABLE webhook_bodies (
  id          TEXT PRIMARY KEY,               -- in the order of arrival
  channel     TEXT NOT NULL,
  body        BYTEA NOT NULL,                 -- as received, but for what a person took back
  signature   TEXT NOT NULL,                  -- as received; empty once something was taken back
  received_at BIGINT NOT NULL
);

CREATE TABLE events (
  id          TEXT NOT NULL,                  -- LINE's webhookEventId, in the order of time
  channel     TEXT NOT NULL,
  body_id     TEXT NOT NULL,
  seq         BIGINT NOT NULL,                -- its place in the body
  chat        TEXT NOT NULL,                  -- whose order it keeps: user, group or room; its own id where there is none
  at          BIGINT NOT NULL,                -- LINE's time of the event
  kind        TEXT NOT NULL,                  -- LINE's type
  state       TEXT NOT NULL,                  -- waiting | done | ignored | parked
  attempts    BIGINT NOT NULL DEFAULT 0,      -- counted at the claim; the fence of its effect
  note        TEXT,                           -- the last error, or why it is ignored or parked
  received_at BIGINT NOT NULL,
  handled_at  BIGINT,
  claimed_by  TEXT,                           -- whose try has not ended
  erased_at   BIGINT,                         -- once its content was taken out of the bodies
  PRIMARY KEY (id, channel)
);
CREATE INDEX events_waiting ON events (channel, at, id) WHERE state = 'waiting';
CREATE INDEX events_parked ON events (body_id) WHERE state = 'parked';

-- Bodies that brought a known event once more: what a person takes back is erased there too.
CREATE TABLE event_copies (
  event_id  TEXT NOT NULL,
  channel   TEXT NOT NULL,
  body_id   TEXT NOT NULL,
  erased_at BIGINT,                           -- as the event's; null in one that came later
  PRIMARY KEY (event_id, channel, body_id)
);
CREATE INDEX event_copies_by_body ON event_copies (body_id);

-- Chats in which an event failed: the later ones wait with it.
CREATE TABLE event_holds (
  channel    TEXT NOT NULL,
  chat       TEXT NOT NULL,
  held_until BIGINT NOT NULL,
  PRIMARY KEY (channel, chat)
);

-- The official account of each channel, as LINE names it.
CREATE TABLE bots (
  channel      TEXT PRIMARY KEY,
  user_id      TEXT,                          -- the destination of its webhooks; null until LINE told
  basic_id     TEXT,
  display_name TEXT,
  checked_at   BIGINT,
  suspended_at BIGINT,
  changed_at   BIGINT NOT NULL                -- LINE's time of the last suspension or its end
);

CREATE TABLE group_chats (
  channel    TEXT NOT NULL,
  id         TEXT NOT NULL,                   -- LINE's group or room id
  kind       TEXT NOT NULL,                   -- group | room
  joined_at  BIGINT,
  left_at    BIGINT,
  changed_at BIGINT NOT NULL,                 -- LINE's time of the last join or leave
  PRIMARY KEY (channel, id)
);

-- What people wrote to the official account, described in words.
CREATE TABLE chat_messages (
  channel      TEXT NOT NULL,
  id           TEXT NOT NULL,                 -- LINE's message id
  chat         TEXT NOT NULL,                 -- LINE's user, group or room id
  line_user_id TEXT REFERENCES line_users (id), -- who wrote it, where LINE says so
  event_id     TEXT NOT NULL,
  kind         TEXT NOT NULL,                 -- LINE's type; empty where only its end is known
  text         TEXT NOT NULL,                 -- written or described; empty once unsent
  data         TEXT NOT NULL,                 -- JSON: what its kind has beside
  at           BIGINT NOT NULL,
  edited_at    BIGINT,
  unsent_at    BIGINT,
  PRIMARY KEY (channel, id)
);
CREATE INDEX chat_messages_by_chat ON chat_messages (channel, chat, at);
CREATE INDEX chat_messages_by_line_user ON chat_messages (line_user_id);
CREATE INDEX chat_messages_by_time ON chat_messages (at);

-- Pictures, videos, sounds and files that came with a message. Of one chat 50, of 100 MiB in all, are kept in a day; more
-- are too_much.
CREATE TABLE media (
  channel      TEXT NOT NULL,
  message_id   TEXT NOT NULL,
  state        TEXT NOT NULL,                 -- waiting | kept | gone | too_large | too_much | erased
  content_type TEXT,
  size         BIGINT,
  bytes        BYTEA,
  created_at   BIGINT NOT NULL,
  ended_at     BIGINT,
  PRIMARY KEY (channel, message_id)
);
CREATE INDEX media_by_time ON media (created_at);

-- What is said to a person who wrote: by the reply token while it lives, else by a push.
CREATE TABLE answers (
  id           TEXT PRIMARY KEY,
  channel      TEXT NOT NULL,
  line_user_id TEXT NOT NULL REFERENCES line_users (id),
  cause        TEXT NOT NULL,                 -- a machine word: greeting, keyword, default, link, …
  content      TEXT,                          -- JSON list of LINE message objects; null until it is known
  reply_token  TEXT,
  reply_until  BIGINT NOT NULL,               -- our time after which the token is not tried
  state        TEXT NOT NULL,                 -- waiting | replying | replied | pushed | failed | unknown
  attempts     BIGINT NOT NULL,               -- replies begun
  message_id   TEXT,                          -- of the push
  note         TEXT,                          -- LINE's last words
  created_at   BIGINT NOT NULL,
  updated_at   BIGINT NOT NULL
);
CREATE INDEX answers_by_person ON answers (line_user_id, created_at);
CREATE INDEX answers_by_time ON answers (created_at);

-- Account links begun in a chat: a link token of LINE's, and the nonce that a member took there.
CREATE TABLE account_links (
  id              TEXT PRIMARY KEY,
  channel         TEXT NOT NULL,
  line_user_id    TEXT NOT NULL REFERENCES line_users (id),
  link_token_hash TEXT NOT NULL UNIQUE,
  nonce_hash      TEXT UNIQUE,
  member_id       TEXT,
  lineage_id      TEXT,                       -- of the session that agreed; ended with it, the nonce is void
  locale          TEXT,
  consent_version TEXT,
  consent_locale  TEXT,
  created_at      BIGINT NOT NULL,
  expires_at      BIGINT NOT NULL,
  agreed_at       BIGINT,                     -- the member's yes; the nonce exists from then on
  ended_at        BIGINT,
  outcome         TEXT                        -- a machine word
);
CREATE INDEX account_links_by_person ON account_links (line_user_id);
CREATE INDEX account_links_by_member ON account_links (member_id);
CREATE INDEX account_links_by_expiry ON account_links (expires_at);

-- Whether the person's permission in LINE still stands: given | withdrawn | unverifiable | none (never asked for).
ALTER TABLE links ADD COLUMN permission TEXT NOT NULL DEFAULT 'given';
ALTER TABLE grants ADD COLUMN checked_at BIGINT;
UPDATE grants SET checked_at = created_at;
CREATE INDEX grants_to_check ON grants (checked_at) WHERE ended_at IS NULL;
CREATE INDEX line_users_by_profile ON line_users (profile_at);
-- Who linked nothing is looked for among all.
CREATE INDEX grants_by_line_user ON grants (line_user_id);
CREATE INDEX attempts_by_line_user ON attempts (line_user_id);

-- Jobs that wait for one kind of server have an index of their own, so that a backlog of one holds up no other.
ALTER TABLE jobs ADD COLUMN lane TEXT NOT NULL DEFAULT 'line';
UPDATE jobs SET lane = 'mail' WHERE kind = 'send_mail';
DROP INDEX jobs_open;
CREATE INDEX jobs_open ON jobs (lane, due_at) WHERE ended_at IS NULL AND parked_at IS NULL;
DROP INDEX jobs_by_end;
CREATE INDEX jobs_by_end ON jobs (ended_at) WHERE ended_at IS NOT NULL;

-- A chat is answered without a link: deliveries need no member. (SQLite alters no column, so the table is made anew.)
CREATE TABLE deliveries_new (
  message_id   TEXT NOT NULL REFERENCES messages (id),
  seq          BIGINT NOT NULL,
  channel      TEXT NOT NULL,
  member_id    TEXT,
  line_user_id TEXT NOT NULL,
  link_id      TEXT,                          -- null: to the person who wrote, linked or not
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
INSERT INTO deliveries_new SELECT message_id, seq, channel, member_id, line_user_id, link_id, content, state, reason,
  note, attempts, request_id, due_at, created_at, updated_at FROM deliveries;
DROP TABLE deliveries;
ALTER TABLE deliveries_new RENAME TO deliveries;
CREATE INDEX deliveries_waiting ON deliveries (channel, due_at) WHERE state = 'waiting';
CREATE INDEX deliveries_by_request ON deliveries (request_id);
CREATE INDEX deliveries_by_link ON deliveries (link_id, state);
CREATE INDEX deliveries_of_answers ON deliveries (line_user_id) WHERE link_id IS NULL;
