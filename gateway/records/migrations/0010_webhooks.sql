-- Webhooks to clients: where to, signed with what, and the queue. Addresses may hold secrets and texts are personal, so
-- both lie here sealed (ledger/keys.py); `name` is a keyed digest of client and address, `lane` one of client and origin.

CREATE TABLE webhook_addresses (
    name    bytea  PRIMARY KEY CHECK (octet_length(name) = 16),
    client  text   NOT NULL,
    lane    bytea  NOT NULL,
    sealed  bytea  NOT NULL,
    last_at bigint NOT NULL,
    gone_at bigint
);
COMMENT ON TABLE webhook_addresses IS
    'Addresses that clients gave, one row each. last_at: the day it was last given (Unix ms); gone_at: it answered 410.';

CREATE TABLE client_webhooks (
    client       text    PRIMARY KEY,
    address      bytea   REFERENCES webhook_addresses (name),
    statuses     boolean NOT NULL DEFAULT true,
    replies      text[]  NOT NULL DEFAULT '{}',
    secret       bytea   NOT NULL,
    former       bytea,
    former_until bigint
);
COMMENT ON TABLE client_webhooks IS
    'A client''s own address for messages without callback_url, the senders whose replies it wants, and its secret; after
     a rotation the former one signs too, until former_until.';

-- The address that a message was given. A nullable column costs rows without one nothing but a bit.
ALTER TABLE messages ADD COLUMN callback bytea;

CREATE TABLE webhooks (
    id       uuid     PRIMARY KEY,
    client   text     NOT NULL,
    address  bytea    NOT NULL,
    lane     bytea    NOT NULL,
    kind     text     NOT NULL,
    message  uuid,
    subject  bytea,
    made_at  bigint   NOT NULL,
    due_at   bigint   NOT NULL,
    attempts smallint NOT NULL DEFAULT 0,
    last     text,
    dead_at  bigint,
    sealed   bytea
) WITH (fillfactor = 85);
COMMENT ON TABLE webhooks IS
    'What waits to be sent to clients, and what was given up on (dead_at). Written in the transaction that changes what it
     tells of; deleted when it is delivered. While one is being sent its due_at is when somebody else may send it.';
CREATE INDEX webhooks_due ON webhooks (lane, due_at) WHERE dead_at IS NULL;
CREATE INDEX webhooks_dead ON webhooks (client, id) WHERE dead_at IS NOT NULL;
CREATE INDEX webhooks_address ON webhooks (address);
CREATE INDEX webhooks_subject ON webhooks (subject) WHERE subject IS NOT NULL;
CREATE INDEX webhooks_made ON webhooks (made_at);
