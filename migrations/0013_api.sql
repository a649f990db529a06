-- The company's systems: their keys, and the answers they were given.

CREATE TABLE api_keys (
  id           TEXT PRIMARY KEY,              -- public: the part of the key that is shown
  secret_hash  TEXT NOT NULL,                 -- of its other part
  name         TEXT NOT NULL,                 -- for whoever looks at the list
  scopes       TEXT NOT NULL,                 -- JSON list of words
  providers    TEXT NOT NULL,                 -- JSON list of names; empty: all
  per_minute   BIGINT NOT NULL,               -- requests
  created_at   BIGINT NOT NULL,
  expires_at   BIGINT,
  revoked_at   BIGINT,
  last_used_at BIGINT                         -- to the minute
);

-- A request under an Idempotency-Key, and its answer, for a day.
CREATE TABLE api_requests (
  id           TEXT PRIMARY KEY,              -- hash of the API key's id and the idempotency key
  fingerprint  TEXT NOT NULL,                 -- hash of method, path and body
  fence        BIGINT NOT NULL,               -- tries: whose answer counts
  leased_until BIGINT NOT NULL,               -- by the database's clock: who works on it is alive till then
  status       BIGINT,                        -- of the answer; null: there is none yet
  sealed       TEXT,                          -- its body, sealed: it may hold a secret that is shown once
  created_at   BIGINT NOT NULL
);
CREATE INDEX api_requests_by_time ON api_requests (created_at);

ALTER TABLE audit ADD COLUMN actor TEXT;      -- such as key:K7MPQ2XA; null: the person, LINE, or a command

CREATE INDEX messages_by_channel ON messages (channel, id);
-- What went wrong is rare, and looked for.
CREATE INDEX deliveries_bad ON deliveries (channel, state, message_id, seq)
  WHERE state IN ('failed', 'unknown', 'cancelled');
