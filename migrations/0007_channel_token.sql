-- Channel access tokens that all nodes share (src/channel/), and what is wrong with a channel's credentials.

-- A row is made before LINE is asked, so that a token whose answer was lost is known of.
CREATE TABLE channel_tokens (
    id TEXT PRIMARY KEY,
    -- LINE's number of the channel; its name may change.
    channel_id TEXT NOT NULL,
    -- v2.1, short-lived
    kind TEXT NOT NULL,
    -- LINE's name of a token v2.1.
    key_id TEXT,
    -- The token; none before LINE answered, and none any more once it is revoked.
    sealed TEXT,
    asked_at BIGINT NOT NULL,
    expires_at BIGINT,
    -- LINE answered a call with 401.
    refused_at BIGINT,
    -- From then on nobody uses it, and it may be revoked; none of the one that is used.
    idle_at BIGINT,
    revoked_at BIGINT
);

-- One token of a channel is used.
CREATE UNIQUE INDEX channel_tokens_used ON channel_tokens (channel_id) WHERE sealed IS NOT NULL AND idle_at IS NULL;
CREATE INDEX channel_tokens_asked ON channel_tokens (channel_id, asked_at);

-- LINE refuses a channel: told once, and asked once a minute over all nodes.
CREATE TABLE channel_alarms (
    channel_id TEXT PRIMARY KEY,
    -- Hash of what was refused: other credentials are not held back.
    credentials TEXT NOT NULL,
    -- credentials: no token was given; token: a token just given was not taken.
    what TEXT NOT NULL,
    since BIGINT NOT NULL,
    -- Until then LINE is not asked again.
    until BIGINT NOT NULL,
    -- LINE's answer.
    status BIGINT,
    message TEXT NOT NULL,
    request_id TEXT NOT NULL
);
