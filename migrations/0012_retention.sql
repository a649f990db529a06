-- What was said goes before the facts of its sending.

ALTER TABLE messages ADD COLUMN ended_at BIGINT;      -- when its last delivery came to its end; known once its contents are gone
CREATE INDEX messages_with_contents ON messages (id) WHERE ended_at IS NULL;
CREATE INDEX messages_ended ON messages (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX answers_with_contents ON answers (created_at) WHERE content <> '[]';

ALTER TABLE answers ADD COLUMN line_request_id TEXT;  -- of LINE's last answer to a reply
