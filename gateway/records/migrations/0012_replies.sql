-- How replies to a sender's ports fare, and what replies are still to be answered.

CREATE TABLE reply_routes (
    sender    text        NOT NULL,
    port      text        NOT NULL,
    free      boolean     NOT NULL,
    tested_at timestamptz NOT NULL,
    PRIMARY KEY (sender, port)
);
COMMENT ON TABLE reply_routes IS
    'Whether a reply to a port costs the person nothing, and when one was last seen to arrive; marketing needs both.';
CREATE TABLE reply_route_acts (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sender      text        NOT NULL,
    port        text        NOT NULL,
    free        boolean     NOT NULL,
    tested_at   timestamptz NOT NULL,
    attested_by text        NOT NULL CHECK (attested_by <> ''),
    at          timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE reply_route_acts IS 'Every attestation of a reply route: who said so, and when.';
CREATE INDEX reply_route_acts_port ON reply_route_acts (sender, port, id);

CREATE TABLE answers_due (
    id      text   PRIMARY KEY,
    subject bytea  NOT NULL,
    sender  text   NOT NULL,
    purpose text   NOT NULL,
    sealed  bytea  NOT NULL,
    at      bigint NOT NULL
);
COMMENT ON TABLE answers_due IS
    'Acknowledgements of opt-outs and answers to HELP that are to be sent; number and text are sealed. Removed once sent.';
CREATE INDEX answers_due_at ON answers_due (at);
CREATE INDEX answers_due_subject ON answers_due (subject);

CREATE INDEX replies_content ON replies (subject, port, at) WHERE reply_id LIKE 'content:%';
