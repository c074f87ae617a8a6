-- Hours and days of the minute buckets, increased in the statement that increases the minutes, and filled here from the
-- minutes there are. Days are UTC days. A process of the version before this one that still settles leaves them behind:
-- `assent audit health --repair` makes them again.
CREATE TABLE outcome_hours (
    hour    bigint   NOT NULL,
    origin  int      NOT NULL,
    carrier text     NOT NULL,
    status  smallint NOT NULL,
    cause   smallint NOT NULL,
    n       bigint   NOT NULL,
    PRIMARY KEY (hour, origin, carrier, status, cause)
) WITH (fillfactor = 80);
CREATE TABLE outcome_days (
    day     bigint   NOT NULL,
    origin  int      NOT NULL,
    carrier text     NOT NULL,
    status  smallint NOT NULL,
    cause   smallint NOT NULL,
    n       bigint   NOT NULL,
    PRIMARY KEY (day, origin, carrier, status, cause)
) WITH (fillfactor = 80);
COMMENT ON TABLE outcome_hours IS 'outcome_minutes by Unix hours.';
COMMENT ON TABLE outcome_days IS 'outcome_minutes by days since 1970 (UTC).';
-- What the breaker reads each second. `n` is in no index, so an increment stays in its page.
CREATE INDEX outcome_hours_delivered ON outcome_hours (hour, origin) WHERE status = 4;
CREATE INDEX outcome_days_delivered ON outcome_days (day, origin) WHERE status = 4;

-- The carrier that brought the message, so that complaints can be counted by carrier without looking messages up.
ALTER TABLE signals ADD COLUMN carrier text NOT NULL DEFAULT '';
ALTER TABLE signal_minutes ADD COLUMN carrier text NOT NULL DEFAULT '';
ALTER TABLE signal_minutes DROP CONSTRAINT signal_minutes_pkey;
ALTER TABLE signal_minutes ADD PRIMARY KEY (minute, origin, carrier, signal);
CREATE INDEX signals_minute ON signals (minute);
CREATE TABLE signal_hours (
    hour    bigint   NOT NULL,
    origin  int      NOT NULL,
    carrier text     NOT NULL,
    signal  smallint NOT NULL,
    n       bigint   NOT NULL,
    PRIMARY KEY (hour, origin, carrier, signal)
) WITH (fillfactor = 80);
CREATE TABLE signal_days (
    day     bigint   NOT NULL,
    origin  int      NOT NULL,
    carrier text     NOT NULL,
    signal  smallint NOT NULL,
    n       bigint   NOT NULL,
    PRIMARY KEY (day, origin, carrier, signal)
) WITH (fillfactor = 80);
COMMENT ON TABLE signal_hours IS 'signal_minutes by Unix hours.';
COMMENT ON TABLE signal_days IS 'signal_minutes by days since 1970 (UTC).';

LOCK TABLE outcome_minutes, signal_minutes IN SHARE ROW EXCLUSIVE MODE;
INSERT INTO outcome_hours SELECT minute / 60, origin, carrier, status, cause, sum(n)
FROM outcome_minutes GROUP BY 1, 2, 3, 4, 5;
INSERT INTO outcome_days SELECT hour / 24, origin, carrier, status, cause, sum(n)
FROM outcome_hours GROUP BY 1, 2, 3, 4, 5;
INSERT INTO signal_hours SELECT minute / 60, origin, carrier, signal, sum(n) FROM signal_minutes GROUP BY 1, 2, 3, 4;
INSERT INTO signal_days SELECT hour / 24, origin, carrier, signal, sum(n) FROM signal_hours GROUP BY 1, 2, 3, 4;

-- Links that a campaign counts: a public name leads to the address that its sender registered. No person is in it.
CREATE TABLE campaign_links (
    id         text        PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9_-]{8,32}$'),
    sender     text        NOT NULL,
    campaign   text        NOT NULL,
    url        text        NOT NULL,
    origin     int         NOT NULL,
    made_by    text        NOT NULL,
    made_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (sender, campaign, url)
);
COMMENT ON TABLE campaign_links IS 'origin: the row of message_origins (of that sender and campaign) its clicks count in.';
CREATE TABLE click_flushes (
    worker  uuid        PRIMARY KEY,
    flushed bigint      NOT NULL,
    at      timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE click_flushes IS
    'How many times a worker has added the clicks it gathered; moved by compare-and-set with them, so that a flush whose
     answer was lost is repeated without counting twice.';
