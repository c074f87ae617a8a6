-- Complaints, each with its case; what was done about a case; what an officer says a day's figures are.
CREATE TABLE complaints (
    id          uuid     PRIMARY KEY,
    source      text     NOT NULL CHECK (source IN ('12321', 'carrier', 'own')),
    subject     bytea    CHECK (octet_length(subject) = 16),
    port        text,
    sender      text,
    at          bigint   NOT NULL,
    received_at bigint   NOT NULL,
    sealed      bytea,
    match       text     NOT NULL CHECK (match IN ('matched', 'ambiguous', 'unmatched')),
    resolved_by text,
    message     uuid,
    origin      int,
    minute      bigint   NOT NULL,
    candidates  uuid[]   NOT NULL DEFAULT '{}',
    scope       text     NOT NULL,
    entry       bigint,
    permission  bigint,
    state       text     NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'assigned', 'answered', 'closed')),
    assigned_to text,
    due_at      bigint   NOT NULL,
    answered_at bigint,
    closed_at   bigint,
    outcome     text,
    overdue     boolean  NOT NULL DEFAULT false,
    CHECK ((state = 'closed') = (outcome IS NOT NULL))
);
COMMENT ON TABLE complaints IS
    'One row a complaint and its case; id is made of what makes it the same complaint. Times are Unix ms, minute (Unix
     minutes) is where it counts. scope, entry: the suppression it caused, in the ledger; permission: the entry that its
     message relied on. sealed holds the words and the source''s reference; erasure of the person clears it and subject.';
CREATE INDEX complaints_waiting ON complaints (due_at) WHERE answered_at IS NULL AND NOT overdue;
CREATE INDEX complaints_subject ON complaints (subject) WHERE subject IS NOT NULL;
CREATE INDEX complaints_message ON complaints (message) WHERE message IS NOT NULL;
CREATE INDEX complaints_received ON complaints (received_at, id);
CREATE INDEX complaints_day ON complaints (source, at);
CREATE INDEX complaints_queue ON complaints (received_at, id) WHERE match <> 'matched' AND resolved_by IS NULL;

CREATE TABLE case_acts (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    complaint uuid   NOT NULL REFERENCES complaints (id),
    act       text   NOT NULL,
    acted_by  text   NOT NULL CHECK (acted_by <> ''),
    at        bigint NOT NULL,
    detail    text,
    sealed    bytea,
    entry     bigint
);
CREATE INDEX case_acts_complaint ON case_acts (complaint, id);
CREATE INDEX case_acts_untold ON case_acts (id) WHERE entry IS NULL;
COMMENT ON TABLE case_acts IS
    'Every act on a case: who, when (Unix ms). detail: to whom it was assigned, which message, or the outcome. sealed: the
     words that go with it. entry: its place in the ledger, written there after the act by the settle process.';

CREATE TABLE daily_figures (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    date     date   NOT NULL,
    source   text   NOT NULL CHECK (source IN ('12321', 'carrier', 'own')),
    imported int    NOT NULL,
    stated   int    NOT NULL CHECK (stated >= 0),
    acted_by text   NOT NULL CHECK (acted_by <> ''),
    at       bigint NOT NULL,
    entry    bigint
);
CREATE INDEX daily_figures_date ON daily_figures (date, source, id);
CREATE INDEX daily_figures_untold ON daily_figures (id) WHERE entry IS NULL;
COMMENT ON TABLE daily_figures IS
    'What a named officer states a day''s complaints of a source to be, beside what had been imported then; the last row
     of a day and source stands, the earlier ones stay.';
