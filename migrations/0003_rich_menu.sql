-- The menus we made at LINE. A menu there never changes: other content is another hash, and another row.
CREATE TABLE rich_menus (
  channel      TEXT NOT NULL,
  name         TEXT NOT NULL,                 -- of the file
  hash         TEXT NOT NULL,                 -- of its content and image
  rich_menu_id TEXT NOT NULL,
  created_at   BIGINT NOT NULL,
  image_at     BIGINT,                        -- it can be shown from then on
  gone_at      BIGINT,                        -- LINE no longer knew it
  PRIMARY KEY (channel, name, hash)
);

-- What we last told LINE that a person should see.
CREATE TABLE user_menus (
  line_user_id TEXT NOT NULL REFERENCES line_users (id),
  channel      TEXT NOT NULL,
  menu         TEXT,                          -- null: none of their own, the default shows
  rich_menu_id TEXT,
  applied_at   BIGINT NOT NULL,
  PRIMARY KEY (line_user_id, channel)
);
