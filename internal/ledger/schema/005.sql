-- The diary of jobs. Rows are in the order of their numbers, never of their times:
-- clocks are put back.

CREATE TABLE job_runs (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    job     TEXT    NOT NULL,
    begun   INTEGER NOT NULL,
    ended   INTEGER,
    result  TEXT    NOT NULL DEFAULT '',
    message TEXT    NOT NULL DEFAULT ''
) STRICT;

CREATE INDEX job_runs_job ON job_runs (job, id);

-- outstanding is NULL where that is not known.
CREATE TABLE job_places (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    run         INTEGER NOT NULL,
    source      TEXT    NOT NULL,
    destination TEXT    NOT NULL,
    ended       INTEGER,
    result      TEXT    NOT NULL,
    message     TEXT    NOT NULL,
    snapshot    BLOB    NOT NULL,
    transferred INTEGER NOT NULL,
    removed     INTEGER NOT NULL,
    bytes       INTEGER NOT NULL,
    outstanding INTEGER,
    chain       INTEGER NOT NULL
) STRICT;

CREATE INDEX job_places_run ON job_places (run, id);

-- The numbers of what was last tried at a place, and of what last succeeded there.
-- Neither is pruned.
CREATE TABLE job_lasts (
    job         TEXT    NOT NULL,
    source      TEXT    NOT NULL,
    destination TEXT    NOT NULL,
    try         INTEGER NOT NULL,
    success     INTEGER,
    PRIMARY KEY (job, source, destination)
) STRICT, WITHOUT ROWID;
