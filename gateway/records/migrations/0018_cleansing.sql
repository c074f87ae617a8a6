-- Cleansing a list: jobs, the people each divides, and who waits to be asked again (records/cleansing.py).

CREATE TABLE cleansings (
    id            uuid        PRIMARY KEY,
    scope         text        NOT NULL,
    since         bigint      NOT NULL,
    until         bigint      NOT NULL,
    months        smallint,
    state         text        NOT NULL DEFAULT 'gathering' CHECK (state IN
        ('gathering', 'dividing', 'ready', 'applying', 'applied', 'undoing', 'undone', 'expired')),
    asked_by      text        NOT NULL CHECK (asked_by <> ''),
    reason        text        NOT NULL CHECK (reason <> ''),
    opening       bigint      UNIQUE,
    made_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    owner         uuid,
    leased_until  timestamptz NOT NULL DEFAULT '-infinity',
    gathered_to   bigint      NOT NULL,
    place         bytea       NOT NULL DEFAULT '',
    people        bigint      NOT NULL DEFAULT 0,
    done          bigint      NOT NULL DEFAULT 0,
    counts        json        NOT NULL DEFAULT '{}',
    digest        bytea,
    ready_at      timestamptz,
    choices       json,
    applied_by    text,
    apply_reason  text,
    applied_at    timestamptz,
    undone_by     text,
    undo_reason   text,
    undone_at     timestamptz
);
CREATE INDEX cleansings_work ON cleansings (made_at) WHERE state IN ('gathering', 'dividing', 'applying', 'undoing');
CREATE INDEX cleansings_scope ON cleansings (scope, id);
COMMENT ON TABLE cleansings IS
    'since, until (Unix ms): whose messages. opening: the breaker act that caused it, once. place: how far the present
     pass has come (subject and sender); done: how many it has passed. Nothing here names a person.';

CREATE TABLE cleansing_people (
    cleansing  uuid     NOT NULL,
    subject    bytea    NOT NULL CHECK (octet_length(subject) = 16),
    sender     text     NOT NULL,
    on_consent boolean  NOT NULL,
    first_at   bigint   NOT NULL,
    category   smallint,
    reasons    smallint NOT NULL DEFAULT 0,
    outcome    smallint,
    entry      bigint,
    PRIMARY KEY (cleansing, subject, sender)
);
CREATE INDEX cleansing_people_category ON cleansing_people (cleansing, category, subject, sender);
CREATE INDEX cleansing_people_subject ON cleansing_people (subject);
COMMENT ON TABLE cleansing_people IS
    'A row a person and sender. category: 1 complained, 2 opted out, 3 dead, 4 recycled risk, 5 consent unproven,
     6 consent old, 7 never engaged, 8 healthy; reasons: bit n for category n (rules.cleansing). outcome: 1 suppressed by
     entry, 2 the sender''s marketing suppressed by entry and waiting to be asked again, 3 the same stood already, 4 lifted
     again, 5 not lifted: what stands is another''s; none: left as they are.';

CREATE TABLE repermissions (
    subject   bytea       NOT NULL CHECK (octet_length(subject) = 16),
    sender    text        NOT NULL,
    cleansing uuid        NOT NULL,
    entry     bigint,
    reasons   smallint    NOT NULL,
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (subject, sender)
);
CREATE INDEX repermissions_cleansing ON repermissions (cleansing, subject, sender);
COMMENT ON TABLE repermissions IS
    'People to be asked again. Nobody is written to because of a row here; entry: the suppression of the sender''s
     marketing that stands until then.';
