-- The company's own sign-in (src/member/oidc/): one try each, used once, for ten minutes.

CREATE TABLE oidc_attempts (
  id              TEXT PRIMARY KEY,
  state_hash      TEXT NOT NULL UNIQUE,
  purpose         TEXT NOT NULL,              -- sign_in | reauth
  nonce_hash      TEXT NOT NULL,
  sealed_verifier TEXT NOT NULL,
  browser_hash    TEXT NOT NULL,              -- of the attempt cookie
  address         TEXT NOT NULL,              -- the network it was started from
  member_id       TEXT,                       -- reauth: who must come back
  lineage_id      TEXT,                       -- and in which session
  return_to       TEXT NOT NULL,
  created_at      BIGINT NOT NULL,
  expires_at      BIGINT NOT NULL,
  used_at         BIGINT,
  outcome         TEXT                        -- a machine word
);
CREATE INDEX oidc_attempts_by_expiry ON oidc_attempts (expires_at);
CREATE INDEX oidc_attempts_by_address ON oidc_attempts (address, created_at);
CREATE INDEX oidc_attempts_by_member ON oidc_attempts (member_id);
CREATE INDEX oidc_attempts_unused ON oidc_attempts (created_at) WHERE used_at IS NULL;

-- When the member last signed in there: they can do so again, and prove themselves there.
ALTER TABLE members ADD COLUMN oidc_at BIGINT;

-- A LINE account proved inside of LINE that may be taken into another browser, once (src/link/liff/elsewhere.rs).
ALTER TABLE attempts ADD COLUMN handoff_hash TEXT;   -- of the address's secret
CREATE UNIQUE INDEX attempts_by_handoff ON attempts (handoff_hash) WHERE handoff_hash IS NOT NULL;
