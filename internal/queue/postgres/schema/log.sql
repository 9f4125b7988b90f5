-- One segment of the log. @segment is its number.
CREATE TABLE @schema.log_@segment (
	part  integer NOT NULL,
	pos   bigint NOT NULL,   -- place in the partition, without gaps
	kind  smallint NOT NULL, -- 0 a value, 1 a change
	lane  bigint,            -- of a value
	seq   bigint,            -- place of a value in its lane, without gaps
	count integer NOT NULL,
	size  integer NOT NULL,
	data  bytea NOT NULL,
	PRIMARY KEY (part, pos)
) WITH (fillfactor = 100, toast_tuple_target = 8160, autovacuum_enabled = false, toast.autovacuum_enabled = false);
ALTER TABLE @schema.log_@segment ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE UNIQUE INDEX log_@segment_lane ON @schema.log_@segment (lane, seq) WHERE lane IS NOT NULL;
