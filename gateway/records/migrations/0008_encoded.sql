-- Each state once more as the guard holds it (guard/person.py), so that a rebuild copies bytes instead of decoding JSON.
-- A copy of `state`, never read in its place: it counts only if `form` is the version of the encoding that is read and
-- its first five bytes are the row's `seq`, for a process of the version before changes a state without it. Rows from
-- before have none; a rebuild encodes them from `state`, and `assent audit cache --repair` gives them theirs.
ALTER TABLE subject_states ADD COLUMN form smallint, ADD COLUMN encoded bytea;
