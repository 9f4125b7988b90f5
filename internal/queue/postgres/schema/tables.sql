-- The tables; @schema is replaced by the quoted name of the schema.

CREATE TABLE @schema.meta (
	one        boolean PRIMARY KEY DEFAULT true CHECK (one),
	version    integer NOT NULL,
	partitions integer NOT NULL,
	spread     integer NOT NULL,
	created    timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Where the log is written: log_<segment>. ring chooses one of the commits_<ring mod 3>.
CREATE TABLE @schema.head (
	one     boolean PRIMARY KEY DEFAULT true CHECK (one),
	segment bigint NOT NULL,
	ring    bigint NOT NULL,
	turned  timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO @schema.head (segment, ring) VALUES (1, 2);

CREATE TABLE @schema.segments (
	id     bigint PRIMARY KEY,
	closed boolean NOT NULL DEFAULT false,
	opened timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO @schema.segments (id, closed) VALUES (0, true), (1, false);

-- What a closed segment holds.
CREATE TABLE @schema.lane_extents (
	lane    bigint NOT NULL,
	last    bigint NOT NULL, -- highest seq
	segment bigint NOT NULL,
	PRIMARY KEY (lane, last, segment)
);
CREATE INDEX lane_extents_segment ON @schema.lane_extents (segment);
CREATE TABLE @schema.part_extents (
	part    integer NOT NULL,
	last    bigint NOT NULL, -- highest pos
	segment bigint NOT NULL,
	PRIMARY KEY (part, last, segment)
);
CREATE INDEX part_extents_segment ON @schema.part_extents (segment);

-- Lower bounds of what comes next, for lanes and partitions without rows in the two
-- newest segments.
CREATE TABLE @schema.lane_floors (lane bigint PRIMARY KEY, next bigint NOT NULL);
CREATE TABLE @schema.part_floors (part integer PRIMARY KEY, last bigint NOT NULL);

-- Names are bytea: the contract allows any bytes. name is a hash of them and of the shard.
CREATE TABLE @schema.lanes (
	id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	name        bytea NOT NULL UNIQUE,
	part        integer NOT NULL,
	queue       bytea NOT NULL,
	workspace   bytea NOT NULL,
	source      bytea NOT NULL,
	destination bytea NOT NULL,
	-- The checkpoint, as of parts.pos.
	first   bigint NOT NULL DEFAULT 1,
	tail    bigint NOT NULL DEFAULT 1,
	jobs    bigint NOT NULL DEFAULT 0,
	bytes   bigint NOT NULL DEFAULT 0,
	retry   bigint NOT NULL DEFAULT 0,
	parked  bigint NOT NULL DEFAULT 0,
	dead    bigint NOT NULL DEFAULT 0,
	retried bigint NOT NULL DEFAULT 0,
	partly  bytea NOT NULL DEFAULT ''
) WITH (fillfactor = 50);
CREATE INDEX lanes_part ON @schema.lanes (part);

CREATE TABLE @schema.processes (
	id        bigint PRIMARY KEY,
	name      text NOT NULL,
	started   timestamptz NOT NULL DEFAULT clock_timestamp(),
	heartbeat timestamptz NOT NULL DEFAULT clock_timestamp(),
	lease     interval NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE @schema.parts (
	id    integer PRIMARY KEY,
	owner bigint,
	epoch bigint NOT NULL DEFAULT 0,
	pos   bigint NOT NULL DEFAULT 0 -- the checkpoint in lanes holds everything up to here
) WITH (fillfactor = 50);

-- Jobs outside of the log. hash is the unsigned key hash with its highest bit turned, so
-- that it sorts as unsigned; the lowest value means no key.
CREATE TABLE @schema.side (
	lane    bigint NOT NULL,
	seq     bigint NOT NULL,
	idx     integer NOT NULL,
	state   smallint NOT NULL, -- 1 retry, 2 parked, 3 dead
	due     bigint NOT NULL,
	hash    bigint NOT NULL,
	attempt integer NOT NULL,
	cause   bytea NOT NULL,
	at      bigint NOT NULL,
	size    integer NOT NULL,
	record  bytea NOT NULL,
	PRIMARY KEY (lane, seq, idx)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
ALTER TABLE @schema.side ALTER COLUMN record SET STORAGE EXTERNAL;
CREATE INDEX side_due ON @schema.side (lane, due, seq, idx) WHERE state = 1;
CREATE INDEX side_head ON @schema.side (lane, hash, seq, idx) WHERE state IN (1, 2) AND hash <> -9223372036854775808;
CREATE INDEX side_dead ON @schema.side (lane, seq, idx) WHERE state = 3;

-- version is the transaction that wrote the record last.
CREATE TABLE @schema.records (
	key     bytea PRIMARY KEY,
	value   bytea NOT NULL,
	version bigint NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

-- One row for each commit, so that a process whose connection broke can find out what
-- became of it; undone is written by such a process where there was none, so that there
-- never will be. Truncated in turn.
CREATE TABLE @schema.commits_0 (process bigint NOT NULL, n bigint NOT NULL, undone boolean NOT NULL DEFAULT false, PRIMARY KEY (process, n)) WITH (autovacuum_enabled = false);
CREATE TABLE @schema.commits_1 (process bigint NOT NULL, n bigint NOT NULL, undone boolean NOT NULL DEFAULT false, PRIMARY KEY (process, n)) WITH (autovacuum_enabled = false);
CREATE TABLE @schema.commits_2 (process bigint NOT NULL, n bigint NOT NULL, undone boolean NOT NULL DEFAULT false, PRIMARY KEY (process, n)) WITH (autovacuum_enabled = false);
