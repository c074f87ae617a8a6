-- Who may use the gateway, in whose name, and what is stopped (contract.registry; records/registry.py).

CREATE TABLE clients (
    id text PRIMARY KEY,
    key_digests text[] NOT NULL DEFAULT '{}',   -- HMAC-SHA256(pepper, key), hex; the key itself is nowhere
    senders text[] NOT NULL DEFAULT '{}',
    purposes text[] NOT NULL DEFAULT '{*}',
    roles text[] NOT NULL DEFAULT '{send}',
    quota_per_minute integer NOT NULL DEFAULT 1000000 CHECK (quota_per_minute > 0),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE senders (
    id text PRIMARY KEY,
    signature text NOT NULL,
    service_port text NOT NULL,
    marketing_port text NOT NULL,
    pack text NOT NULL DEFAULT 'cn',
    cap_per_day bigint CHECK (cap_per_day > 0),
    carrier text,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (service_port <> marketing_port)      -- one port, one use
);

-- A breaker's standing position, and every act that moved one: who and why.
CREATE TABLE breakers (
    scope text PRIMARY KEY,
    is_open boolean NOT NULL,
    changed_by text NOT NULL,
    reason text NOT NULL,
    changed_at timestamptz NOT NULL
);
CREATE TABLE breaker_acts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope text NOT NULL,
    is_open boolean NOT NULL,
    acted_by text NOT NULL CHECK (acted_by <> ''),
    reason text NOT NULL CHECK (reason <> ''),
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX breaker_acts_scope ON breaker_acts (scope, id);
