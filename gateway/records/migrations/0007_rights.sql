-- People who asked for erasure while a law still asks for their records: when the last of those may go. Room `ledger`
-- owns the table. A row is written before the event that restricts the person, and removed after the one that erases.
CREATE TABLE erasures_due (
    subject       bytea  PRIMARY KEY CHECK (octet_length(subject) = 16),
    due_at        bigint NOT NULL,
    requested_seq bigint NOT NULL
);
CREATE INDEX erasures_due_at ON erasures_due (due_at);
COMMENT ON TABLE erasures_due IS
    'Erasures that wait (due_at, Unix ms). requested_seq: the person''s last event when they asked; a consent or
     relationship recorded after it means that they came back, and nothing is erased.';
