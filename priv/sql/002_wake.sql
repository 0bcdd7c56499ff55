-- Who listens on pgmq_<queue> hears at once that a message came.
-- `llm_router --migrate` loads this, or by hand, once pgmq and the queue are
-- there:
--
--     psql -f priv/sql/002_wake.sql \
--          -c "SELECT llm_router_watch('ai_requests')" DATABASE
--
-- It can be loaded again.

CREATE OR REPLACE FUNCTION llm_router_wake() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('pgmq_' || substring(TG_TABLE_NAME FROM 3), '');
    RETURN NULL;
END
$$;

-- Puts the trigger on a queue; the caller must own the queue's table. One that
-- is there is left alone if it is this one: replacing it stops the queue.
CREATE OR REPLACE FUNCTION llm_router_watch(queue text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    name text := 'q_' || queue;
BEGIN
    IF EXISTS (
        SELECT FROM pg_trigger t
        JOIN pg_class c ON c.oid = t.tgrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'pgmq' AND c.relname = name
            AND t.tgname = 'llm_router_wake' AND t.tgenabled = 'O'
            AND t.tgfoid = 'llm_router_wake()'::regprocedure
    ) THEN
        RETURN;
    END IF;
    EXECUTE format('DROP TRIGGER IF EXISTS llm_router_wake ON pgmq.%I', name);
    EXECUTE format('CREATE TRIGGER llm_router_wake AFTER INSERT ON pgmq.%I '
                   'FOR EACH STATEMENT EXECUTE FUNCTION llm_router_wake()',
                   name);
END
$$;
