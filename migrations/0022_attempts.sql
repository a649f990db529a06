-- What support sees of attempts: which browser started, in which one LINE came back, and how far it went
-- (src/link/attempt/command.rs).

ALTER TABLE attempts ADD COLUMN user_agent TEXT;          -- of the browser that started, as it named itself, cut
ALTER TABLE attempts ADD COLUMN returned_at BIGINT;       -- LINE's answer, also in a browser that did not start
ALTER TABLE attempts ADD COLUMN returned_agent TEXT;      -- of the browser that it came to
ALTER TABLE attempts ADD COLUMN shown_at BIGINT;          -- the page that asks for the yes
ALTER TABLE account_links ADD COLUMN user_agent TEXT;     -- of the browser that said yes
ALTER TABLE account_links ADD COLUMN address TEXT;        -- the network that it said so from

CREATE INDEX attempts_by_member ON attempts (member_id, id) WHERE member_id IS NOT NULL;
CREATE INDEX attempts_with_secrets ON attempts (expires_at) WHERE browser_hash <> '';
