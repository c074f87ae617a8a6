-- What messages said and to which number, apart from the log of them (`messages`): kept for a time of its own, sealed.
-- Written by the records process alone; a row is never changed. Ids are UUIDv7, so a partition is a day of ids.
CREATE TABLE message_contents (
    id     uuid  NOT NULL,
    sealed bytea NOT NULL,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE TABLE message_contents_other PARTITION OF message_contents DEFAULT;
COMMENT ON TABLE message_contents IS
    'Number and text of a message, sealed by a key of its day (ledger/sealing.py) and bound to the id.';

-- Whose contents are to go, and up to when (Unix ms): what was accepted later is of somebody who came back.
CREATE TABLE content_erasures (
    subject bytea  PRIMARY KEY CHECK (octet_length(subject) = 16),
    at      bigint NOT NULL
);
COMMENT ON TABLE content_erasures IS
    'Erasures that contents may still arrive for, or that wait for a legal hold; removed when neither can be.';

-- What may not be dropped, whatever its age. A column that is null holds everything; ids are a range of time.
CREATE TABLE legal_holds (
    id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sender          text,
    campaign        text,
    subject         bytea       CHECK (octet_length(subject) = 16),
    from_id         uuid,
    until_id        uuid,
    added_by        text        NOT NULL CHECK (added_by <> ''),
    reason          text        NOT NULL CHECK (reason <> ''),
    added_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    released_by     text,
    released_reason text,
    released_at     timestamptz
);
COMMENT ON TABLE legal_holds IS 'Legal holds, standing and released; each act is in the ledger too.';
