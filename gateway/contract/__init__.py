"""The words every room shares: pure models, one definition for HTTP, Kafka, Redis and the ledger.

Nothing here does I/O or reads a clock; a model that two rooms exchange is defined here or nowhere.
"""
