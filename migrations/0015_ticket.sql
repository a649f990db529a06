-- Link tickets: an address that the company makes, by which one member may link, once (src/link/ticket.rs).

CREATE TABLE tickets (
  id          TEXT PRIMARY KEY,
  token_hash  TEXT NOT NULL UNIQUE,         -- of the address's secret
  code_hash   TEXT NOT NULL UNIQUE,         -- of the code that is typed, under our key: it is short
  watch_hash  TEXT NOT NULL UNIQUE,         -- of the secret that shows how far it is
  member_id   TEXT NOT NULL REFERENCES members (id),
  provider    TEXT NOT NULL,
  return_url  TEXT,                         -- a page of the company's, on its list
  made_by     TEXT NOT NULL,                -- such as key:ID
  created_at  BIGINT NOT NULL,
  expires_at  BIGINT NOT NULL,
  opened_at   BIGINT,                       -- the first start with LINE; showing the page is none
  revoked_at  BIGINT,
  used_at     BIGINT,                       -- the yes that linked
  attempt_id  TEXT,                         -- which said it
  link_id     TEXT,
  result_hash TEXT UNIQUE,                  -- of the code that the company redeems once
  redeemed_at BIGINT
);
CREATE INDEX tickets_by_member ON tickets (member_id);
CREATE INDEX tickets_by_expiry ON tickets (expires_at);

ALTER TABLE attempts ADD COLUMN ticket_id TEXT;   -- the ticket that it was started with
