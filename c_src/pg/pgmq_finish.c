#include "llm_router/pg/pgmq.h"

/* What is archived is ours: whoever loses the race for a message gets no row
 * of `won` and so sends and stores nothing of it.
 *
 * Numbers become the 0..2147483647 that an integer column holds. Without the
 * CASE null would become one, for least and greatest pass over it. */
#define WON                                                                   \
    "WITH given AS MATERIALIZED ("                                            \
    "SELECT * FROM jsonb_to_recordset($5::jsonb) AS g(msg_id bigint,"         \
    " result jsonb, answer text, request_id uuid, input jsonb,"               \
    " workflow text, instance_id text, job_id text, dead jsonb,"              \
    " again boolean)"                                                         \
    "), archived AS MATERIALIZED ("                                           \
    "SELECT a.msg_id FROM pgmq.archive($1::text,"                             \
    " ARRAY(SELECT msg_id FROM given ORDER BY msg_id)) AS a(msg_id)"          \
    "), won AS MATERIALIZED ("                                                \
    "SELECT g.*, r.*, CASE WHEN r.tokens_used IS NOT NULL THEN"               \
    " least(greatest(r.tokens_used, 0), 2147483647) END::integer AS tokens,"  \
    " CASE WHEN u.prompt_tokens IS NOT NULL THEN"                             \
    " least(greatest(u.prompt_tokens, 0), 2147483647) END::integer AS asked," \
    " CASE WHEN u.completion_tokens IS NOT NULL THEN least(greatest("         \
    "u.completion_tokens, 0), 2147483647) END::integer AS answered,"          \
    " CASE WHEN r.cost_cents IS NOT NULL THEN"                                \
    " least(greatest(r.cost_cents, 0), 2147483647) END::integer AS cents,"    \
    " CASE WHEN r.latency_ms IS NOT NULL THEN"                                \
    " least(greatest(r.latency_ms, 0), 2147483647) END::integer AS ms"        \
    " FROM given g JOIN archived USING (msg_id),"                             \
    " jsonb_to_record(g.result) AS r(agent_id text, operation text,"          \
    " status text, response text, model text, provider text,"                 \
    " usage jsonb, tokens_used numeric, cost numeric, cost_cents numeric,"    \
    " latency_ms numeric, complexity text, task_type text, error jsonb),"     \
    " jsonb_to_record(r.usage)"                                               \
    " AS u(prompt_tokens numeric, completion_tokens numeric)"

/* A batch that is empty is an error to send_batch. */
#define SENT                                                            \
    "), sent AS MATERIALIZED ("                                         \
    "SELECT count(*) FROM (SELECT array_agg(result ORDER BY msg_id) AS" \
    " batch FROM won HAVING count(*) > 0) AS b,"                        \
    " pgmq.send_batch($2::text, b.batch)"                               \
    "), buried AS MATERIALIZED ("                                       \
    "SELECT count(*) FROM (SELECT array_agg(dead ORDER BY msg_id) AS"   \
    " batch FROM won WHERE dead IS NOT NULL HAVING count(*) > 0) AS b," \
    " pgmq.send_batch($3::text, b.batch)"                               \
    "), told AS MATERIALIZED ("                                         \
    "SELECT count(pg_notify($4::text, request_id::text)) FROM won"      \
    " WHERE request_id IS NOT NULL AND $4::text <> ''"

/* One row under an id in one statement: two would be an error (21000). In the
 * order of the ids, so that two finishers do not wait for each other. */
#define KEPT                                              \
    "), kept AS MATERIALIZED ("                           \
    "SELECT DISTINCT ON (request_id) * FROM won"          \
    " WHERE request_id IS NOT NULL AND again IS NOT TRUE" \
    " ORDER BY request_id, (status = 'success') IS NOT TRUE, msg_id"

