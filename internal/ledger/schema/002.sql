-- The sizes of one kind stand together, so that all of them are read in one go.

CREATE TABLE ordered (
    kind      TEXT    NOT NULL,
    edge_to   BLOB    NOT NULL CHECK (length(edge_to) = 16),
    edge_from BLOB    NOT NULL CHECK (length(edge_from) = 16),
    bytes     INTEGER NOT NULL,
    exact     INTEGER NOT NULL,
    measured  INTEGER NOT NULL,
    PRIMARY KEY (kind, edge_to, edge_from)
) STRICT, WITHOUT ROWID;

INSERT INTO ordered SELECT kind, edge_to, edge_from, bytes, exact, measured FROM sizes;
DROP TABLE sizes;
ALTER TABLE ordered RENAME TO sizes;
CREATE INDEX sizes_measured ON sizes (measured);
