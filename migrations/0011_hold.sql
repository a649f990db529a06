-- Put back from a backup, a database has waiting what was sent since (src/message/hold.rs).

-- When a server last worked on this database, to a minute.
CREATE TABLE heartbeats (
  name TEXT PRIMARY KEY,
  at   BIGINT NOT NULL
);
INSERT INTO heartbeats (name, at) SELECT 'serve', MAX(updated_at) FROM deliveries HAVING MAX(updated_at) IS NOT NULL;

-- Kept from being sent until an operator decides; the times when it is due are moved away meanwhile.
ALTER TABLE deliveries ADD COLUMN held_at BIGINT;
ALTER TABLE requests ADD COLUMN held_at BIGINT;
ALTER TABLE messages ADD COLUMN held_at BIGINT;   -- no recipients are added
CREATE INDEX deliveries_held ON deliveries (message_id, seq) WHERE held_at IS NOT NULL;
CREATE INDEX requests_held ON requests (id) WHERE held_at IS NOT NULL;
CREATE INDEX messages_held ON messages (id) WHERE held_at IS NOT NULL;
