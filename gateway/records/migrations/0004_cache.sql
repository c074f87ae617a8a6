-- One row once the guard's cache was filled for the first time: before, nothing can have been admitted, so an empty cache
-- is new and not flushed, and nobody has to wait for messages that might still be landing (ledger/rebuild.py).
CREATE TABLE cache_filled (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
