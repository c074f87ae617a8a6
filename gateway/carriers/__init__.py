"""Everything that knows a carrier's wire: submitting messages and reading what carriers report.

A carrier never raises for a carrier's fault: each message handed to `submit` gets one of a closed set of answers, and
the answer carries its policy (`carrier.Submitted`). Nothing here knows Redis, Kafka or PostgreSQL.
"""
