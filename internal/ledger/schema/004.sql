-- What is in a place that cannot tell it soon itself. Nothing of it is ever pruned.

CREATE TABLE catalogue (
    place TEXT NOT NULL,
    name  TEXT NOT NULL,
    data  BLOB NOT NULL,
    PRIMARY KEY (place, name)
) STRICT;
