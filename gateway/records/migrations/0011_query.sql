-- Messages whose end nobody knows, to be asked about at their carrier. Written by settle with the status, moved on and
-- removed by deliver: a row is leased by its `due`, so that a crash asks again.
CREATE TABLE doubts (
    id      uuid   PRIMARY KEY,
    carrier text   NOT NULL,
    class   text   NOT NULL,
    since   bigint NOT NULL,
    due     bigint NOT NULL
);
CREATE INDEX doubts_due ON doubts (carrier, due);
COMMENT ON TABLE doubts IS
    'Messages that are unknown since a time (Unix ms), and when their carrier is asked next; removed once it is known.';
