-- Breakers that open by themselves, and that may let a share through before they let all through. An act of the evaluator
-- is written with the position it sets, and told to the ledger afterwards. Only columns that may be absent are added: a
-- process of the version before this one still moves breakers while it runs.
ALTER TABLE breakers
    ADD COLUMN permille  smallint CHECK (permille BETWEEN 1 AND 999),
    ADD COLUMN figures   json,
    ADD COLUMN opened_at timestamptz;
UPDATE breakers SET opened_at = changed_at WHERE is_open;
COMMENT ON TABLE breakers IS
    'is_open: stopped, but for permille in a thousand recipients where that is given. figures, opened_at: of the standing or
     last opening. Where it is not stopped whole, its scope is counted from changed_at: there a person let it go on.';

ALTER TABLE breaker_acts
    ADD COLUMN permille smallint,
    ADD COLUMN figures  json,
    ADD COLUMN recorded boolean NOT NULL DEFAULT true;
CREATE INDEX breaker_acts_unrecorded ON breaker_acts (id) WHERE NOT recorded;
COMMENT ON COLUMN breaker_acts.recorded IS 'The ledger has it; where it did not at first, its event is named by the act''s id.';

CREATE TABLE breaker_warnings (
    scope   text        PRIMARY KEY,
    since   timestamptz NOT NULL DEFAULT clock_timestamp(),
    figures json        NOT NULL
);
COMMENT ON TABLE breaker_warnings IS 'Scopes that warned and have not calmed down since.';

-- Rows that wait for a scope, in the order of their ids: a trickle walks through them.
CREATE INDEX held_parked ON held (scope, id) WHERE scope IS NOT NULL;
DROP INDEX held_scope;
