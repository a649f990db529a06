-- One text for SQLite and PostgreSQL. Types are TEXT, BIGINT, DOUBLE PRECISION and BYTEA only.
-- Times are epoch milliseconds; a flag is a nullable time; ids are UUIDv7 text.

CREATE TABLE members (
  id                  TEXT PRIMARY KEY,
  external_id         TEXT UNIQUE,            -- the company's own id, where it has one
  email               TEXT NOT NULL,          -- as the person wrote it
  email_key           TEXT NOT NULL UNIQUE,   -- the one normal form that is compared
  email_verified_at   BIGINT,
  name                TEXT NOT NULL,
  password_hash       TEXT,                   -- PHC string; null: no password
  password_changed_at BIGINT,
  locale              TEXT,
  source              TEXT NOT NULL,          -- sign_up | company
  created_at          BIGINT NOT NULL,
  disabled_at         BIGINT
);

CREATE TABLE sessions (
  id_hash          TEXT PRIMARY KEY,          -- of the cookie's value
  member_id        TEXT NOT NULL REFERENCES members (id),
  lineage_id       TEXT NOT NULL,             -- survives rotation; ends at sign-out or a new sign-in
  method           TEXT NOT NULL,             -- password | line
  authenticated_at BIGINT NOT NULL,
  link_id          TEXT,                      -- the link a LINE sign-in came by; unlinking ends the session
  created_at       BIGINT NOT NULL,
  last_seen_at     BIGINT NOT NULL,
  idle_expires_at  BIGINT NOT NULL,
  expires_at       BIGINT NOT NULL,           -- absolute: activity never extends it
  user_agent       TEXT NOT NULL,
  address          TEXT NOT NULL
);
CREATE INDEX sessions_by_member ON sessions (member_id);
CREATE INDEX sessions_by_link ON sessions (link_id);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);
CREATE INDEX sessions_by_idle_expiry ON sessions (idle_expires_at);

CREATE TABLE line_users (
  id           TEXT PRIMARY KEY,
  provider     TEXT NOT NULL,
  user_id      TEXT NOT NULL,                 -- LINE's, unique within the provider only
  display_name TEXT NOT NULL,
  picture_url  TEXT,
  language     TEXT,
  profile_at   BIGINT NOT NULL,
  created_at   BIGINT NOT NULL,
  UNIQUE (provider, user_id)
);

CREATE TABLE friends (
  line_user_id TEXT NOT NULL REFERENCES line_users (id),
  channel      TEXT NOT NULL,
  friend       TEXT NOT NULL,                 -- yes | no | unknown
  changed_at   BIGINT NOT NULL,
  PRIMARY KEY (line_user_id, channel)
);

CREATE TABLE links (
  id              TEXT PRIMARY KEY,
  provider        TEXT NOT NULL,
  line_user_id    TEXT NOT NULL REFERENCES line_users (id),
  member_id       TEXT NOT NULL REFERENCES members (id),
  source          TEXT NOT NULL,              -- web | liff | account_link | ticket | imported
  consent_version TEXT NOT NULL,
  consent_locale  TEXT NOT NULL,
  created_at      BIGINT NOT NULL,
  suspended_at    BIGINT,                     -- occupies its place, but signs nobody in
  ended_at        BIGINT,
  end_reason      TEXT
);
-- At most one active link per LINE user, and per member and provider.
CREATE UNIQUE INDEX links_active_line_user ON links (line_user_id) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX links_active_member ON links (member_id, provider) WHERE ended_at IS NULL;
CREATE INDEX links_by_member ON links (member_id, created_at);
CREATE INDEX links_by_line_user ON links (line_user_id);

-- What an unlink still has to do at LINE, and how far it is.
CREATE TABLE unlink_steps (
  link_id    TEXT NOT NULL REFERENCES links (id),
  step       TEXT NOT NULL,                   -- deauthorize | revoke | menu
  state      TEXT NOT NULL,                   -- pending | done | not_applicable | needs_user | cancelled
  note       TEXT,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (link_id, step)
);

