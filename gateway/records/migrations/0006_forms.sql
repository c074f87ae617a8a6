-- Consent forms, every version for good, and opt-ins that wait for their second record.
CREATE TABLE consent_forms (
    id         text        NOT NULL,
    version    integer     NOT NULL CHECK (version > 0),
    sender     text        NOT NULL,
    body       text        NOT NULL,
    sha256     bytea       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT date_trunc('milliseconds', clock_timestamp()),
    PRIMARY KEY (id, version)
);
COMMENT ON TABLE consent_forms IS 'Consent forms. A row is never changed: consents name its version.';

CREATE TABLE shown_texts (
    sha256 bytea PRIMARY KEY CHECK (octet_length(sha256) = 32),
    text   bytea NOT NULL
);
COMMENT ON TABLE shown_texts IS 'The exact texts that people were shown, by the digest that their consents name. Never changed.';

CREATE TABLE opt_ins (
    id          uuid     PRIMARY KEY,
    subject     bytea    NOT NULL CHECK (length(subject) = 16),
    sender      text     NOT NULL,
    form        text     NOT NULL,
    version     integer  NOT NULL,
    sealed      bytea,
    code        bytea    NOT NULL,
    attempts    smallint NOT NULL DEFAULT 0,
    message_id  uuid,
    created_at  bigint   NOT NULL,
    code_until  bigint   NOT NULL,
    expires_at  bigint   NOT NULL,
    done        boolean  NOT NULL DEFAULT false
);
COMMENT ON TABLE opt_ins IS 'First records that wait for control of the number to be shown (Unix ms). Sealed; deleted when they expire.';
CREATE INDEX opt_ins_subject ON opt_ins (subject, sender);
CREATE INDEX opt_ins_expires ON opt_ins (expires_at);
