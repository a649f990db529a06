-- Mail, one-time proofs by mail, guesses, known browsers, consents.

ALTER TABLE members ADD COLUMN deleted_at BIGINT;

-- A mail names its kind and ids. What it says is rendered when it is sent, and its token is made then: no token
-- is ever in the database.
CREATE TABLE mails (
  id            TEXT PRIMARY KEY,
  kind          TEXT NOT NULL,
  mail          TEXT NOT NULL,               -- JSON of the mail: ids and names, never a token
  recipient     TEXT NOT NULL,               -- empty once erased
  recipient_key TEXT NOT NULL,
  member_id     TEXT,
  locale        TEXT NOT NULL,
  state         TEXT NOT NULL,               -- waiting | sent | dropped
  note          TEXT,                        -- why it was dropped, or the last error
  created_at    BIGINT NOT NULL,
  drop_at       BIGINT NOT NULL,             -- later than this it helps nobody
  ended_at      BIGINT
);
CREATE INDEX mails_by_recipient ON mails (recipient_key, kind, created_at);
CREATE INDEX mails_by_member ON mails (member_id);
CREATE INDEX mails_by_end ON mails (ended_at);

-- Who asked for an account, until they prove that the address is theirs.
CREATE TABLE sign_ups (
  id            TEXT PRIMARY KEY,
  email         TEXT NOT NULL,
  email_key     TEXT NOT NULL,
  name          TEXT NOT NULL,
  password_hash TEXT NOT NULL,
  locale        TEXT NOT NULL,
  browser_hash  TEXT NOT NULL,               -- of the form cookie it was sent from
  created_at    BIGINT NOT NULL,
  expires_at    BIGINT NOT NULL,
  used_at       BIGINT
);
CREATE INDEX sign_ups_by_expiry ON sign_ups (expires_at);

-- One-time proofs that somebody reads a mailbox.
CREATE TABLE tokens (
  id         TEXT PRIMARY KEY,
  token_hash TEXT NOT NULL UNIQUE,
  purpose    TEXT NOT NULL,                  -- sign_up | reset | change_email | code | undo_link
  member_id  TEXT,
  subject    TEXT NOT NULL,                  -- a sign-up, a new address, a session's lineage, a link; may be empty
  tries      BIGINT NOT NULL,                -- wrong guesses of a code
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  used_at    BIGINT,
  voided_at  BIGINT
);
CREATE INDEX tokens_by_member ON tokens (member_id, purpose);
CREATE INDEX tokens_by_subject ON tokens (subject, purpose);
CREATE INDEX tokens_by_expiry ON tokens (expires_at);

-- Browsers in which a member signed in before: a flood of guesses from elsewhere does not lock them out.
CREATE TABLE devices (
  token_hash   TEXT NOT NULL,               -- of the browser's cookie
  member_id    TEXT NOT NULL REFERENCES members (id),
  created_at   BIGINT NOT NULL,
  last_used_at BIGINT NOT NULL,
  PRIMARY KEY (token_hash, member_id)
);
CREATE INDEX devices_by_member ON devices (member_id);
CREATE INDEX devices_by_use ON devices (last_used_at);

-- How often something was tried in vain, and until when it must rest.
CREATE TABLE throttles (
  name     TEXT PRIMARY KEY,
  tries    BIGINT NOT NULL,
  since    BIGINT NOT NULL,
  tried_at BIGINT NOT NULL,
  rests_till BIGINT NOT NULL
);
CREATE INDEX throttles_by_try ON throttles (tried_at);

-- Which consent text each link accepted, and when. The texts are in consent_texts.
CREATE TABLE consents (
  id          TEXT PRIMARY KEY,
  link_id     TEXT NOT NULL REFERENCES links (id),
  version     TEXT NOT NULL,
  locale      TEXT NOT NULL,
  accepted_at BIGINT NOT NULL
);
CREATE INDEX consents_by_link ON consents (link_id, accepted_at);
INSERT INTO consents (id, link_id, version, locale, accepted_at)
  SELECT id, id, consent_version, consent_locale, created_at FROM links;

-- The LINE account's name when the link ended: later names may be given to whoever links it next.
ALTER TABLE links ADD COLUMN line_name TEXT;
