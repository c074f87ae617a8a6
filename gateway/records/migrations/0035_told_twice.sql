-- The same complaint by several ways: the 12321 centre hands on to carriers what it is told, and both tell us. It is one
-- case and counts once; every telling is kept, so that a day's file of a source can be held against what came of it.
ALTER TABLE complaints
    ADD COLUMN said      bytea CHECK (octet_length(said) = 16),
    ADD COLUMN confirmed boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN complaints.said IS 'A keyed digest of person, port, words and day; none in rows of before.';
COMMENT ON COLUMN complaints.confirmed IS '12321 or a carrier told of it later, where another source was the first.';
CREATE INDEX complaints_said ON complaints (said) WHERE said IS NOT NULL;

CREATE TABLE complaint_tellings (
    id          uuid   PRIMARY KEY,
    complaint   uuid   NOT NULL,
    source      text   NOT NULL CHECK (source IN ('12321', 'carrier', 'own')),
    at          bigint NOT NULL,
    received_at bigint NOT NULL
);
CREATE INDEX complaint_tellings_day ON complaint_tellings (source, at);
CREATE INDEX complaint_tellings_complaint ON complaint_tellings (complaint);
COMMENT ON TABLE complaint_tellings IS
    'A complaint that was told again under another identity (`id`, as complaints have theirs). Times are Unix ms.';

-- An act is written in one statement with its complaint, or under its row's lock, and no complaint is ever deleted: the
-- check cost a file of complaints a look and a lock for each line.
ALTER TABLE case_acts DROP CONSTRAINT case_acts_complaint_fkey;
