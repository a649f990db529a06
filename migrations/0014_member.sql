-- Members as the company's: what it says of them, and what it brings with it from elsewhere.

-- For templates, rules and lists. A value is its text, with what it is beside: one index finds all of them.
CREATE TABLE member_attributes (
  member_id TEXT NOT NULL REFERENCES members (id),
  name      TEXT NOT NULL,
  kind      TEXT NOT NULL,                    -- text | number | flag
  value     TEXT NOT NULL,
  PRIMARY KEY (member_id, name)
);
CREATE INDEX member_attributes_by_value ON member_attributes (name, value, member_id);

-- The linked members of a provider, in the order of the members.
CREATE INDEX links_active_by_member ON links (provider, member_id) WHERE ended_at IS NULL;

-- Taken over from another system, and not yet confirmed by the person: it signs nobody in.
ALTER TABLE links ADD COLUMN unconfirmed_at BIGINT;

-- How far the import of a file came.
CREATE TABLE imports (
  id         TEXT PRIMARY KEY,
  kind       TEXT NOT NULL,                   -- members | links
  subject    TEXT NOT NULL,                   -- the provider of links; else empty
  file_hash  TEXT NOT NULL,
  rows_done  BIGINT NOT NULL,
  counts     TEXT NOT NULL,                   -- JSON: by what became of the rows
  started_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  ended_at   BIGINT
);
CREATE UNIQUE INDEX imports_by_file ON imports (kind, subject, file_hash);
