-- Whoever audits reads holds and what was done to lists beside looks and moved breakers (ledger/reading.py, LOOKS).
CREATE INDEX consent_events_audited ON consent_events (seq) WHERE kind IN ('access', 'breaker', 'hold', 'list');
DROP INDEX consent_events_looks;