-- The person's tokens at LINE, sealed; needed to deauthorize at the unlink.
CREATE TABLE grants (
  id                 TEXT PRIMARY KEY,
  provider           TEXT NOT NULL,
  line_user_id       TEXT NOT NULL REFERENCES line_users (id),
  link_id            TEXT REFERENCES links (id),
  attempt_id         TEXT,
  sealed             TEXT,                    -- null once erased
  access_expires_at  BIGINT NOT NULL,
  refresh_expires_at BIGINT NOT NULL,
  created_at         BIGINT NOT NULL,
  ended_at           BIGINT,
  end_reason         TEXT
);
CREATE INDEX grants_by_link ON grants (link_id);
CREATE INDEX grants_by_attempt ON grants (attempt_id);

CREATE TABLE attempts (
  id              TEXT PRIMARY KEY,
  state_hash      TEXT NOT NULL UNIQUE,
  provider        TEXT NOT NULL,
  purpose         TEXT NOT NULL,              -- sign_in | link | ticket
  nonce_hash      TEXT NOT NULL,
  sealed_verifier TEXT NOT NULL,
  browser_hash    TEXT NOT NULL,              -- of the attempt cookie
  address         TEXT NOT NULL,              -- the network it was started from
  member_id       TEXT,
  lineage_id      TEXT,
  return_to       TEXT NOT NULL,
  created_at      BIGINT NOT NULL,
  expires_at      BIGINT NOT NULL,
  used_at         BIGINT,
  outcome         TEXT,                       -- a machine word, for `attempts list`
  line_user_id    TEXT,
  friend          TEXT,
  confirm_by      BIGINT,                     -- set when a link waits for the person's yes
  confirmed_at    BIGINT
);
CREATE INDEX attempts_by_expiry ON attempts (expires_at);
CREATE INDEX attempts_by_browser ON attempts (browser_hash);
CREATE INDEX attempts_by_address ON attempts (address, created_at);
CREATE INDEX attempts_unused ON attempts (created_at) WHERE used_at IS NULL;

-- The texts people agreed to, as evidence.
CREATE TABLE consent_texts (
  version    TEXT NOT NULL,
  locale     TEXT NOT NULL,
  text       TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (version, locale)
);

CREATE TABLE audit (
  id        TEXT PRIMARY KEY,
  at        BIGINT NOT NULL,
  action    TEXT NOT NULL,
  reason    TEXT,                             -- machine-readable, for refusals
  member_id TEXT,
  subject   TEXT,                             -- the id of what was acted on
  provider  TEXT,
  address   TEXT,
  data      TEXT NOT NULL                     -- JSON
);
CREATE INDEX audit_by_member ON audit (member_id, at);

CREATE TABLE jobs (
  id           TEXT PRIMARY KEY,
  kind         TEXT NOT NULL,
  job          TEXT NOT NULL,                 -- JSON of the job: ids only
  subject      TEXT NOT NULL,                 -- what it acts on
  due_at       BIGINT NOT NULL,
  attempts     BIGINT NOT NULL,
  leased_until BIGINT,                        -- by the database's clock
  fence        BIGINT NOT NULL,
  created_at   BIGINT NOT NULL,
  ended_at     BIGINT,
  parked_at    BIGINT,
  note         TEXT                           -- the last error, or why it is parked or was cancelled
);
CREATE INDEX jobs_open ON jobs (due_at) WHERE ended_at IS NULL AND parked_at IS NULL;
CREATE INDEX jobs_by_subject ON jobs (subject);
CREATE INDEX jobs_by_end ON jobs (ended_at);

CREATE TABLE leases (
  name       TEXT PRIMARY KEY,
  holder     TEXT NOT NULL,
  expires_at BIGINT NOT NULL                  -- by the database's clock
);
