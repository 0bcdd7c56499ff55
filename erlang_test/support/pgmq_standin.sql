-- A stand-in for pgmq where it cannot be had: what tests use of version 1.4,
-- by its documentation. Without headers, topics, partitions, polling inside the
-- server and last_read_at, which came later or which nobody here uses.
CREATE SCHEMA pgmq;

CREATE TABLE pgmq.meta (
    queue_name varchar UNIQUE NOT NULL,
    is_partitioned boolean NOT NULL,
    is_unlogged boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TYPE pgmq.queue_record AS (
    queue_name varchar,
    is_partitioned boolean,
    is_unlogged boolean,
    created_at timestamptz
);

CREATE TYPE pgmq.message_record AS (
    msg_id bigint,
    read_ct integer,
    enqueued_at timestamptz,
    vt timestamptz,
    message jsonb
);

CREATE TYPE pgmq.metrics_result AS (
    queue_name text,
    queue_length bigint,
    newest_msg_age_sec integer,
    oldest_msg_age_sec integer,
    total_messages bigint,
    scrape_time timestamptz
);

-- The tables of a queue: 'q' holds what waits, 'a' what was archived.
CREATE FUNCTION pgmq.table_of(kind text, queue_name text) RETURNS text AS $$
    SELECT format('pgmq.%I', kind || '_' || lower(queue_name));
$$ LANGUAGE sql IMMUTABLE;

CREATE FUNCTION pgmq.create(queue_name text) RETURNS void AS $$
BEGIN
    IF length(queue_name) > 47 OR queue_name ~ '[$;'']|--' THEN
        RAISE EXCEPTION 'not a name of a queue: %', queue_name;
    END IF;
    -- Two at once: the second one finds all there.
    PERFORM pg_advisory_xact_lock(hashtext('pgmq.' || lower(queue_name)));
    EXECUTE format(
        'CREATE TABLE IF NOT EXISTS %s (
             msg_id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
             read_ct integer NOT NULL DEFAULT 0,
             enqueued_at timestamptz NOT NULL DEFAULT now(),
             vt timestamptz NOT NULL,
             message jsonb)', pgmq.table_of('q', queue_name));
    EXECUTE format(
        'CREATE TABLE IF NOT EXISTS %s (
             msg_id bigint PRIMARY KEY,
             read_ct integer NOT NULL DEFAULT 0,
             enqueued_at timestamptz NOT NULL DEFAULT now(),
             archived_at timestamptz NOT NULL DEFAULT now(),
             vt timestamptz NOT NULL,
             message jsonb)', pgmq.table_of('a', queue_name));
    EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON %s (vt)',
                   'q_' || lower(queue_name) || '_vt_idx',
                   pgmq.table_of('q', queue_name));
    EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON %s (archived_at)',
                   'archived_at_idx_' || lower(queue_name),
                   pgmq.table_of('a', queue_name));
    INSERT INTO pgmq.meta VALUES (queue_name, false, false)
        ON CONFLICT DO NOTHING;
END
$$ LANGUAGE plpgsql;

CREATE FUNCTION pgmq.drop_queue(queue_name text,
                                partitioned boolean DEFAULT false)
RETURNS boolean AS $$
BEGIN
    EXECUTE format('DROP TABLE IF EXISTS %s, %s',
                   pgmq.table_of('q', queue_name),
                   pgmq.table_of('a', queue_name));
    DELETE FROM pgmq.meta WHERE meta.queue_name = drop_queue.queue_name;
    RETURN FOUND;
END
$$ LANGUAGE plpgsql;

CREATE FUNCTION pgmq.list_queues() RETURNS SETOF pgmq.queue_record AS $$
    SELECT * FROM pgmq.meta;
$$ LANGUAGE sql;

CREATE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[],
                                delay integer DEFAULT 0)
RETURNS SETOF bigint AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'INSERT INTO %s (vt, message)
         SELECT clock_timestamp() + make_interval(secs => $2), unnest($1)
         RETURNING msg_id', pgmq.table_of('q', queue_name))
        USING msgs, delay;
