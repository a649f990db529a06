-- Bringing every person's menu to what the rules say.

-- People whose menu is to be looked at, written in the transaction of what changed. A later change has another mark, so
-- that whoever looked before it does not take the row away.
CREATE TABLE menu_changes (
  channel      TEXT NOT NULL,
  line_user_id TEXT NOT NULL REFERENCES line_users (id),
  mark         TEXT NOT NULL,
  due_at       BIGINT NOT NULL,
  tries        BIGINT NOT NULL,               -- 0: told where it differs; else told in any case, and how often before
  PRIMARY KEY (channel, line_user_id)
);
CREATE INDEX menu_changes_due ON menu_changes (channel, due_at);

-- Whose menu is read back at LINE: a sample of each request for many, and whoever was told by two at a time.
CREATE TABLE menu_checks (
  channel      TEXT NOT NULL,
  line_user_id TEXT NOT NULL REFERENCES line_users (id),
  request      TEXT,                          -- ours, for many; null: this person alone
  tries        BIGINT NOT NULL,
  due_at       BIGINT NOT NULL,
  PRIMARY KEY (channel, line_user_id)
);
CREATE INDEX menu_checks_due ON menu_checks (channel, due_at);

-- A channel's last walk over all of its people, and how the reconciler fares there.
CREATE TABLE menu_sweeps (
  channel     TEXT PRIMARY KEY,
  version     BIGINT NOT NULL,                -- of the set it brings
  menus       TEXT NOT NULL,                  -- the set's ids at LINE: one made anew is another
  reason      TEXT NOT NULL,                  -- set | time
  cursor      TEXT NOT NULL,                  -- the last person who is done
  seen        BIGINT NOT NULL,
  moved       BIGINT NOT NULL,
  started_at  BIGINT NOT NULL,
  updated_at  BIGINT NOT NULL,
  ended_at    BIGINT,
  boundary_at BIGINT,                         -- when a rule's time opens or closes next: then all are walked anew
  batch_id    TEXT,                           -- ours, by which LINE resumes a batch
  batch_line  TEXT,                           -- LINE's, by which it tells how far the batch is
  batch_moves TEXT,                           -- JSON: from which menu to which; null: none, or over
  batch_at    BIGINT,                         -- not asked about before
  failures    BIGINT NOT NULL,
  rests_till  BIGINT NOT NULL,                -- LINE is left alone
  note        TEXT                            -- the last failure
);

-- What the company's system chose for one member, before all rules.
CREATE TABLE menu_overrides (
  member_id TEXT NOT NULL REFERENCES members (id),
  channel   TEXT NOT NULL,
  menu      TEXT NOT NULL,                    -- name of a file
  until     BIGINT,
  set_at    BIGINT NOT NULL,
  PRIMARY KEY (member_id, channel)
);
CREATE INDEX menu_overrides_by_end ON menu_overrides (channel, until);

ALTER TABLE user_menus ADD COLUMN checked_at BIGINT NOT NULL DEFAULT 0;  -- told alone, or read at LINE and found right
ALTER TABLE user_menus ADD COLUMN request TEXT;                          -- ours, for many; null: told alone
ALTER TABLE user_menus ADD COLUMN refused TEXT;                          -- LINE does not take this person's id
CREATE INDEX user_menus_by_check ON user_menus (channel, checked_at)
  WHERE rich_menu_id IS NOT NULL AND refused IS NULL;
CREATE INDEX user_menus_by_request ON user_menus (request);
