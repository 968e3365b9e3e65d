-- as_of is when the newest snapshot of the source was made, as a run saw it; NULL where
-- that is not known. place tells places apart that had the same name one after the
-- other, and is empty where that is not known.

ALTER TABLE job_places ADD COLUMN as_of INTEGER;
ALTER TABLE job_places ADD COLUMN place TEXT NOT NULL DEFAULT '';
