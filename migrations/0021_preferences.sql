-- What members choose for themselves (src/preference.rs).

-- Such as 22:00-07:00, by their own clock; null: the company's.
ALTER TABLE members ADD COLUMN quiet_hours TEXT;
CREATE INDEX members_with_quiet_hours ON members (id) WHERE quiet_hours IS NOT NULL;