#define ANSWERS                                                             \
    "), answers AS ("                                                       \
    "INSERT INTO ai_results AS t (request_id, agent_id, status, response,"  \
    " result, answer, model, provider, tokens_used, cost_cents, error,"     \
    " processed_at)"                                                        \
    " SELECT request_id, agent_id, status, response, result,"               \
    " decode(answer, 'hex'), model, provider, tokens, cost_cents,"          \
    " error ->> 'message', now() FROM kept"                                 \
    " ON CONFLICT (request_id) DO UPDATE SET agent_id = EXCLUDED.agent_id," \
    " status = EXCLUDED.status, response = EXCLUDED.response,"              \
    " result = EXCLUDED.result, answer = EXCLUDED.answer,"                  \
    " model = EXCLUDED.model, provider = EXCLUDED.provider,"                \
    " tokens_used = EXCLUDED.tokens_used,"                                  \
    " cost_cents = EXCLUDED.cost_cents, error = EXCLUDED.error,"            \
    " processed_at = EXCLUDED.processed_at"                                 \
    " WHERE t.status IS DISTINCT FROM 'success'"

#define JOBS                                                                   \
    "), jobs AS ("                                                             \
    "INSERT INTO job_results AS t (id, workflow, instance_id, job_id, status," \
    " input, output, error, tokens_used, cost_cents, duration_ms,"             \
    " inserted_at, updated_at, completed_at)"                                  \
    " SELECT request_id, coalesce(workflow, operation),"                       \
    " coalesce(instance_id, agent_id), coalesce(job_id, msg_id::text),"        \
    " status, input, result, error ->> 'message', tokens, cents, ms,"          \
    " now(), now(), now() FROM kept"                                           \
    " ON CONFLICT (id) DO UPDATE SET workflow = EXCLUDED.workflow,"            \
    " instance_id = EXCLUDED.instance_id, job_id = EXCLUDED.job_id,"           \
    " status = EXCLUDED.status, input = EXCLUDED.input,"                       \
    " output = EXCLUDED.output, error = EXCLUDED.error,"                       \
    " tokens_used = EXCLUDED.tokens_used,"                                     \
    " cost_cents = EXCLUDED.cost_cents,"                                       \
    " duration_ms = EXCLUDED.duration_ms,"                                     \
    " updated_at = EXCLUDED.updated_at,"                                       \
    " completed_at = EXCLUDED.completed_at"                                    \
    " WHERE t.status IS DISTINCT FROM 'success'"

#define METRICS                                                             \
    "), metrics AS ("                                                       \
    "INSERT INTO llm_metrics (request_id, agent_id, complexity, task_type," \
    " model, prompt_tokens, completion_tokens, tokens, cost, latency_ms,"   \
    " timestamp)"                                                           \
    " SELECT request_id, agent_id, complexity, task_type, model, asked,"    \
    " answered, tokens, cost, ms, now()"                                    \
    " FROM won WHERE request_id IS NOT NULL AND again IS NOT TRUE"

/* A SELECT in WITH runs only if the rest asks for its rows. */
#define FINISH(tables)   \
    WON SENT KEPT tables \
        ") SELECT archived.msg_id FROM archived, sent, buried, told"

static const char *const FINISH_SQL[2][2][2] = {
    {{FINISH(""), FINISH(METRICS)}, {FINISH(JOBS), FINISH(JOBS METRICS)}},
    {{FINISH(ANSWERS), FINISH(ANSWERS METRICS)},
     {FINISH(ANSWERS JOBS), FINISH(ANSWERS JOBS METRICS)}},
};

void pgmq_finish(struct pg *pg, const struct pgmq_names *names,
                 const struct pgmq_tables *tables, struct slice items,
                 pg_done *done, void *context)
{
    const struct pg_query query = {
        .sql = FINISH_SQL[tables->answers][tables->jobs][tables->metrics],
        .parameters = {slice_of(names->requests), slice_of(names->results),
                       slice_of(names->dead_letters), slice_of(names->channel),
                       items},
        .count = 5,
        .fixed = true,
    };

    pg_query(pg, &query, done, context);
}
