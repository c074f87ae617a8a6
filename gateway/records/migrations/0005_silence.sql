-- Messages that a carrier took long after they were accepted (held, scheduled, retried, or behind a backlog). The others
-- are found by their ids once, when their receipt has been missing for 72 h; these are looked at by their own time.
CREATE TABLE sent_late (
    id      uuid   PRIMARY KEY,
    sent_at bigint NOT NULL
);
CREATE INDEX sent_late_at ON sent_late (sent_at);
COMMENT ON TABLE sent_late IS 'Messages sent an hour or more after their acceptance, until their receipt is due (72 h).';