END
$$ LANGUAGE plpgsql;

CREATE FUNCTION pgmq.send(queue_name text, msg jsonb, delay integer DEFAULT 0)
RETURNS SETOF bigint AS $$
    SELECT pgmq.send_batch(queue_name, ARRAY[msg], delay);
$$ LANGUAGE sql;

CREATE FUNCTION pgmq.read(queue_name text, vt integer, qty integer)
RETURNS SETOF pgmq.message_record AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'WITH visible AS (
             SELECT msg_id FROM %1$s WHERE vt <= clock_timestamp()
             ORDER BY msg_id LIMIT $2 FOR UPDATE SKIP LOCKED)
         UPDATE %1$s q
         SET vt = clock_timestamp() + make_interval(secs => $1),
             read_ct = read_ct + 1
         FROM visible WHERE q.msg_id = visible.msg_id
         RETURNING q.msg_id, q.read_ct, q.enqueued_at, q.vt, q.message',
        pgmq.table_of('q', queue_name)) USING vt, qty;
END
$$ LANGUAGE plpgsql;

CREATE FUNCTION pgmq.set_vt(queue_name text, msg_id bigint, vt integer)
RETURNS SETOF pgmq.message_record AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'UPDATE %s SET vt = clock_timestamp() + make_interval(secs => $2)
         WHERE msg_id = $1
         RETURNING msg_id, read_ct, enqueued_at, vt, message',
        pgmq.table_of('q', queue_name)) USING msg_id, vt;
END
$$ LANGUAGE plpgsql;

CREATE FUNCTION pgmq.delete(queue_name text, msg_ids bigint[])
RETURNS SETOF bigint AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'DELETE FROM %s WHERE msg_id = ANY ($1) RETURNING msg_id',
        pgmq.table_of('q', queue_name)) USING msg_ids;
END
$$ LANGUAGE plpgsql;

CREATE FUNCTION pgmq.delete(queue_name text, msg_id bigint)
RETURNS boolean AS $$
    SELECT EXISTS (SELECT pgmq.delete(queue_name, ARRAY[msg_id]));
$$ LANGUAGE sql;

CREATE FUNCTION pgmq.archive(queue_name text, msg_ids bigint[])
RETURNS SETOF bigint AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'WITH gone AS (
             DELETE FROM %s WHERE msg_id = ANY ($1)
             RETURNING msg_id, read_ct, enqueued_at, vt, message)
         INSERT INTO %s (msg_id, read_ct, enqueued_at, vt, message)
         SELECT * FROM gone RETURNING msg_id',
        pgmq.table_of('q', queue_name), pgmq.table_of('a', queue_name))
        USING msg_ids;
END
$$ LANGUAGE plpgsql;

CREATE FUNCTION pgmq.archive(queue_name text, msg_id bigint)
RETURNS boolean AS $$
    SELECT EXISTS (SELECT pgmq.archive(queue_name, ARRAY[msg_id]));
$$ LANGUAGE sql;

CREATE FUNCTION pgmq.purge_queue(queue_name text) RETURNS bigint AS $$
DECLARE
    purged bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM %s', pgmq.table_of('q', queue_name))
        INTO purged;
    EXECUTE format('TRUNCATE %s', pgmq.table_of('q', queue_name));
    RETURN purged;
END
$$ LANGUAGE plpgsql;

CREATE FUNCTION pgmq.metrics(queue_name text)
RETURNS pgmq.metrics_result AS $$
DECLARE
    result pgmq.metrics_result;
BEGIN
    EXECUTE format(
        'SELECT $1, count(*),
                extract(epoch FROM now() - max(enqueued_at))::integer,
                extract(epoch FROM now() - min(enqueued_at))::integer,
                coalesce(pg_sequence_last_value(
                             pg_get_serial_sequence($2, ''msg_id'')::regclass),
                         0),
                now()
         FROM %s', pgmq.table_of('q', queue_name))
        INTO result USING queue_name, pgmq.table_of('q', queue_name);
    RETURN result;
END
$$ LANGUAGE plpgsql;
