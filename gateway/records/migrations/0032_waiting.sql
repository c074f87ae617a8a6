-- Cases that nobody answered yet, the longest overdue first (records/cases.py, waiting).
CREATE INDEX complaints_unanswered ON complaints (due_at, id) WHERE answered_at IS NULL;
