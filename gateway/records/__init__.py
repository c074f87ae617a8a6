"""PostgreSQL but for the ledger: migrations of every table, the registry, records of messages, what is due."""
