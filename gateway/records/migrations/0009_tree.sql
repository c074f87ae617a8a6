-- What the transparency log over consent_events has signed. The log's own memory of it lies outside of this database
-- (ledger/signed.py): each is compared with the other at start, so neither can be lost or rolled back unnoticed.

-- The last checkpoint signed, one row a log (its origin is the name of its key).
CREATE TABLE ledger_checkpoint (
    origin text PRIMARY KEY,
    size bigint NOT NULL CHECK (size >= 0),
    root bytea NOT NULL CHECK (octet_length(root) = 32),
    note bytea NOT NULL,
    signed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Checkpoints that others have attested: the note with witnesses' cosignatures, and an RFC 3161 reply over the note.
CREATE TABLE ledger_attested (
    origin text NOT NULL,
    size bigint NOT NULL,
    note bytea NOT NULL,
    timestamp_reply bytea,
    attested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (origin, size)
);
