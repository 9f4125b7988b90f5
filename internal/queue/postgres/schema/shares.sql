-- An addition to the tables, which those of before do not have.

-- Which queues a process leases from; NULL is a process that does not say, and takes
-- partitions with all of their queues.
ALTER TABLE @schema.processes ADD COLUMN IF NOT EXISTS queues bytea[];

-- Which queues of a partition a process leases from. A row holds as long as its epoch is that
-- of the partition: whoever changes one raises it, and carries over the rows that go on. A
-- process that takes the partition whole raises it too, and so makes all of them void.
CREATE TABLE IF NOT EXISTS @schema.shares (
	part    integer NOT NULL,
	process bigint NOT NULL,
	epoch   bigint NOT NULL,
	queues  bytea[] NOT NULL,
	PRIMARY KEY (part, process)
) WITH (fillfactor = 50);
