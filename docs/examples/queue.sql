-- Ten requests for the router, one of each kind and one that cannot be
-- answered. Shows the msg_id and the request_id of each.
--
--     psql -v document="$(cat requirements.md)" -v options= -f queue.sql
SELECT pgmq.send('ai_requests'::text, message) AS msg_id,
       message->>'request_id' AS request_id
FROM (
    VALUES
        ('{"complexity": "simple",
           "messages": [{"role": "user",
                         "content": "Name three prime numbers."}]}'::jsonb),
        ('{"complexity": "complex", "agent_id": "harbour-7",
           "messages": [{"role": "system", "content": "You are a pilot."},
                        {"role": "user", "content": "What is a neap tide?"}]}'),
        ('{"operation": "call_with_prompt", "task_type": "summary",
           "prompt": "Sum up the rules of the road at sea."}'),
        ('{"operation": "call_with_system", "system": "Answer in one word.",
           "user": "What does a pontoon do?"}'),
        ('{"operation": "generate_task", "workflow": "planning",
           "prompt": "Let skippers see the weather beside their booking."}'),
        (jsonb_build_object('operation', 'parse_prd', 'num_tasks', 5,
                            'workflow', 'planning', 'content', :'document')),
        ('{"operation": "expand_task", "num": 3, "workflow": "planning",
           "task": {"id": 1, "title": "Search for free berths",
                    "description": "By length, beam and draught."}}'),
        ('{"operation": "analyze_complexity", "workflow": "planning",
           "tasks": [{"id": 1, "title": "Search for free berths"},
                     {"id": 2, "title": "Take the deposit"}]}'),
        ('{"operation": "research", "topic": "tide tables for small ports",
           "context": "A booking service for visitor berths."}'),
        ('{"messages": "not a list"}')
) AS requests (request),
LATERAL (
    SELECT jsonb_build_object('request_id', gen_random_uuid()) || request
        || coalesce(nullif(:'options', ''), '{}')::jsonb
) AS messages (message);
