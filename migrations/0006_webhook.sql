-- What LINE sent and was answered 200 for, as it came: one row for each channel of a shared commit. The inbox reads it
-- within moments, splits it into bodies and events, and deletes it in the same transaction.
CREATE TABLE intake (
  id          TEXT PRIMARY KEY,               -- in the order of arrival
  channel     TEXT NOT NULL,
  requests    BYTEA NOT NULL,                 -- of each a line of JSON (id, signature, time, length), then its body
  events      BIGINT NOT NULL,                -- how many the requests bring, known ones included
  received_at BIGINT NOT NULL                 -- of the first request
);

-- Whose try has not ended, and when an event's content was taken out of the bodies. A copy has the event's time, and none
-- where it came later.
ALTER TABLE events ADD COLUMN claimed_by TEXT;
ALTER TABLE events ADD COLUMN erased_at BIGINT;
ALTER TABLE event_copies ADD COLUMN erased_at BIGINT;
