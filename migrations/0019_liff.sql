-- LIFF: LINE's tokens that came by our page in LINE, and the browser that showed each first (src/link/liff/).

CREATE TABLE liff_tokens (
  digest       TEXT PRIMARY KEY,              -- of the token
  browser_hash TEXT NOT NULL,                 -- of the attempt cookie
  expires_at   BIGINT NOT NULL                -- the token's own end
);
CREATE INDEX liff_tokens_by_expiry ON liff_tokens (expires_at);
CREATE INDEX liff_tokens_by_browser ON liff_tokens (browser_hash);

-- web | liff: a token of a LIFF app, which the page uses too: forgotten in the end, and not revoked.
ALTER TABLE grants ADD COLUMN kind TEXT NOT NULL DEFAULT 'web';
