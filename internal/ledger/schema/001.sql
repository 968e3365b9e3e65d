-- Times are nanoseconds since 1970, UTC. UUIDs are their 16 bytes; the zero
-- UUID is a full stream's "from".

CREATE TABLE sizes (
    edge_to   BLOB    NOT NULL CHECK (length(edge_to) = 16),
    edge_from BLOB    NOT NULL CHECK (length(edge_from) = 16),
    kind      TEXT    NOT NULL,
    bytes     INTEGER NOT NULL,
    exact     INTEGER NOT NULL,
    measured  INTEGER NOT NULL,
    PRIMARY KEY (edge_to, edge_from, kind)
) STRICT, WITHOUT ROWID;

CREATE INDEX sizes_measured ON sizes (measured);

-- ended is NULL for as long as the transfer is owed an end. AUTOINCREMENT: the
-- number of a pruned receipt is never given to another.
CREATE TABLE receipts (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    source      TEXT    NOT NULL,
    destination TEXT    NOT NULL,
    edge_to     BLOB    NOT NULL CHECK (length(edge_to) = 16),
    edge_from   BLOB    NOT NULL CHECK (length(edge_from) = 16),
    path        BLOB    NOT NULL,
    begun       INTEGER NOT NULL,
    ended       INTEGER,
    result      TEXT    NOT NULL DEFAULT '',
    bytes       INTEGER NOT NULL DEFAULT 0,
    commands    INTEGER NOT NULL DEFAULT 0,
    message     TEXT    NOT NULL DEFAULT ''
) STRICT;

CREATE INDEX receipts_owed ON receipts (destination) WHERE ended IS NULL;

CREATE TABLE runs (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    command TEXT    NOT NULL,
    begun   INTEGER NOT NULL,
    ended   INTEGER,
    result  TEXT    NOT NULL DEFAULT '',
    message TEXT    NOT NULL DEFAULT ''
) STRICT;
