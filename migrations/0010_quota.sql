-- What LINE lets a channel send in a month, and what it lets it call in an hour.

-- Of the present month, Japan's: what is left is `monthly - used - spent`.
DROP TABLE quotas;
CREATE TABLE quotas (
  channel    TEXT PRIMARY KEY,
  month      BIGINT NOT NULL,                         -- such as 202611; `used` and `spent` are of it
  monthly    BIGINT,                                  -- LINE's limit; null: none, or not told yet
  used       BIGINT NOT NULL,                         -- LINE's count, which is approximate
  spent      BIGINT NOT NULL,                         -- recipients of ours that LINE took since
  asked_at   BIGINT,                                  -- when LINE was last asked
  checked_at BIGINT,                                  -- when LINE last told
  refused_at BIGINT,                                  -- since when LINE refuses for the month's limit; null: it took the last one
  held_until BIGINT,                                  -- nothing is tried before
  low_since  BIGINT,                                  -- since when too little is left
  told_at    BIGINT                                   -- when that was told; null: it was not
);

-- Endpoints that LINE counts by the hour, over all nodes. A bucket that refills evenly is one number.
CREATE TABLE hourly_spends (
  channel  TEXT NOT NULL,
  endpoint TEXT NOT NULL,                             -- a machine word
  full_at  BIGINT NOT NULL,                           -- when all calls are there again, if none is made meanwhile
  PRIMARY KEY (channel, endpoint)
);
