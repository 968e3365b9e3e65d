-- What an interrupted upload needs to be carried on. It may be secret: whatever
-- deletes from here has to see to it that nothing of it stays on the disk.

CREATE TABLE notes (
    place TEXT    NOT NULL,
    name  TEXT    NOT NULL,
    data  BLOB    NOT NULL,
    kept  INTEGER NOT NULL,
    PRIMARY KEY (place, name)
) STRICT;
