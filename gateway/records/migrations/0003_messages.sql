-- Messages and what became of them. Written by settle alone, except `held` (the hold process).
-- Tables that grow with the traffic are partitioned by day and dropped by partition (records.partitions). A UUIDv7 begins
-- with its time, so a range of ids is a range of time: no day column, and an id alone finds its partition.

CREATE TABLE consumer_offsets (
    consumer    text   NOT NULL,
    topic       text   NOT NULL,
    partition   int    NOT NULL,
    next_offset bigint NOT NULL CHECK (next_offset >= 0),
    PRIMARY KEY (consumer, topic, partition)
);
COMMENT ON TABLE consumer_offsets IS
    'Where a consumer continues; moved by compare-and-set in the transaction that writes what it read: exactly once.';

CREATE TABLE message_origins (
    id          int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest      bytea NOT NULL UNIQUE,
    client      text  NOT NULL,
    sender      text  NOT NULL,
    purpose     text  NOT NULL,
    class       text  NOT NULL,
    port        text  NOT NULL,
    pack        text  NOT NULL,
    basis       text  NOT NULL,
    campaign    text,
    list_source text
);
COMMENT ON TABLE message_origins IS
    'What many messages share, stored once: who sent what kind of message, from which port, under which pack.';

CREATE TABLE messages (
    id              uuid     NOT NULL,
    subject         bytea,
    origin          int,
    accepted_at     bigint,
    settled_at      bigint,
    entry           bigint,
    rank            int      NOT NULL,
    status          smallint NOT NULL,
    cause           smallint NOT NULL DEFAULT 0,
    attempt         smallint NOT NULL DEFAULT 1,
    parts           smallint NOT NULL DEFAULT 0,
    parts_delivered bigint   NOT NULL DEFAULT 0,
    code            text,
    carrier         text,
    carrier_id      text,
    client_ref      text,
    timeline        json     NOT NULL,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
COMMENT ON TABLE messages IS
    'One row a message. Status and cause are numbers (view message_log spells them); rank only ever grows;
     settled_at is when we learned the present status, parts 0 means not known yet. Rows without
     accepted_at are known only from a result or receipt whose message has not been read yet.';
CREATE INDEX messages_subject ON messages (subject, id);
CREATE INDEX messages_client_ref ON messages (client_ref, id) WHERE client_ref IS NOT NULL;
CREATE TABLE messages_other PARTITION OF messages DEFAULT;

CREATE TABLE carrier_ids (
    key text   NOT NULL,
    id  uuid   NOT NULL,
    at  bigint NOT NULL
) PARTITION BY RANGE (at);
COMMENT ON TABLE carrier_ids IS 'Carrier and its id of a message (normalised) -> our id; kept a few days for receipts without our id.';
CREATE INDEX carrier_ids_key ON carrier_ids (key);
CREATE TABLE carrier_ids_other PARTITION OF carrier_ids DEFAULT;

CREATE TABLE orphans (
    key         text   NOT NULL,
    received_at bigint NOT NULL,
    receipt     json   NOT NULL
) PARTITION BY RANGE (received_at);
COMMENT ON TABLE orphans IS 'Receipts whose submit result is not known yet; resolved when it arrives.';
CREATE INDEX orphans_key ON orphans (key);
CREATE TABLE orphans_other PARTITION OF orphans DEFAULT;

CREATE TABLE outcome_minutes (
    minute  bigint   NOT NULL,
    origin  int      NOT NULL,
    carrier text     NOT NULL,
    status  smallint NOT NULL,
    cause   smallint NOT NULL,
    n       bigint   NOT NULL,
    PRIMARY KEY (minute, origin, carrier, status, cause)
);
COMMENT ON TABLE outcome_minutes IS
    'How many messages reached each milestone in a minute (Unix minutes): 2 queued (accepted), 3 sent, finals, 9 unknown.
     A message leaving unknown counts -1 there, so a sum over minutes is the number now standing.';

CREATE TABLE long_windows (
    subject bytea  NOT NULL,
    field   text   NOT NULL,
    stamp   bigint NOT NULL,
    id      uuid   NOT NULL,
    PRIMARY KEY (subject, field, stamp, id)
);
COMMENT ON TABLE long_windows IS 'Consumed windows longer than 24 h; a lost cache is rebuilt from here.';

CREATE TABLE used_requests (
    subject bytea  NOT NULL,
    sender  text   NOT NULL,
    ref     text   NOT NULL,
    id      uuid   NOT NULL,
    used_at bigint NOT NULL,
    PRIMARY KEY (subject, sender, ref, id)
);
COMMENT ON TABLE used_requests IS 'Requests of a person that a message has used up (basis request is single use).';

CREATE TABLE refunds_due (
    id      uuid  PRIMARY KEY,
    subject bytea NOT NULL
);
COMMENT ON TABLE refunds_due IS 'Window slots to give back; written with the status, removed once the cache has taken it.';

CREATE TABLE suppressions_due (
    id      uuid   PRIMARY KEY,
    subject bytea  NOT NULL,
    scope   text   NOT NULL,
    at      bigint NOT NULL
);
COMMENT ON TABLE suppressions_due IS
    'Recipients a carrier refuses for itself; written with the status, removed once the suppression is an event.';

CREATE TABLE replies (
    carrier     text     NOT NULL,
    reply_id    text     NOT NULL,
    subject     bytea    NOT NULL,
    port        text     NOT NULL,
    meaning     text     NOT NULL,
    scope       text,
    at          bigint   NOT NULL,
    received_at bigint   NOT NULL,
    PRIMARY KEY (carrier, reply_id, subject)
);
COMMENT ON TABLE replies IS 'Inbound messages: what they mean and what was done. The text is personal and is not kept here.';
CREATE INDEX replies_subject ON replies (subject, received_at);

CREATE TABLE held (
    id         uuid     PRIMARY KEY,
    due        bigint   NOT NULL,
    expires_at bigint   NOT NULL,
    attempt    smallint NOT NULL,
    class      text     NOT NULL,
    scope      text,
    payload    bytea    NOT NULL
);
COMMENT ON TABLE held IS 'Messages waiting for their time (due, Unix ms) or for a breaker scope to close (scope).';
CREATE INDEX held_due ON held (class, due) WHERE scope IS NULL;
CREATE INDEX held_expires ON held (expires_at);
CREATE INDEX held_scope ON held (scope) WHERE scope IS NOT NULL;

CREATE FUNCTION status_word(status smallint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    (ARRAY['held', 'queued', 'sent', 'delivered', 'undelivered', 'expired', 'rejected', 'cancelled', 'unknown'])[status];

CREATE VIEW message_log AS
SELECT m.id, to_timestamp(m.accepted_at / 1000.0) AS accepted_at,
       to_timestamp(m.settled_at / 1000.0) AS settled_at, encode(m.subject, 'hex') AS subject,
       status_word(m.status) AS status, m.cause, m.code, m.carrier, m.carrier_id, m.attempt, m.parts, m.entry,
       m.client_ref, o.client, o.sender, o.purpose, o.class, o.port, o.pack, o.basis, o.campaign, o.list_source, m.timeline
FROM messages m LEFT JOIN message_origins o ON o.id = m.origin;

CREATE VIEW outcome_log AS
SELECT to_timestamp(b.minute * 60) AS minute, o.sender, o.purpose, o.class, o.campaign, o.port, b.carrier, o.list_source,
       status_word(b.status) AS status, b.cause, sum(b.n) AS n
FROM outcome_minutes b JOIN message_origins o ON o.id = b.origin
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10;
