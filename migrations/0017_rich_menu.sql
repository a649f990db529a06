-- The menus that were applied to a channel: what its people are brought to, whatever files a node has.
CREATE TABLE menu_sets (
  channel    TEXT PRIMARY KEY,
  version    BIGINT NOT NULL,                 -- one more with each change
  applied_at BIGINT NOT NULL
);

CREATE TABLE set_menus (
  channel   TEXT NOT NULL,
  name      TEXT NOT NULL,                    -- of the file
  language  TEXT NOT NULL,                    -- empty where the file knows one only
  position  BIGINT NOT NULL,                  -- in which rules are asked
  hash      TEXT NOT NULL,                    -- names the row of rich_menus
  rich_menu_id TEXT NOT NULL,                 -- at LINE; that row has another while a menu is made again
  tab_group TEXT NOT NULL,                    -- menus whose taps lead to each other
  alias     TEXT,
  rule      TEXT NOT NULL,                    -- JSON
  PRIMARY KEY (channel, name, language)
);

-- The aliases that we made at LINE.
CREATE TABLE menu_aliases (
  channel    TEXT NOT NULL,
  alias      TEXT NOT NULL,
  retired_at BIGINT,                          -- no menu of the set has it any more
  PRIMARY KEY (channel, alias)
);

-- What a menu was made of, so that it can be made again.
ALTER TABLE rich_menus ADD COLUMN language TEXT NOT NULL DEFAULT '';
ALTER TABLE rich_menus ADD COLUMN object TEXT;
ALTER TABLE rich_menus ADD COLUMN content_type TEXT;
ALTER TABLE rich_menus ADD COLUMN image BYTEA;
ALTER TABLE rich_menus ADD COLUMN retired_at BIGINT;  -- no menu of the set is this one any more
