-- What people did about messages: complained, unsubscribed, replied, followed a link. One row each, once, however often
-- it is told; the minute buckets are increased in the statement that adds the row.
CREATE TABLE signals (
    signal  smallint NOT NULL,
    key     bytea    NOT NULL CHECK (octet_length(key) = 16),
    minute  bigint   NOT NULL,
    origin  int,
    message uuid,
    subject bytea,
    at      bigint   NOT NULL,
    PRIMARY KEY (signal, key)
);
CREATE INDEX signals_subject ON signals (subject) WHERE subject IS NOT NULL;
CREATE INDEX signals_origin ON signals (origin, signal, minute);
COMMENT ON TABLE signals IS
    'signal: 1 complaint, 2 unsubscribe, 3 reply, 4 click (contract.health). key: a digest of what makes it the same one.
     minute (Unix minutes): of a complaint when its message was sent, of others when they came. at: when it came (ms).';

CREATE TABLE signal_minutes (
    minute bigint   NOT NULL,
    origin int      NOT NULL,
    signal smallint NOT NULL,
    n      bigint   NOT NULL,
    PRIMARY KEY (minute, origin, signal)
);
COMMENT ON TABLE signal_minutes IS 'How many signals a minute has; origin 0 where the message is not known.';

-- Alerts: what a person must look at. Written in the transaction that changes what they are about.
CREATE TABLE alerts (
    id       uuid        PRIMARY KEY,
    key      text        NOT NULL UNIQUE,
    kind     text        NOT NULL,
    severity text        NOT NULL CHECK (severity IN ('warning', 'critical')),
    scope    text        NOT NULL,
    summary  text        NOT NULL,
    detail   json        NOT NULL,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    told     boolean     NOT NULL DEFAULT false
);
CREATE INDEX alerts_untold ON alerts (at) WHERE NOT told;
CREATE INDEX alerts_at ON alerts (at);
COMMENT ON TABLE alerts IS
    'key: what makes an alert the same one, so that it is raised once. Nothing in it names a person. told: it is queued
     as a webhook to the operators.';
