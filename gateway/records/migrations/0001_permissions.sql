-- Tables of room `ledger`: the acts of people in one total order, and what they say about each person.

-- One row: what this installation was made with. A wrong pepper would name every recipient anew and so forget every
-- opt-out; it is compared at start (ledger/installation.py) and a difference refuses to start.
CREATE TABLE installation (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    lanes smallint NOT NULL,
    pepper_check bytea NOT NULL,
    master_check bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One row: the last event. Appenders lock it, so `seq` is dense and rows become visible in its order.
CREATE TABLE ledger_head (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    seq bigint NOT NULL,
    at timestamptz NOT NULL
);
INSERT INTO ledger_head (seq, at) VALUES (0, 'epoch');

-- What a Merkle leaf is made of: version, at, tag, commitment (never changed). What makes it readable: salt and body,
-- and whose it is: subject. Erasure sets those three to null and leaves the leaf true.
CREATE TABLE consent_events (
    seq bigint PRIMARY KEY,
    event_id text NOT NULL UNIQUE,    -- its keyed digest: callers' own ids may name a person, and this row stays
    at timestamptz NOT NULL,          -- when it was recorded, never before the event ahead of it; whole milliseconds
    subject bytea CHECK (octet_length(subject) = 16),
    kind text NOT NULL,
    version smallint NOT NULL,        -- of the canonical form, the commitment and the encryption
    tag bytea NOT NULL CHECK (octet_length(tag) = 16),
    commitment bytea NOT NULL CHECK (octet_length(commitment) = 32),
    salt bytea CHECK (octet_length(salt) = 32),
    body bytea
);
CREATE INDEX consent_events_subject ON consent_events (subject, seq) WHERE subject IS NOT NULL;

-- A person's key (wrapped by the master key), number (encrypted under that key) and count of events (for the tags).
CREATE TABLE subjects (
    subject bytea PRIMARY KEY CHECK (octet_length(subject) = 16),
    counter bigint NOT NULL,
    key bytea,
    number bytea,
    erased_at timestamptz
) WITH (fillfactor = 80);

-- What all events up to `seq` say about a person (contract.consent.State as compact JSON; psql: convert_from(state,
-- 'UTF8')::jsonb). No index holds `seq` or `state`, so an update touches no index (HOT); the projection finds changed
-- people through consent_events, whose primary key is the cursor.
CREATE TABLE subject_states (
    subject bytea PRIMARY KEY CHECK (octet_length(subject) = 16),
    seq bigint NOT NULL,
    lane smallint NOT NULL,
    state bytea NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX subject_states_lane ON subject_states (lane, subject);

-- The standing suppressions of every state, one row each, to list and page them.
CREATE TABLE subject_suppressions (
    subject bytea NOT NULL CHECK (octet_length(subject) = 16),
    scope text NOT NULL,
    reason smallint NOT NULL,
    sender text NOT NULL,             -- the scope's sender, or `*`
    at timestamptz NOT NULL,
    entry bigint NOT NULL,
    PRIMARY KEY (entry, subject, scope, reason)
);
CREATE INDEX subject_suppressions_subject ON subject_suppressions (subject);
CREATE INDEX subject_suppressions_sender ON subject_suppressions (sender, entry);
CREATE INDEX subject_suppressions_reason ON subject_suppressions (reason, entry);
