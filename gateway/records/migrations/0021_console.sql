-- The console's people: who may open it, as what, and how they like to see it. Staff, not recipients.
CREATE TABLE console_users (
    name       text        PRIMARY KEY CHECK (name ~ '^[a-z0-9][a-z0-9._-]{0,31}$'),
    password   text        NOT NULL,
    role       text        NOT NULL CHECK (role IN ('viewer', 'compliance', 'operator')),
    disabled   boolean     NOT NULL DEFAULT false,
    failures   int         NOT NULL DEFAULT 0,
    failed_at  timestamptz,
    lang       text,
    theme      text,
    zone       text,
    added_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE console_users IS
    'password: scrypt with its parameters and salt (rules.passwords), never the text. failures: wrong passwords in a row.
     lang, theme, zone: as the person chose; none: as the browser asks.';

-- A session lives in its row: without the row it is over, on every machine.
CREATE TABLE console_sessions (
    digest     bytea       PRIMARY KEY CHECK (octet_length(digest) = 32),
    name       text        NOT NULL REFERENCES console_users ON DELETE CASCADE,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    used_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX console_sessions_name ON console_sessions (name);
COMMENT ON TABLE console_sessions IS 'digest: SHA-256 of what the cookie holds. A changed password, role or a disabled user deletes the rows.';

-- What happened to users and at the door: kept for good.
CREATE TABLE console_acts (
    id   bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    name text        NOT NULL,
    act  text        NOT NULL CHECK (act IN ('added', 'changed', 'disabled', 'enabled', 'password', 'signed_in', 'refused',
                                             'signed_out')),
    by   text        NOT NULL
);
CREATE INDEX console_acts_at ON console_acts (at);

-- Refusals at the edge by minute: what was asked for and not admitted. Sender `-`: none that is known.
CREATE TABLE refusal_minutes (
    minute bigint NOT NULL,
    sender text   NOT NULL,
    code   text   NOT NULL,
    n      bigint NOT NULL,
    PRIMARY KEY (minute, sender, code)
);
COMMENT ON TABLE refusal_minutes IS
    'Added to by each edge once a second, so that a killed edge loses at most what it refused in its last second: a
     figure for people, and nothing is decided by it.';

-- The newest looks and moved breakers are read back to front.
CREATE INDEX consent_events_looks ON consent_events (seq) WHERE kind IN ('access', 'breaker');
