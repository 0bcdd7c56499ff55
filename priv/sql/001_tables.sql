-- The tables beside the queue. `llm_router --migrate` loads this, or by hand:
--
--     psql -f priv/sql/001_tables.sql DATABASE
--
-- It can be loaded again. Tables of these names that are there already get the
-- columns they lack; nothing else of them is changed.
--
-- A role that did not create them needs
--
--     GRANT SELECT, INSERT, UPDATE ON ai_results, job_results, llm_metrics TO ...

-- The stored answers, one for each request.
-- Rows up to 8 KB are not compressed: that takes half of the time in which they
-- are stored.
CREATE TABLE IF NOT EXISTS ai_results (request_id uuid PRIMARY KEY)
    WITH (toast_tuple_target = 8160);
ALTER TABLE ai_results
    ADD COLUMN IF NOT EXISTS request_id uuid,
    ADD COLUMN IF NOT EXISTS agent_id text,
    ADD COLUMN IF NOT EXISTS status text,      -- success, failed, timeout
    ADD COLUMN IF NOT EXISTS response text,    -- the text of a chat
    ADD COLUMN IF NOT EXISTS result jsonb,     -- the message that was sent
    ADD COLUMN IF NOT EXISTS answer bytea,     -- the same as a BEAM term
    ADD COLUMN IF NOT EXISTS model text,
    ADD COLUMN IF NOT EXISTS provider text,
    ADD COLUMN IF NOT EXISTS tokens_used integer,
    ADD COLUMN IF NOT EXISTS cost_cents numeric,
    ADD COLUMN IF NOT EXISTS error text,
    ADD COLUMN IF NOT EXISTS processed_at timestamptz DEFAULT now();

-- The job records.
CREATE TABLE IF NOT EXISTS job_results (
    id uuid PRIMARY KEY,                       -- the request_id
    status text CHECK (status IN ('success', 'failed', 'timeout'))
) WITH (toast_tuple_target = 8160);
ALTER TABLE job_results
    ADD COLUMN IF NOT EXISTS id uuid,
    ADD COLUMN IF NOT EXISTS workflow text,    -- else the operation
    ADD COLUMN IF NOT EXISTS instance_id text, -- else the agent_id
    ADD COLUMN IF NOT EXISTS job_id text,      -- else the msg_id of the queue
    ADD COLUMN IF NOT EXISTS status text,
    ADD COLUMN IF NOT EXISTS input jsonb,      -- the request
    ADD COLUMN IF NOT EXISTS output jsonb,     -- the message that was sent
    ADD COLUMN IF NOT EXISTS error text,
    ADD COLUMN IF NOT EXISTS tokens_used integer,
    ADD COLUMN IF NOT EXISTS cost_cents integer,
    ADD COLUMN IF NOT EXISTS duration_ms integer,
    ADD COLUMN IF NOT EXISTS inserted_at timestamptz DEFAULT now(),
    ADD COLUMN IF NOT EXISTS updated_at timestamptz DEFAULT now(),
    ADD COLUMN IF NOT EXISTS completed_at timestamptz;
CREATE INDEX IF NOT EXISTS job_results_workflow_completed_at
    ON job_results (workflow, completed_at);

-- What each answer cost: a row for every message, so for one request several
-- if it was sent several times.
CREATE TABLE IF NOT EXISTS llm_metrics ();
ALTER TABLE llm_metrics
    ADD COLUMN IF NOT EXISTS request_id uuid,
    ADD COLUMN IF NOT EXISTS agent_id text,
    ADD COLUMN IF NOT EXISTS complexity text,
    ADD COLUMN IF NOT EXISTS task_type text,
    ADD COLUMN IF NOT EXISTS model text,
    ADD COLUMN IF NOT EXISTS prompt_tokens integer,
    ADD COLUMN IF NOT EXISTS completion_tokens integer,
    ADD COLUMN IF NOT EXISTS tokens integer,
    ADD COLUMN IF NOT EXISTS cost double precision, -- US dollars
    ADD COLUMN IF NOT EXISTS latency_ms integer,
    ADD COLUMN IF NOT EXISTS timestamp timestamptz DEFAULT now();
CREATE INDEX IF NOT EXISTS llm_metrics_timestamp ON llm_metrics (timestamp);

-- The ids of tables that were there need an index to be found by.
DO $$
DECLARE
    key record;
BEGIN
    FOR key IN VALUES ('ai_results', 'request_id'), ('job_results', 'id') LOOP
        IF NOT EXISTS (
            SELECT FROM pg_index i
            JOIN pg_attribute a ON a.attrelid = i.indrelid
                AND a.attnum = i.indkey[0]
            WHERE i.indrelid = key.column1::regclass AND i.indisunique
                AND i.indnkeyatts = 1 AND i.indpred IS NULL
                AND a.attname = key.column2
        ) THEN
            EXECUTE format('CREATE UNIQUE INDEX ON %I (%I)',
                           key.column1, key.column2);
        END IF;
    END LOOP;
END
$$;
