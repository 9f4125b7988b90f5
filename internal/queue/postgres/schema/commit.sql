-- commit_<segment> makes one group of Updates durable. It is one call with all of its data,
-- so that no lock is held while a client is still sending. Numbers of log rows are
-- relative to bases that are read under the partition's lock.
--
-- Errors: WR001 the segment or the ring is not the current one, WR002 a partition has
-- another owner, WR003 records have changed, WR004 a side row is not what it was.
CREATE FUNCTION @schema.commit_@segment(
	a_process bigint, a_n bigint, a_ring bigint,
	a_parts integer[], a_epochs bigint[], a_lanes bigint[], a_stripes integer[],
	r_keys bytea[], r_versions bigint[], w_keys bytea[], w_values bytea[], d_keys bytea[],
	l_part integer[], l_pos integer[], l_kind smallint[], l_lane integer[], l_seq integer[],
	l_count integer[], l_size integer[], l_data bytea[],
	i_lane bigint[], i_seq bigint[], i_idx integer[], i_state smallint[], i_due bigint[], i_hash bigint[],
	i_attempt integer[], i_cause bytea[], i_at bigint[], i_size integer[], i_record bytea[],
	u_lane bigint[], u_seq bigint[], u_idx integer[], u_was smallint[], u_state smallint[], u_due bigint[],
	u_attempt integer[], u_cause bytea[],
	g_lane bigint[], g_seq bigint[], g_idx integer[], g_was smallint[],
	OUT part_base bigint[], OUT lane_base bigint[])
LANGUAGE plpgsql VOLATILE AS $function$
DECLARE
	h record;
	p integer;
	n integer;
	lost text;
BEGIN
	PERFORM pg_advisory_xact_lock_shared(@space, 0);
	SELECT segment, ring INTO h FROM @schema.head;
	IF h.segment <> @segment OR a_ring NOT IN (h.ring, h.ring - 1) THEN
		RAISE EXCEPTION 'the log goes on in segment %, ring %', h.segment, h.ring USING ERRCODE = 'WR001';
	END IF;
	CASE a_ring % 3
	WHEN 0 THEN INSERT INTO @schema.commits_0 (process, n) VALUES (a_process, a_n);
	WHEN 1 THEN INSERT INTO @schema.commits_1 (process, n) VALUES (a_process, a_n);
	ELSE INSERT INTO @schema.commits_2 (process, n) VALUES (a_process, a_n);
	END CASE;
	FOREACH p IN ARRAY a_parts LOOP
		PERFORM pg_advisory_xact_lock(@space, p + 1);
	END LOOP;
	FOREACH p IN ARRAY a_stripes LOOP
		PERFORM pg_advisory_xact_lock(@space, -1 - p);
	END LOOP;

	IF cardinality(a_parts) > 0 THEN
		SELECT string_agg(u.id::text, ',') INTO lost
		FROM unnest(a_parts, a_epochs) u(id, epoch) JOIN @schema.parts t ON t.id = u.id
		WHERE u.epoch <> 0 AND t.epoch <> u.epoch;
		IF lost IS NOT NULL THEN
			RAISE EXCEPTION 'partitions have another owner' USING ERRCODE = 'WR002', DETAIL = lost;
		END IF;
	END IF;
	IF cardinality(r_keys) > 0 THEN
		SELECT string_agg(u.ord::text, ',') INTO lost
		FROM unnest(r_keys, r_versions) WITH ORDINALITY u(key, version, ord)
		WHERE u.version <> coalesce((SELECT t.version FROM @schema.records t WHERE t.key = u.key), 0);
		IF lost IS NOT NULL THEN
			RAISE EXCEPTION 'records have changed' USING ERRCODE = 'WR003', DETAIL = lost;
		END IF;
	END IF;

	IF cardinality(l_part) > 0 THEN
		part_base := ARRAY(SELECT greatest(
				(SELECT f.last FROM @schema.part_floors f WHERE f.part = u.id),
				(SELECT t.pos FROM @schema.log_@previous t WHERE t.part = u.id ORDER BY t.pos DESC LIMIT 1),
				(SELECT t.pos FROM @schema.log_@segment t WHERE t.part = u.id ORDER BY t.pos DESC LIMIT 1),
				0)
			FROM unnest(a_parts) WITH ORDINALITY u(id, ord) ORDER BY u.ord);
		lane_base := ARRAY(SELECT greatest(
				(SELECT f.next FROM @schema.lane_floors f WHERE f.lane = u.id),
				(SELECT t.seq + 1 FROM @schema.log_@previous t WHERE t.lane = u.id ORDER BY t.seq DESC LIMIT 1),
				(SELECT t.seq + 1 FROM @schema.log_@segment t WHERE t.lane = u.id ORDER BY t.seq DESC LIMIT 1),
				1)
			FROM unnest(a_lanes) WITH ORDINALITY u(id, ord) ORDER BY u.ord);
		INSERT INTO @schema.log_@segment (part, pos, kind, lane, seq, count, size, data)
		SELECT a_parts[u.part], part_base[u.part] + u.pos, u.kind, a_lanes[u.lane], lane_base[u.lane] + u.seq, u.count, u.size, u.data
		FROM unnest(l_part, l_pos, l_kind, l_lane, l_seq, l_count, l_size, l_data) u(part, pos, kind, lane, seq, count, size, data);
	END IF;
	IF cardinality(i_lane) > 0 THEN
		INSERT INTO @schema.side (lane, seq, idx, state, due, hash, attempt, cause, at, size, record)
		SELECT * FROM unnest(i_lane, i_seq, i_idx, i_state, i_due, i_hash, i_attempt, i_cause, i_at, i_size, i_record);
	END IF;
	IF cardinality(u_lane) > 0 THEN
		UPDATE @schema.side t SET state = u.state, due = u.due, attempt = u.attempt, cause = u.cause
		FROM unnest(u_lane, u_seq, u_idx, u_was, u_state, u_due, u_attempt, u_cause) u(lane, seq, idx, was, state, due, attempt, cause)
		WHERE t.lane = u.lane AND t.seq = u.seq AND t.idx = u.idx AND t.state = u.was;
		GET DIAGNOSTICS n = ROW_COUNT;
		IF n <> cardinality(u_lane) THEN
			RAISE EXCEPTION '% of % side rows are not what they were', cardinality(u_lane) - n, cardinality(u_lane) USING ERRCODE = 'WR004';
		END IF;
	END IF;
	IF cardinality(g_lane) > 0 THEN
		DELETE FROM @schema.side t USING unnest(g_lane, g_seq, g_idx, g_was) u(lane, seq, idx, was)
		WHERE t.lane = u.lane AND t.seq = u.seq AND t.idx = u.idx AND t.state = u.was;
		GET DIAGNOSTICS n = ROW_COUNT;
		IF n <> cardinality(g_lane) THEN
			RAISE EXCEPTION '% of % side rows are not what they were', cardinality(g_lane) - n, cardinality(g_lane) USING ERRCODE = 'WR004';
		END IF;
	END IF;
	IF cardinality(w_keys) > 0 THEN
		INSERT INTO @schema.records AS t (key, value, version)
		SELECT u.key, u.value, pg_current_xact_id()::text::bigint FROM unnest(w_keys, w_values) u(key, value)
		ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version;
	END IF;
	IF cardinality(d_keys) > 0 THEN
		DELETE FROM @schema.records t USING unnest(d_keys) u(key) WHERE t.key = u.key;
	END IF;
END
$function$;
