#include "tests/test_dist_peer.h"

#include "llm_router/base/log.h"

static const char *const NAMES[] = {"llm_router"};

static struct node *node;
static struct node_options options;

/* What the node told, last and how often. */
static struct {
    int ready, failed, messages, refused, rpcs, abandoned, demonitored, downs;
    int peers_up, peers_down, demonitored_before_down, done, drained;
    size_t backlog_when_drained;
    enum error_code code;
    uint64_t connection, call, abandoned_call, down;
    struct buf pid, tag, text;
} seen;

static void on_ready(void *context)
{
    (void)context;
    seen.ready++;
}

static void on_failed(void *context, const struct error *err)
{
    (void)context;
    seen.failed++;
    seen.code = err->code;
}

static void keep(struct buf *kept, struct slice bytes)
{
    buf_clear(kept);
    buf_append_slice(kept, bytes);
}

static void on_message(void *context, const struct node_message *message)
{
    (void)context;
    seen.messages++;
    seen.connection = message->connection;
    keep(&seen.pid, message->from);
    keep(&seen.text, term_raw(message->message));
}

static void on_refused(void *context, uint64_t connection, struct slice pid,
                       struct slice tag, const struct error *err)
{
    (void)context;
    seen.refused++;
    seen.connection = connection;
    seen.code = err->code;
    keep(&seen.pid, pid);
    keep(&seen.tag, tag);
}

/* m:value/1 returns its argument, m:wait/0 is answered later, others are
 * undefined. */
static void on_rpc(void *context, const struct node_rpc *rpc)
{
    struct term_list list;
    struct term argument;

    (void)context;
    seen.rpcs++;
    seen.call = rpc->call;
    if (slice_is(rpc->function, "wait"))
        return;
    term_list(rpc->arguments, &list);
    if (slice_is(rpc->function, "value") && term_list_next(&list, &argument))
        node_rpc_return(node, rpc->call, term_raw(argument));
    else
        node_rpc_error(node, rpc->call, NODE_RPC_UNDEF, slice_of(NULL));
}

static void on_abandoned(void *context, uint64_t call)
{
    (void)context;
    seen.abandoned++;
    seen.abandoned_call = call;
}

static void on_demonitored(void *context, uint64_t connection,
                           struct slice reference)
{
    (void)context;
    (void)connection;
    seen.demonitored++;
    keep(&seen.tag, reference);
}

static void on_down(void *context, uint64_t monitor)
{
    (void)context;
    seen.downs++;
    seen.down = monitor;
}

static void on_peer_up(void *context, uint64_t connection, struct slice peer)
{
    (void)context;
    seen.peers_up++;
    seen.connection = connection;
    keep(&seen.text, peer);
}

static void on_peer_down(void *context, uint64_t connection, struct slice peer)
{
    (void)context;
    (void)connection;
    (void)peer;
    seen.peers_down++;
    seen.demonitored_before_down = seen.demonitored;
}

static void on_drained(void *context, uint64_t connection)
{
    (void)context;
    seen.drained++;
    seen.connection = connection;
    seen.backlog_when_drained = node_backlog(node, connection);
}

static const struct node_events EVENTS = {
    .ready = on_ready,
    .failed = on_failed,
    .message = on_message,
    .refused = on_refused,
    .rpc = on_rpc,
    .rpc_abandoned = on_abandoned,
    .demonitored = on_demonitored,
    .process_down = on_down,
    .peer_drained = on_drained,
    .peer_up = on_peer_up,
    .peer_down = on_peer_down,
};

static void on_done(void *context)
{
    (void)context;
    seen.done++;
}

#define CONDITION(name, expression) \
    static bool name(void)          \
    {                               \
        return expression;          \
    }

CONDITION(is_ready, seen.ready > 0)
CONDITION(is_drained, seen.drained > 0)
CONDITION(is_failed, seen.failed > 0)
CONDITION(is_done, seen.done > 0)
CONDITION(is_messaged, seen.messages > 0)
CONDITION(is_refused, seen.refused > 0)
CONDITION(is_called, seen.rpcs > 0)
CONDITION(is_abandoned, seen.abandoned > 0)
CONDITION(is_demonitored, seen.demonitored > 0)
CONDITION(is_watch_down, seen.downs > 0)
CONDITION(is_peer_up, seen.peers_up > 0)
CONDITION(is_peer_down, seen.peers_down > 0)
CONDITION(is_registered_twice, epmd.registrations == 2)
CONDITION(is_nobody_half_open, node_stats(node).handshakes == 0)
CONDITION(is_one_half_open, node_stats(node).handshakes == 1)
CONDITION(holds_name, node_stats(node).name_held)
CONDITION(lost_name, !node_stats(node).name_held)

static int setup(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    loop_init(&loop);
    memset(&epmd, 0, sizeof(epmd));
    epmd_start();
    memset(&seen, 0, sizeof(seen));
    buf_init(&seen.pid, SIZE_MAX);
    buf_init(&seen.tag, SIZE_MAX);
    buf_init(&seen.text, SIZE_MAX);
    options = (struct node_options){
        .name = "router@127.0.0.1",
        .cookie = SLICE_LITERAL("cookie"),
        .global_name = "llm_router",
        .names = NAMES,
        .name_count = 1,
        .max_frame_bytes = 1 << 20,
        .max_send_queue_bytes = 8 << 20,
        .handshake_timeout_ms = 7000,
        .max_handshakes = 2,
        .tick_time_ms = 60000,
    };
    return 0;
}

/* loop_release aborts if a handle is left. */
static int teardown(void **state)
{
    (void)state;
    node_free(node);
    node = NULL;
    epmd_stop();
    loop_release(&loop);
    buf_release(&seen.pid);
    buf_release(&seen.tag);
    buf_release(&seen.text);
    return 0;
}

static void start(void)
{
    node = node_new(&loop, &options, &EVENTS, NULL);
    node_start(node, 200);
}

static void start_ready(void)
{
    start();
    turn_until(is_ready);
}

/* Signals of the test's peer. */

static struct buf self_pid = {.max = SIZE_MAX}, reference;

static struct slice own_pid(const struct test_peer *peer)
{
    buf_clear(&self_pid);
    term_put_pid(&self_pid, peer->self.name, 9, 0, peer->self.creation);
    return buf_slice(&self_pid);
}

static struct slice own_reference(const struct test_peer *peer, uint64_t number)
{
    buf_release(&reference);
    buf_init(&reference, SIZE_MAX);
    reference_put(&reference, &peer->self, number);
    return buf_slice(&reference);
}

static void send_frame(struct test_peer *peer, size_t start_of_frame)
{
    assert_true(frame_end(&peer->out, start_of_frame));
    peer_write(peer);
}

static void monitor(struct test_peer *peer, const char *name, uint64_t number)
{
    size_t begin = frame_begin(&peer->out, FRAME_HEADED);
    struct slice pid = own_pid(peer);
    struct buf atom;

    buf_init(&atom, 300);
    term_put_atom(&atom, name);
    control_put_monitor(&peer->out, pid, buf_slice(&atom),
                        own_reference(peer, number));
    send_frame(peer, begin);
    buf_release(&atom);
}

static void demonitor(struct test_peer *peer, uint64_t number)
{
    size_t begin = frame_begin(&peer->out, FRAME_HEADED);
    struct slice pid = own_pid(peer);

    control_put_demonitor(&peer->out, pid, pid, own_reference(peer, number));
    send_frame(peer, begin);
}

/* {'$gen_call', {Pid, [alias | Ref]}, {Atom, Atom}} up to the request. */
static size_t begin_gen_call(struct test_peer *peer, const char *name,
                             uint64_t number)
{
    size_t begin = frame_begin(&peer->out, FRAME_HEADED);
    struct slice pid = own_pid(peer);

    control_put_send_name(&peer->out, pid, slice_of(name));
    term_put_tuple(&peer->out, 3);
    term_put_atom(&peer->out, "$gen_call");
    term_put_tuple(&peer->out, 2);
    term_put_raw(&peer->out, pid);
    term_put_list(&peer->out, 1);
    term_put_atom(&peer->out, "alias");
    term_put_raw(&peer->out, own_reference(peer, number));
    return begin;
}

/* {29, ReqId, From, GL, {erpc, execute_call, 4}, [monitor]} with
 * [Res, Module, Function, [Arguments...]]; ReqId and Res are the same. */
static void spawn(struct test_peer *peer, uint64_t number, const char *module,
                  const char *function, size_t arity,
                  const struct buf *arguments)
{
    size_t begin = frame_begin(&peer->out, FRAME_HEADED);
    struct slice pid = own_pid(peer), id = own_reference(peer, number);
    struct buf *out = &peer->out;

    term_put_tuple(out, 6);
    term_put_integer(out, 29);
    term_put_raw(out, id);
    term_put_raw(out, pid);
    term_put_raw(out, pid);
    term_put_tuple(out, 3);
    term_put_atom(out, "erpc");
    term_put_atom(out, "execute_call");
    term_put_integer(out, 4);
    term_put_list(out, 1);
    term_put_atom(out, "monitor");
    term_put_nil(out);
    term_put_list(out, 4);
    term_put_raw(out, id);
    term_put_atom(out, module);
    term_put_atom(out, function);
    term_put_list(out, arity);
    buf_append_slice(out, buf_slice(arguments));
    term_put_nil(out);
    term_put_nil(out);
    send_frame(peer, begin);
}

/* m:Function(foo, ...) */
static void spawn_call(struct test_peer *peer, uint64_t number,
                       const char *function, size_t arity)
{
    struct buf arguments;

    buf_init(&arguments, SIZE_MAX);
    for (size_t i = 0; i < arity; i++)
        term_put_atom(&arguments, "foo");
    spawn(peer, number, "m", function, arity, &arguments);
    buf_release(&arguments);
}

static void send_bytes(struct test_peer *peer, const void *bytes, size_t size)
{
    buf_append(&peer->out, bytes, size);
    peer_write(peer);
}

static void assert_atom_reason(const struct control *control, const char *atom)
{
    assert_true(term_is_atom(term_from_raw(control->payload), atom));
}

static bool is_reference(struct term term, struct slice expected)
{
    return slice_equal(term_raw(term), expected);
}

/* epmd */

static void a_node_registers_with_epmd_as_hidden_and_is_ready(void **state)
{
    struct slice pid;

    (void)state;
    start();
    assert_int_equal(node_service_pid(node).size, 0);
    turn_until(is_ready);
    assert_true(epmd_port_of("router") != 0);
    assert_int_equal(epmd.clients[0].request[5], 72);
    pid = node_service_pid(node);
    assert_true(pid.size > 0);
    assert_int_equal(pid.data[pid.size - 1], 5); /* epmd's creation */
}

static void a_name_that_becomes_free_is_taken(void **state)
{
    (void)state;
    epmd.refuses = true;
    start();
    turn_for(300);
    assert_int_equal(seen.failed, 0);
    epmd.refuses = false;
    turn_until(is_ready);
}

static void a_taken_name_fails_after_two_seconds(void **state)
{
    uint64_t began = uv_hrtime();

    (void)state;
    epmd.refuses = true;
    start();
    turn_until(is_failed);
    assert_int_equal(seen.code, ERR_INVALID_REQUEST);
    assert_true(uv_hrtime() - began > UINT64_C(1500000000));
}

static void without_epmd_the_node_fails_after_its_patience(void **state)
{
    (void)state;
    epmd_stop();
    start();
    turn_until(is_failed);
    assert_int_equal(seen.code, ERR_UNREACHABLE);
}

static void a_node_registers_again_when_epmd_comes_back(void **state)
{
    (void)state;
    start_ready();
    epmd_stop();
    turn_for(300);
    epmd_start();
    turn_until(is_registered_twice);
    assert_int_equal(seen.ready, 1);
    assert_int_equal(seen.failed, 0);
}

static void a_name_that_is_no_node_name_fails(void **state)
{
    (void)state;
    options.name = "nowhere";
    start();
    turn_until(is_failed);
    assert_int_equal(seen.code, ERR_INVALID_REQUEST);
}

/* Connections */

static void a_peer_with_the_cookie_is_let_in(void **state)
{
    struct test_peer peer;

    (void)state;
    start_ready();
    peer_connect(&peer, "a@127.0.0.1", "router");
    turn_until(is_peer_up);
    assert_slice(buf_slice(&seen.text), "a@127.0.0.1");
    assert_int_equal(node_stats(node).peers, 1);
    peer_close(&peer);
    turn_until(is_peer_down);
    assert_int_equal(node_stats(node).peers, 0);
}

static void a_second_connection_replaces_the_first(void **state)
{
    struct test_peer first, second;

    (void)state;
    start_ready();
    peer_connect(&first, "a@127.0.0.1", "router");
    turn_until(is_peer_up);
    peer_connect(&second, "a@127.0.0.1", "router");
    await_close(&first);
    assert_int_equal(seen.peers_up, 2);
    assert_int_equal(seen.peers_down, 1);
    assert_int_equal(node_stats(node).peers, 1);
    peer_close(&first);
    peer_close(&second);
}

static void the_oldest_of_too_many_handshakes_goes(void **state)
{
    struct test_peer peers[3];

    (void)state;
    options.handshake_timeout_ms = 300;
    start_ready();
    for (int i = 0; i < 3; i++) {
        peer_dial(&peers[i], "a@127.0.0.1", "router");
        turn_for(20);
    }
    assert_int_equal(node_stats(node).handshakes, 2);
    await_close(&peers[0]);
    turn_until(is_nobody_half_open); /* the others run out of time */
    for (int i = 0; i < 3; i++)
        peer_close(&peers[i]);
}

static void a_handshake_has_a_deadline(void **state)
{
    struct test_peer peer;

    (void)state;
    options.handshake_timeout_ms = 300;
    start_ready();
    peer_dial(&peer, "a@127.0.0.1", "router");
    send_bytes(&peer, "\0\x1cN", 3);
    turn_until(is_one_half_open);
    await_close(&peer);
    peer_close(&peer);
}

static void garbage_instead_of_a_handshake_closes(void **state)
{
    struct test_peer peer;

    (void)state;
    start_ready();
    peer_dial(&peer, "a@127.0.0.1", "router");
    send_bytes(&peer, "GET / HTTP/1.1\r\n\r\n", 18);
    await_close(&peer);
    assert_int_equal(seen.peers_up, 0);
    peer_close(&peer);
}

static void a_malformed_frame_closes_that_peer_only(void **state)
{
    const char *const bad[] = {"\xff\xff\xff\xff", "\0\0\0\4p\x83h\0",
                               "\0\0\0\4\203Dh\0", "\0\0\0\5\203D\1h\0",
                               "\0\0\0\2\203D"};
    const size_t sizes[] = {4, 8, 8, 9, 6};
    struct test_peer good, peer;

    (void)state;
    start_ready();
    peer_connect(&good, "good@127.0.0.1", "router");
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        peer_connect(&peer, "bad@127.0.0.1", "router");
        send_bytes(&peer, bad[i], sizes[i]);
        await_close(&peer);
        peer_close(&peer);
    }
    turn_for(10);
    assert_int_equal(node_stats(node).peers, 1);
    peer_close(&good);
}

static void a_silent_peer_is_closed_and_an_idle_one_gets_ticks(void **state)
{
    struct test_peer peer;

    (void)state;
    options.tick_time_ms = 400;
    start_ready();
    peer_connect(&peer, "a@127.0.0.1", "router");
    await_close(&peer);
    assert_true(peer.in.size >= 2 * FRAME_LENGTH_SIZE);
    for (size_t i = 0; i < peer.in.size; i++)
        assert_int_equal(peer.in.data[i], 0);
    peer_close(&peer);
}

static void a_tick_is_answered(void **state)
{
    struct test_peer peer;

    (void)state;
    start_ready();
    peer_connect(&peer, "a@127.0.0.1", "router");
    turn_for(100);
    send_bytes(&peer, "\0\0\0\0", 4);
    turn_for(50);
    peer_read(&peer);
    assert_int_equal(peer.in.size, FRAME_LENGTH_SIZE);
    peer_close(&peer);
}

static void
a_peer_that_does_not_read_is_closed_when_small_messages_fill_its_queue(
    void **state)
{
    struct test_peer peer;
    char *text = mem_alloc(1 << 20);
    struct buf payload;
    bool sent = true;
    int count = 0;

    (void)state;
    start_ready();
    peer_connect(&peer, "a@127.0.0.1", "router");
    turn_until(is_peer_up);
    buf_init(&payload, SIZE_MAX);
    term_put_binary(&payload, slice_make(text, 1 << 20));
    for (; sent && count < 100; count++) {
        sent = node_send(node, own_pid(&peer), buf_slice(&payload),
                         slice_of(NULL));
        uv_run(&loop.uv, UV_RUN_NOWAIT);
    }
    assert_in_range(count, 8, 30); /* the queue, and the sockets' buffers */
    turn_for(20);
    assert_false(is_peer_down());
    while (node_send(node, own_pid(&peer), slice_make("m\0\0\xe0\0", 5),
                     slice_make(text, 0xe000)))
        assert_true(++count < 200);
    turn_until(is_peer_down);
    peer_close(&peer);
    buf_release(&payload);
    mem_free(text);
}

/* Signals */

static void a_ping_is_answered_yes(void **state)
{
    struct test_peer peer;
    struct control control;
    struct term element;
    size_t begin;

    (void)state;
    start_ready();
    peer_connect(&peer, "a@127.0.0.1", "router");
    begin = begin_gen_call(&peer, "net_kernel", 5);
    term_put_tuple(&peer.out, 2);
    term_put_atom(&peer.out, "is_auth");
    term_put_atom(&peer.out, "a@127.0.0.1");
    send_frame(&peer, begin);
    peer_receive(&peer, &control);
    assert_int_equal(control.kind, CONTROL_SEND_ALIAS);
    assert_true(is_reference(control.to, buf_slice(&reference)));
    assert_true(term_tuple_of(term_from_raw(control.payload), 2, &element));
    assert_true(term_is_atom(term_next(element), "yes"));
    peer_close(&peer);
}

static void a_monitor_on_nobody_is_down_at_once(void **state)
{
    struct test_peer peer;
    struct control control;

    (void)state;
    start_ready();
    peer_connect(&peer, "a@127.0.0.1", "router");
    monitor(&peer, "nobody", 3);
    peer_receive(&peer, &control);
    assert_int_equal(control.kind, CONTROL_MONITOR_EXIT);
    assert_true(term_is_atom(control.from, "nobody"));
    assert_true(is_reference(control.reference, buf_slice(&reference)));
    assert_atom_reason(&control, "noproc");
    peer_close(&peer);
}

static void
a_monitor_on_the_service_is_known_until_it_is_taken_away(void **state)
{
    struct test_peer peer;

    (void)state;
    start_ready();
    peer_connect(&peer, "a@127.0.0.1", "router");
    monitor(&peer, "llm_router", 3);
    turn_for(20);
    assert_true(
        node_is_monitored(node, seen.connection, buf_slice(&reference)));
    assert_false(
        node_is_monitored(node, seen.connection + 1, buf_slice(&reference)));
    demonitor(&peer, 3);
    turn_until(is_demonitored);
    assert_true(slice_equal(buf_slice(&seen.tag), buf_slice(&reference)));
    assert_false(
        node_is_monitored(node, seen.connection, buf_slice(&reference)));
    peer_close(&peer);
}

static void when_a_peer_goes_all_it_waited_for_goes_first(void **state)
{
    struct test_peer peer;

    (void)state;
    start_ready();
    peer_connect(&peer, "a@127.0.0.1", "router");
    monitor(&peer, "llm_router", 3);
    spawn_call(&peer, 4, "wait", 0);
    turn_until(is_called);
    node_monitor(node, own_pid(&peer));
    peer_close(&peer);
    turn_until(is_peer_down);
    assert_int_equal(seen.demonitored_before_down, 1);
    assert_int_equal(seen.abandoned, 1);
    assert_int_equal(seen.downs, 1);
    node_rpc_return(node, seen.call, slice_make("j", 1)); /* no-op */
}

static void links_to_nobody_break_and_unlinks_are_acknowledged(void **state)
{
    struct test_peer peer;
    struct control control;
    struct slice pid;
    size_t begin;

    (void)state;
    start_ready();
    peer_connect(&peer, "a@127.0.0.1", "router");
    pid = own_pid(&peer);
    begin = frame_begin(&peer.out, FRAME_HEADED);
    term_put_tuple(&peer.out, 4);
    term_put_integer(&peer.out, 35);
    term_put_integer(&peer.out, 42);
    term_put_raw(&peer.out, pid);
    term_put_raw(&peer.out, node_service_pid(node));
    assert_true(frame_end(&peer.out, begin));
    begin = frame_begin(&peer.out, FRAME_HEADED);
    term_put_tuple(&peer.out, 3);
    term_put_integer(&peer.out, 1);
    term_put_raw(&peer.out, pid);
    term_put_pid(&peer.out, slice_of("router@127.0.0.1"), 12345, 0, 5);
    send_frame(&peer, begin);
    peer_receive(&peer, &control);
    assert_int_equal(peer_operation(&peer), 36);
    peer_receive(&peer, &control);
    assert_int_equal(control.kind, CONTROL_EXIT);
    assert_true(is_reference(control.to, pid));
    assert_atom_reason(&control, "noproc");
    peer_close(&peer);
}

static void a_message_to_the_service_reaches_it(void **state)
{
    struct test_peer peer;
    size_t begin;

    (void)state;
    start_ready();
    peer_connect(&peer, "a@127.0.0.1", "router");
    begin = begin_gen_call(&peer, "llm_router", 3);
    term_put_atom(&peer.out, "ping");
    send_frame(&peer, begin);
    turn_until(is_messaged);
    assert_true(slice_equal(buf_slice(&seen.pid), own_pid(&peer)));
    peer_close(&peer);
}

static void messages_to_nobody_are_dropped(void **state)
{
    struct test_peer peer;
    size_t begin;

    (void)state;
    start_ready();
    peer_connect(&peer, "a@127.0.0.1", "router");
    begin = begin_gen_call(&peer, "nobody", 3);
    term_put_atom(&peer.out, "ping");
    send_frame(&peer, begin);
    turn_for(20);
    assert_int_equal(seen.messages, 0);
    assert_int_equal(node_stats(node).dropped_signals, 1);
    assert_int_equal(node_stats(node).peers, 1);
    peer_close(&peer);
}

static void a_call_too_deep_is_refused_with_whom_to_tell(void **state)
{
    struct test_peer peer;
    size_t begin;

    (void)state;
    start_ready();
    peer_connect(&peer, "a@127.0.0.1", "router");
    begin = begin_gen_call(&peer, "llm_router", 3);
    for (int i = 0; i < 5000; i++)
        term_put_tuple(&peer.out, 1);
    term_put_nil(&peer.out);
    send_frame(&peer, begin);
    turn_until(is_refused);
    assert_int_equal(seen.code, ERR_INVALID_REQUEST);
    assert_true(slice_equal(buf_slice(&seen.pid), own_pid(&peer)));
    assert_int_equal(term_kind(term_from_raw(buf_slice(&seen.tag))), TERM_LIST);
    assert_int_equal(node_stats(node).peers, 1);
    peer_close(&peer);
}

static void a_refused_message_that_is_no_call_has_nobody_to_tell(void **state)
{
    const struct {
        const char *payload;
        size_t size;
    } rows[] = {
        {"l\x7f\xff\xff\xff", 5},
        {"h\3w\11$gen_call", 12},
        {"h\3w\11$gen_callh\2w\1ajl\x7f\xff\xff\xff", 23},
        {"h\3l", 3},
    };
    struct test_peer peer;

    (void)state;
    start_ready();
    peer_connect(&peer, "a@127.0.0.1", "router");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t begin = frame_begin(&peer.out, FRAME_HEADED);

        seen.refused = 0;
        control_put_send(&peer.out, node_service_pid(node));
        buf_append(&peer.out, rows[i].payload, rows[i].size);
        send_frame(&peer, begin);
        turn_until(is_refused);
        assert_int_equal(seen.pid.size, 0);
        assert_int_equal(seen.tag.size, 0);
    }
    peer_close(&peer);
}

/* Remote procedure calls */

static void receive_spawned(struct test_peer *peer, struct control *control)
{
    peer_receive(peer, control);
    assert_int_equal(peer_operation(peer), 31);
}

/* {Ref, Kind, ...}: the elements behind Kind. */
static struct term receive_result(struct test_peer *peer, const char *kind,
                                  uint32_t arity)
{
    struct control control;
    struct term element;

    peer_receive(peer, &control);
    assert_int_equal(control.kind, CONTROL_MONITOR_EXIT);
    assert_true(is_reference(control.reference, buf_slice(&reference)));
    assert_true(term_tuple_of(term_from_raw(control.payload), arity, &element));
    assert_true(is_reference(element, buf_slice(&reference)));
    element = term_next(element);
    assert_true(term_is_atom(element, kind));
    return term_next(element);
}

static void a_call_returns_as_the_reason_of_its_process(void **state)
{
    struct test_peer peer;
    struct control control;

    (void)state;
    start_ready();
    peer_connect(&peer, "a@127.0.0.1", "router");
    spawn_call(&peer, 3, "value", 1);
    receive_spawned(&peer, &control);
    assert_true(term_is_atom(receive_result(&peer, "return", 3), "foo"));
    demonitor(&peer, 3); /* comes late: no-op */
    turn_for(20);
    assert_int_equal(seen.abandoned, 0);
    peer_close(&peer);
}

/* [{m, Function, Arguments, []}] -> Arguments */
static struct term stack_arguments(struct term stack)
{
    struct term_list list;
    struct term frame, element;

    assert_true(term_list(stack, &list));
    assert_true(term_list_next(&list, &frame));
    assert_true(term_tuple_of(frame, 4, &element));
    assert_true(term_is_atom(element, "m"));
    return term_next(term_next(element));
}

static void an_unknown_function_is_undef_with_its_arguments(void **state)
{
    struct test_peer peer;
    struct control control;
    struct term reason, arguments;

    (void)state;
    start_ready();
    peer_connect(&peer, "a@127.0.0.1", "router");
    spawn_call(&peer, 3, "unknown", 2);
    receive_spawned(&peer, &control);
    reason = receive_result(&peer, "error", 4);
    assert_true(term_is_atom(reason, "undef"));
    arguments = stack_arguments(term_next(reason));
    assert_int_equal(term_kind(arguments), TERM_LIST);
    peer_close(&peer);
}

static void an_error_that_comes_later_names_the_arity(void **state)
{
    struct test_peer peer;
    struct control control;
    struct term reason;
    int64_t arity;

    (void)state;
    start_ready();
    peer_connect(&peer, "a@127.0.0.1", "router");
    spawn_call(&peer, 3, "wait", 2);
    receive_spawned(&peer, &control);
    node_rpc_error(node, seen.call, NODE_RPC_EXCEPTION,
                   SLICE_LITERAL("w\3bad"));
    reason = receive_result(&peer, "error", 4);
    assert_true(term_is_atom(reason, "bad"));
    assert_true(term_integer(stack_arguments(term_next(reason)), &arity));
    assert_int_equal(arity, 2);
    peer_close(&peer);
}

static void improper_arguments_are_a_bad_argument(void **state)
{
    struct test_peer peer;
    struct control control;
    struct buf *out = &peer.out;
    size_t begin;

    (void)state;
    start_ready();
    peer_connect(&peer, "a@127.0.0.1", "router");
    begin = frame_begin(out, FRAME_HEADED);
    term_put_tuple(out, 6);
    term_put_integer(out, 29);
    term_put_raw(out, own_reference(&peer, 3));
    term_put_raw(out, own_pid(&peer));
    term_put_raw(out, own_pid(&peer));
    buf_append(out, "h\3w\4erpcw\14execute_calla\4", 24);
    buf_append(out, "l\0\0\0\1w\7monitorj", 15);
    term_put_list(out, 4);
    term_put_raw(out, own_reference(&peer, 3));
    buf_append(out, "w\1mw\1fl\0\0\0\1a\1a\2j", 16); /* [1 | 2] */
    send_frame(&peer, begin);
    receive_spawned(&peer, &control);
    assert_true(term_is_atom(receive_result(&peer, "error", 4), "badarg"));
    assert_int_equal(seen.rpcs, 0);
    peer_close(&peer);
}

static void a_call_whose_monitor_goes_is_abandoned(void **state)
{
    struct test_peer peer;
    struct control control;

    (void)state;
    start_ready();
    peer_connect(&peer, "a@127.0.0.1", "router");
    spawn_call(&peer, 3, "wait", 0);
    receive_spawned(&peer, &control);
    demonitor(&peer, 3);
    turn_until(is_abandoned);
    assert_int_equal(seen.abandoned_call, seen.call);
    peer_close(&peer);
}

/* {26, From, Pid} and a reason. */
static void send_exit(struct test_peer *peer, struct slice to,
                      const char *reason)
{
    size_t begin = frame_begin(&peer->out, FRAME_HEADED);

    term_put_tuple(&peer->out, 3);
    term_put_integer(&peer->out, 26);
    term_put_raw(&peer->out, own_pid(peer));
    term_put_raw(&peer->out, to);
    term_put_atom(&peer->out, reason);
    send_frame(peer, begin);
}

static void a_call_whose_process_is_killed_is_abandoned(void **state)
{
    struct test_peer peer;
    struct control control;
    struct buf pid;

    (void)state;
    start_ready();
    peer_connect(&peer, "a@127.0.0.1", "router");
    spawn_call(&peer, 3, "wait", 0);
    receive_spawned(&peer, &control);
    buf_init(&pid, 300);
    pid_put(&pid, &(struct identity){slice_of("router@127.0.0.1"), 5},
            seen.call);
    send_exit(&peer, buf_slice(&pid), "normal"); /* takes no notice */
    send_exit(&peer, buf_slice(&pid), "kill");
    peer_receive(&peer, &control);
    assert_int_equal(control.kind, CONTROL_MONITOR_EXIT);
    assert_true(is_reference(control.from, buf_slice(&pid)));
    assert_atom_reason(&control, "killed");
    assert_int_equal(seen.abandoned, 1);
    buf_release(&pid);
    peer_close(&peer);
}

/* erlang:is_process_alive/1 */
static bool is_alive(struct test_peer *peer, uint64_t number)
{
    struct control control;
    struct buf pid;
    bool alive;

    buf_init(&pid, 300);
    pid_put(&pid, &(struct identity){slice_of("router@127.0.0.1"), 5}, number);
    spawn(peer, 100 + number, "erlang", "is_process_alive", 1, &pid);
    receive_spawned(peer, &control);
    assert_true(term_boolean(receive_result(peer, "return", 3), &alive));
    buf_release(&pid);
    return alive;
}

static void the_service_and_running_calls_are_alive(void **state)
{
    struct test_peer peer;
    struct control control;
    uint64_t call;

    (void)state;
    start_ready();
    peer_connect(&peer, "a@127.0.0.1", "router");
    spawn_call(&peer, 3, "wait", 0);
    receive_spawned(&peer, &control);
    call = seen.call;
    assert_true(is_alive(&peer, 1));
    assert_true(is_alive(&peer, call));
    assert_false(is_alive(&peer, call + 1000));
    own_reference(&peer, 3);
    node_rpc_return(node, call, SLICE_LITERAL("j"));
    receive_result(&peer, "return", 3);
    assert_false(is_alive(&peer, call));
    peer_close(&peer);
}

static void a_call_of_rex_is_answered_and_abandoned_likewise(void **state)
{
    struct test_peer peer;
    struct control control;
    struct term element;
    size_t begin;

    (void)state;
    start_ready();
    peer_connect(&peer, "a@127.0.0.1", "router");
    for (int round = 0; round < 2; round++) {
        monitor(&peer, "rex", 6);
        begin = begin_gen_call(&peer, "rex", 6);
        term_put_tuple(&peer.out, 5);
        term_put_atom(&peer.out, "block_call");
        term_put_atom(&peer.out, "m");
        term_put_atom(&peer.out, round == 0 ? "value" : "wait");
        term_put_list(&peer.out, 1);
        term_put_atom(&peer.out, "foo");
        term_put_nil(&peer.out);
        term_put_atom(&peer.out, "user");
        send_frame(&peer, begin);
        if (round > 0)
            break;
        peer_receive(&peer, &control);
        assert_int_equal(control.kind, CONTROL_SEND_ALIAS);
        assert_true(term_tuple_of(term_from_raw(control.payload), 2, &element));
        assert_true(term_is_atom(term_next(element), "foo"));
        demonitor(&peer, 6);
    }
    seen.rpcs = 0;
    turn_until(is_called);
    assert_int_equal(seen.abandoned, 0);
    demonitor(&peer, 6);
    turn_until(is_abandoned);
    peer_close(&peer);
}

/* The node and others */

static void a_process_of_a_node_that_is_not_there_is_down_soon(void **state)
{
    struct buf pid;
    uint64_t watch;

    (void)state;
    start_ready();
    buf_init(&pid, SIZE_MAX);
    term_put_pid(&pid, slice_of("b@127.0.0.1"), 1, 0, 1);
    watch = node_monitor(node, buf_slice(&pid));
    assert_int_equal(seen.downs, 0);
    turn_until(is_watch_down);
    assert_int_equal(seen.down, watch);
    buf_release(&pid);
}

/* {19, From, To, Ref} received; another says {28, To, From, Ref}. */
static void only_the_watched_node_can_say_that_a_process_is_down(void **state)
{
    struct test_peer watched, liar;
    struct control control;

    (void)state;
    start_ready();
    peer_connect(&watched, "a@127.0.0.1", "router");
    peer_connect(&liar, "b@127.0.0.1", "router");
    turn_for(20);
    node_monitor(node, own_pid(&watched));
    peer_receive(&watched, &control);
    assert_int_equal(control.kind, CONTROL_MONITOR);
    for (int i = 0; i < 2; i++) {
        struct test_peer *peer = i == 0 ? &liar : &watched;
        size_t begin = frame_begin(&peer->out, FRAME_HEADED);

        assert_int_equal(seen.downs, 0);
        control_put_monitor_exit(&peer->out, CONTROL_FLAG_EXIT_PAYLOAD,
                                 term_raw(control.to), term_raw(control.from),
                                 term_raw(control.reference));
        term_put_atom(&peer->out, "normal");
        send_frame(peer, begin);
        turn_for(20);
    }
    assert_int_equal(seen.downs, 1);
    peer_close(&watched);
    peer_close(&liar);
}

/* Both dial at once. The node's own call has sent its name to `name`, which
 * does not answer; then that node calls. Returns the status it is given. */
static void call_while_dialled(const char *name, const char *node_name,
                               char status[32])
{
    struct sockaddr_in address;
    socklen_t size = sizeof(address);
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct test_peer peer;

    uv_ip4_addr("127.0.0.1", 0, &address);
    assert_int_equal(
        bind(listening, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listening, 4), 0);
    getsockname(listening, (struct sockaddr *)&address, &size);
    epmd.listed = name;
    epmd.listed_port = ntohs(address.sin_port);
    options.peers = &node_name;
    options.peer_count = 1;
    start_ready();
    turn_for(50);
    peer_dial(&peer, node_name, "router");
    handshake_dial(&peer.handshake, &peer.side, 4711,
                   slice_of("router@127.0.0.1"), &peer.out);
    peer_write(&peer);
    turn_for(50);
    peer_read(&peer);
    assert_in_range(peer.in.size, 3, 4096);
    snprintf(status, 32, "%.*s", peer.in.data[1], peer.in.data + 2);
    peer_close(&peer);
    close(listening);
}

static void of_two_calls_at_once_that_of_the_greater_name_wins(void **state)
{
    char status[32];

    (void)state;
    call_while_dialled("a", "a@127.0.0.1", status);
    assert_string_equal(status, "snok");
    teardown(state);
    setup(state);
    call_while_dialled("z", "z@127.0.0.1", status);
    assert_string_equal(status, "sok_simultaneous");
}

static struct node *other;

CONDITION(other_is_ready, node_service_pid(other).size > 0)

static void start_other(void)
{
    static struct node_options other_options;

    other_options = options;
    other_options.name = "other@127.0.0.1";
    other = node_new(&loop, &other_options, &EVENTS, NULL);
    node_start(other, 200);
    turn_until(other_is_ready);
}

static void a_message_to_a_node_that_is_not_connected_dials_it(void **state)
{
    static const struct slice hello = SLICE_LITERAL("w\5hello");
    uint64_t watch;

    (void)state;
    start_ready();
    start_other();
    assert_true(
        node_send(node, node_service_pid(other), hello, slice_of(NULL)));
    assert_true(
        node_send(node, node_service_pid(other), hello, slice_of(NULL)));
    turn_until(is_messaged);
    turn_for(20);
    assert_int_equal(seen.messages, 2);
    assert_int_equal(seen.peers_up, 2);
    assert_true(term_is_atom(term_from_raw(buf_slice(&seen.text)), "hello"));
    watch = node_monitor(node, node_service_pid(other));
    turn_for(20);
    assert_int_equal(seen.downs, 0);
    node_free(other);
    turn_until(is_watch_down);
    assert_int_equal(seen.down, watch);
    turn_until(is_peer_down);
}

/* A binary of 30,000 bytes. */
static void send_zeros(struct test_peer *peer)
{
    static char binary[5 + 30000] = "m\0\0\x75\x30";

    assert_true(node_send(node, own_pid(peer),
                          slice_make(binary, sizeof(binary)), slice_of(NULL)));
}

/* Messages to the peer, which does not read, until so much waits. */
static void fill_queue(struct test_peer *peer, uint64_t connection, size_t size)
{
    while (node_backlog(node, connection) < size) {
        send_zeros(peer);
        uv_run(&loop.uv, UV_RUN_NOWAIT);
    }
}

static bool is_drained_by_reading(void)
{
    while (peer_read(waiting_peer))
        buf_clear(&waiting_peer->in);
    return is_drained();
}

static void expect_drained(struct test_peer *peer, uint64_t connection)
{
    fill_queue(peer, connection, options.backlog_high_bytes * 3 / 4);
    turn_for(20);
    assert_true(node_backlog(node, connection) <= options.backlog_high_bytes);
    assert_int_equal(seen.drained, 0);
    do { /* the kernel may take more for a while */
        fill_queue(peer, connection, options.backlog_high_bytes + 1);
        seen.drained = 0;
        turn_for(20);
    } while (node_backlog(node, connection) <= options.backlog_high_bytes);
    assert_int_equal(seen.drained, 0);
    waiting_peer = peer;
    turn_until(is_drained_by_reading);
    turn_for(20);
    assert_int_equal(seen.drained, 1);
    assert_int_equal(seen.connection, connection);
    assert_in_range(seen.backlog_when_drained, 0,
                    options.backlog_high_bytes / 4);
    seen.drained = 0;
}

static void a_peer_that_reads_again_is_drained(void **state)
{
    struct test_peer peer;
    uint64_t connection;

    (void)state;
    options.backlog_high_bytes = 1 << 20;
    start_ready();
    assert_int_equal(node_connection_of(node, node_service_pid(node)), 0);
    peer_connect(&peer, "a@127.0.0.1", "router");
    turn_until(is_peer_up);
    connection = node_connection_of(node, own_pid(&peer));
    assert_int_equal(connection, seen.connection);
    assert_int_equal(node_backlog(node, connection), 0);
    expect_drained(&peer, connection);
    expect_drained(&peer, connection);
    /* The one that goes down first is not. */
    fill_queue(&peer, connection, options.backlog_high_bytes + 1);
    peer_close(&peer);
    turn_until(is_peer_down);
    assert_int_equal(seen.drained, 0);
    assert_int_equal(node_backlog(node, connection), 0);
    assert_int_equal(node_connection_of(node, own_pid(&peer)), 0);
}

static void a_burst_that_the_kernel_takes_is_drained_soon(void **state)
{
    struct test_peer peer;

    (void)state;
    options.backlog_high_bytes = 10000;
    start_ready();
    peer_connect(&peer, "a@127.0.0.1", "router");
    turn_until(is_peer_up);
    send_zeros(&peer);
    assert_true(node_backlog(node, seen.connection) > 10000);
    assert_int_equal(seen.drained, 0); /* not from inside node_send */
    turn_until(is_drained);
    assert_int_equal(seen.drained, 1);
    assert_int_equal(node_backlog(node, seen.connection), 0);
    peer_close(&peer);
}

static void without_a_mark_nothing_is_said_of_a_backlog(void **state)
{
    struct test_peer peer;

    (void)state;
    start_ready();
    peer_connect(&peer, "a@127.0.0.1", "router");
    turn_until(is_peer_up);
    fill_queue(&peer, seen.connection, 4 << 20);
    waiting_peer = &peer;
    while (node_backlog(node, seen.connection) > 0) {
        is_drained_by_reading();
        turn_for(1);
    }
    assert_int_equal(seen.drained, 0);
    peer_close(&peer);
}

static void references_are_new_each_time(void **state)
{
    enum { MANY = 1000 };
    const struct identity self = {slice_of("router@127.0.0.1"), 5};
    const struct term_limits limits = {.max_bytes = 100, .max_depth = 1};
    struct test_peer peer;
    struct control control;
    uint64_t last = 0, number;
    struct error err;
    struct buf out;

    (void)state;
    start_ready();
    peer_connect(&peer, "a@127.0.0.1", "router");
    turn_until(is_peer_up);
    buf_init(&out, 100);
    for (int i = 0; i < MANY; i++) {
        buf_clear(&out);
        if (i % 2 == 0) {
            node_put_reference(node, &out);
        } else {
            node_monitor(node, own_pid(&peer));
            peer_receive(&peer, &control);
            assert_int_equal(control.kind, CONTROL_MONITOR);
            buf_append_slice(&out, term_raw(control.reference));
        }
        assert_true(term_check(buf_slice(&out), &limits, &err));
        number = reference_number(&self, term_from_raw(buf_slice(&out)));
        assert_true(number > last);
        last = number;
    }
    buf_release(&out);
    peer_close(&peer);
}

static void a_message_that_cannot_arrive_is_dropped(void **state)
{
    static const struct slice hello = SLICE_LITERAL("w\5hello");
    struct buf pid;

    (void)state;
    start_ready();
    buf_init(&pid, SIZE_MAX);
    term_put_pid(&pid, slice_of("nobody@127.0.0.1"), 1, 0, 1);
    assert_true(node_send(node, buf_slice(&pid), hello, slice_of(NULL)));
    turn_for(100);
    assert_int_equal(node_stats(node).dropped_signals, 1);
    buf_clear(&pid);
    term_put_pid(&pid, slice_of("nowhere"), 1, 0, 1);
    assert_false(node_send(node, buf_slice(&pid), hello, slice_of(NULL)));
    assert_false(
        node_send(node, node_service_pid(node), hello, slice_of(NULL)));
    buf_release(&pid);
}

static void a_peer_to_keep_is_dialled_again(void **state)
{
    static const char *const peers[] = {"other@127.0.0.1"};

    (void)state;
    options.peers = peers;
    options.peer_count = 1;
    start_ready();
    turn_for(300); /* it is not there yet */
    options.peer_count = 0;
    start_other();
    turn_until(is_peer_up);
    node_free(other);
    turn_until(is_peer_down);
    seen.peers_up = 0;
    start_other();
    turn_until(is_peer_up);
    node_free(other);
    turn_for(20);
}

/* The global name: a visible peer, which is asked by calls to its rex. */

static void connect_visible(struct test_peer *peer)
{
    peer_dial(peer, "v@127.0.0.1", "router");
    handshake_dial(&peer->handshake, &peer->side, 4711,
                   slice_of("router@127.0.0.1"), &peer->out);
    peer->out.data[10] |= HANDSHAKE_FLAG_PUBLISHED;
    peer_write(peer);
    waiting_peer = peer;
    turn_until(peer_shook_hands);
}

/* {call, Module, Function, [Name, Pid, ...], user} from {Pid, Ref} */
struct question {
    struct term from, module, function, name, pid;
};

static void receive_any_question(struct test_peer *peer,
                                 struct question *question)
{
    struct control control;
    struct term element, request;
    struct term_list arguments;

    peer_receive(peer, &control);
    assert_int_equal(control.kind, CONTROL_SEND_NAME);
    assert_true(term_is_atom(control.to, "rex"));
    assert_true(term_tuple_of(term_from_raw(control.payload), 3, &element));
    assert_true(term_is_atom(element, "$gen_call"));
    question->from = term_next(element);
    assert_true(term_tuple_of(term_next(question->from), 5, &request));
    request = term_next(request);
    question->module = request;
    question->function = term_next(request);
    assert_true(term_list(term_next(question->function), &arguments));
    question->name = question->pid = question->module;
    term_list_next(&arguments, &question->name);
    term_list_next(&arguments, &question->pid);
}

static void answer_question(struct test_peer *peer,
                            const struct question *question, const char *atom,
                            struct slice pid)
{
    size_t begin = frame_begin(&peer->out, FRAME_HEADED);
    struct term to;

    assert_true(term_tuple_of(question->from, 2, &to));
    control_put_send(&peer->out, term_raw(to));
    term_put_tuple(&peer->out, 2);
    term_put_raw(&peer->out, term_raw(term_next(to)));
    if (atom)
        term_put_atom(&peer->out, atom);
    else
        term_put_raw(&peer->out, pid);
    send_frame(peer, begin);
}

/* It is asked for its nodes too: there are none. */
static void receive_question(struct test_peer *peer, struct question *question)
{
    static const struct slice none = SLICE_LITERAL("j");

    receive_any_question(peer, question);
    while (term_is_atom(question->module, "erlang")) {
        answer_question(peer, question, NULL, none);
        receive_any_question(peer, question);
    }
    assert_true(term_is_atom(question->module, "global"));
}

/* Expects Function for the first name; the second means a stranger here. */
static void answer_global(struct test_peer *peer, const char *function,
                          const char *atom, struct slice pid)
{
    struct question question;

    receive_question(peer, &question);
    while (term_kind(question.name) == TERM_TUPLE) {
        answer_question(peer, &question, NULL, own_pid(peer));
        receive_question(peer, &question);
    }
    assert_true(term_is_atom(question.function, function));
    answer_question(peer, &question, atom, pid);
}

/* {llm_router, 'router@127.0.0.1'} for a pid that has no name yet, which is
 * the service all the same. */
static void the_service_has_a_second_name_and_pid(void **state)
{
    struct test_peer peer;
    struct question question;
    struct term element;
    struct slice name;
    size_t begin;

    (void)state;
    start_ready();
    connect_visible(&peer);
    do {
        receive_question(&peer, &question);
        answer_question(&peer, &question, "undefined", slice_of(NULL));
    } while (!term_is_atom(question.function, "register_name") ||
             term_kind(question.name) != TERM_TUPLE);
    assert_true(term_tuple_of(question.name, 2, &element));
    assert_true(term_is_atom(element, "llm_router"));
    assert_true(term_atom(term_next(element), &name));
    assert_slice(name, "router@127.0.0.1");
    assert_false(is_reference(question.pid, node_service_pid(node)));
    begin = frame_begin(&peer.out, FRAME_HEADED);
    control_put_send(&peer.out, term_raw(question.pid));
    term_put_atom(&peer.out, "hello");
    send_frame(&peer, begin);
    turn_until(is_messaged);
    peer_close(&peer);
}

static void a_name_that_means_nobody_is_registered_and_given_up(void **state)
{
    static const struct slice none = {NULL, 0};
    struct test_peer peer;

    (void)state;
    start_ready();
    connect_visible(&peer);
    answer_global(&peer, "whereis_name", "undefined", none);
    answer_global(&peer, "register_name", "yes", none);
    turn_until(holds_name);
    node_release_name(node, 2000, on_done, NULL);
    answer_global(&peer, "whereis_name", NULL, node_service_pid(node));
    assert_int_equal(seen.done, 0);
    answer_global(&peer, "unregister_name", "ok", none);
    turn_until(is_done);
    assert_true(lost_name());
    peer_close(&peer);
}

static bool is_asked_for_a_node(void)
{
    for (int i = 0; i < EPMD_CLIENTS; i++) {
        const struct epmd_client *client = &epmd.clients[i];

        if (strcmp((const char *)client->request + 3, "stranger") == 0)
            return true;
    }
    return false;
}

static void a_node_that_a_visible_peer_sees_is_dialled(void **state)
{
    struct test_peer peer;
    struct question question;
    struct buf nodes;

    (void)state;
    start_ready();
    connect_visible(&peer);
    do {
        receive_any_question(&peer, &question);
    } while (!term_is_atom(question.module, "erlang"));
    assert_true(term_is_atom(question.function, "nodes"));
    buf_init(&nodes, 1024);
    term_put_list(&nodes, 2);
    term_put_atom(&nodes, "not a node name");
    term_put_atom(&nodes, "stranger@127.0.0.1");
    term_put_nil(&nodes);
    answer_question(&peer, &question, NULL, buf_slice(&nodes));
    buf_release(&nodes);
    turn_until(is_asked_for_a_node);
    peer_close(&peer);
}

static void a_name_that_another_holds_is_not_fought(void **state)
{
    static const struct slice none = {NULL, 0};
    struct test_peer peer;

    (void)state;
    start_ready();
    connect_visible(&peer);
    answer_global(&peer, "whereis_name", NULL, own_pid(&peer));
    answer_global(&peer, "whereis_name", NULL, own_pid(&peer));
    assert_true(lost_name());
    answer_global(&peer, "whereis_name", "undefined", none);
    answer_global(&peer, "register_name", "no", none);
    answer_global(&peer, "whereis_name", NULL, node_service_pid(node));
    turn_until(holds_name);
    peer_close(&peer);
}

/* A kill of the service may be global's, or a stray one: it is asked. */
static void a_kill_takes_nothing_away_but_makes_ask(void **state)
{
    struct test_peer peer;

    (void)state;
    start_ready();
    connect_visible(&peer);
    answer_global(&peer, "whereis_name", NULL, node_service_pid(node));
    turn_until(holds_name);
    send_exit(&peer, node_service_pid(node), "kill");
    answer_global(&peer, "whereis_name", NULL, own_pid(&peer));
    turn_until(lost_name);
    peer_close(&peer);
}

static bool loser_told;

/* global:resolve_it(Method, Name, Pid, OurPid): did we keep the name? */
static bool wins(struct test_peer *peer, const char *name, const char *rival,
                 uint32_t creation)
{
    static uint64_t number = 1000;
    struct control control;
    struct buf arguments;
    struct term kept;
    bool ours;

    buf_init(&arguments, SIZE_MAX);
    term_put_atom(&arguments, "method");
    term_put_atom(&arguments, name);
    term_put_pid(&arguments, slice_of(rival), 1, 0, creation);
    term_put_raw(&arguments, node_service_pid(node));
    spawn(peer, number++, "global", "resolve_it", 4, &arguments);
    buf_release(&arguments);
    peer_receive(peer, &control);
    assert_int_equal(peer_operation(peer), 31);
    peer_receive(peer, &control);
    loser_told = control.kind == CONTROL_SEND;
    if (loser_told) {
        assert_true(term_tuple_of(term_from_raw(control.payload), 2, &kept));
        assert_true(term_is_atom(kept, "global_name_conflict"));
        peer_receive(peer, &control);
    }
    assert_true(term_tuple_of(term_from_raw(control.payload), 3, &kept));
    ours = is_reference(term_next(term_next(kept)), node_service_pid(node));
    return ours;
}

static void a_conflict_is_won_by_the_smaller_node_name(void **state)
{
    struct test_peer peer;

    (void)state;
    start_ready();
    peer_connect(&peer, "z@127.0.0.1", "router");
    assert_true(wins(&peer, "llm_router", "z@127.0.0.1", 77));
    assert_true(loser_told);
    assert_true(wins(&peer, "llm_router", "router@127.0.0.10", 1));
    assert_true(wins(&peer, "llm_router", "router@127.0.0.1", 4)); /* old us */
    assert_false(wins(&peer, "llm_router", "a@127.0.0.1", 1));
    assert_false(wins(&peer, "another_name", "z@127.0.0.1", 77));
    peer_close(&peer);
}

static void giving_up_a_name_nobody_answers_for_has_a_limit(void **state)
{
    struct test_peer peer;

    (void)state;
    start_ready();
    connect_visible(&peer);
    answer_global(&peer, "whereis_name", NULL, node_service_pid(node));
    turn_until(holds_name);
    node_release_name(node, 100, on_done, NULL);
    turn_until(is_done);
    peer_close(&peer);
}

/* Handing the first name over: what the peer is asked then, in a row. */

static const struct slice OTHER = SLICE_LITERAL("other@127.0.0.1");
static struct buf other_pid = {.max = SIZE_MAX};

static struct slice pid_of_other(uint32_t number)
{
    buf_clear(&other_pid);
    term_put_pid(&other_pid, OTHER, number, 0, 5);
    return buf_slice(&other_pid);
}

/* Without those for nodes, and for the second name, which come now and then. */
static void receive_handover_question(struct test_peer *peer,
                                      struct question *question)
{
    static const struct slice none = SLICE_LITERAL("j");
    struct term element;
    struct slice name;

    for (;;) {
        receive_any_question(peer, question);
        if (term_is_atom(question->module, "erlang"))
            answer_question(peer, question, NULL, none);
        else if (term_tuple_of(question->name, 2, &element) &&
                 term_atom(term_next(element), &name) &&
                 slice_equal(name, slice_of(options.name)))
            answer_question(peer, question, NULL, own_pid(peer));
        else
            return;
    }
}

static bool is_well(struct term answer)
{
    return term_is_atom(answer, "well");
}

static void hand_over(uint64_t timeout_ms)
{
    static const struct node_handover how = {.question = {"w\3how", 5},
                                             .is_well = is_well};

    node_hand_over_name(node, &how, timeout_ms, on_done, NULL);
}

/* The name is ours there, and the handover has begun. */
static void connect_handing_over(struct test_peer *peer, uint64_t timeout_ms)
{
    connect_visible(peer);
    answer_global(peer, "whereis_name", NULL, node_service_pid(node));
    turn_until(holds_name);
    hand_over(timeout_ms);
    answer_global(peer, "whereis_name", NULL, node_service_pid(node));
}

/* [some_name, {llm_router, Us}, {llm_router, Other}, ...], so many others */
static void answer_names(struct test_peer *peer, size_t others)
{
    const struct slice self = SLICE_LITERAL("router@127.0.0.1");
    struct question question;
    struct buf names;

    receive_handover_question(peer, &question);
    assert_true(term_is_atom(question.function, "registered_names"));
    buf_init(&names, 1024);
    term_put_list(&names, 2 + others);
    term_put_atom(&names, "some_name");
    for (size_t i = 0; i <= others; i++) {
        term_put_tuple(&names, 2);
        term_put_atom(&names, "llm_router");
        term_put_atom_slice(&names, i == 0 ? self : OTHER);
    }
    term_put_nil(&names);
    answer_question(peer, &question, NULL, buf_slice(&names));
    buf_release(&names);
}

static void answer_other(struct test_peer *peer, uint32_t number)
{
    struct question question;
    struct term element;
    struct slice name;

    receive_handover_question(peer, &question);
    assert_true(term_is_atom(question.function, "whereis_name"));
    assert_true(term_tuple_of(question.name, 2, &element));
    assert_true(term_atom(term_next(element), &name));
    assert_slice(name, "other@127.0.0.1");
    answer_question(peer, &question, NULL, pid_of_other(number));
}

/* gen_server:call(Pid, how, _) */
static void answer_how(struct test_peer *peer, const char *atom)
{
    struct question question;

    receive_handover_question(peer, &question);
    assert_true(term_is_atom(question.module, "gen_server"));
    assert_true(is_reference(question.name, pid_of_other(1)));
    assert_true(term_is_atom(question.pid, "how"));
    answer_question(peer, &question, atom, slice_of(NULL));
}

static void receive_registration(struct test_peer *peer,
                                 struct question *question)
{
    receive_handover_question(peer, question);
    assert_true(term_is_atom(question->function, "re_register_name"));
    assert_true(term_is_atom(question->name, "llm_router"));
    assert_true(is_reference(question->pid, pid_of_other(1)));
}

static void answer_registration(struct test_peer *peer)
{
    struct question question;

    receive_registration(peer, &question);
    answer_question(peer, &question, "yes", slice_of(NULL));
}

static void a_name_is_handed_over_to_a_router_that_is_well(void **state)
{
    struct test_peer peer;
    uint64_t given;

    (void)state;
    start_ready();
    connect_handing_over(&peer, 10000);
    answer_names(&peer, 1);
    answer_other(&peer, 3);
    answer_how(&peer, "well");
    answer_registration(&peer);
    answer_how(&peer, "well");
    answer_global(&peer, "whereis_name", NULL, pid_of_other(1));
    turn_until(lost_name);
    given = uv_hrtime();
    turn_until(is_done);
    assert_true(uv_hrtime() - given > UINT64_C(1000000000));
    peer_close(&peer);
}

/* The first is no router of this kind, the second not well, the third no
 * longer so when the name is his; there is no fourth. */
static void who_cannot_take_a_name_is_passed_over(void **state)
{
    struct test_peer peer;
    uint64_t begun;

    (void)state;
    start_ready();
    begun = uv_hrtime();
    connect_handing_over(&peer, 10000);
    answer_names(&peer, 3);
    answer_other(&peer, 9);
    answer_other(&peer, 3);
    answer_how(&peer, "ill");
    answer_other(&peer, 3);
    answer_how(&peer, "well");
    answer_registration(&peer);
    answer_how(&peer, "ill");
    turn_until(is_done);
    assert_true(uv_hrtime() - begun < UINT64_C(1000000000));
    peer_close(&peer);
}

static void who_does_not_answer_is_passed_over(void **state)
{
    struct test_peer peer;
    struct question question;

    (void)state;
    start_ready();
    connect_handing_over(&peer, 10000);
    answer_names(&peer, 2);
    receive_handover_question(&peer, &question);
    answer_other(&peer, 3);
    receive_handover_question(&peer, &question);
    turn_until(is_done);
    peer_close(&peer);
}

static void without_another_router_a_handover_is_done_at_once(void **state)
{
    struct test_peer peer;
    uint64_t begun;

    (void)state;
    start_ready();
    begun = uv_hrtime();
    connect_handing_over(&peer, 10000);
    answer_names(&peer, 0);
    turn_until(is_done);
    assert_true(uv_hrtime() - begun < UINT64_C(1000000000));
    peer_close(&peer);
}

/* Who has it may be handing it over to us. */
static void who_does_not_have_the_name_waits_for_it_too(void **state)
{
    struct test_peer peer;
    uint64_t begun;

    (void)state;
    start_ready();
    connect_visible(&peer);
    answer_global(&peer, "whereis_name", NULL, own_pid(&peer));
    begun = uv_hrtime();
    hand_over(10000);
    answer_global(&peer, "whereis_name", NULL, own_pid(&peer));
    turn_until(is_done);
    assert_true(uv_hrtime() - begun > UINT64_C(1000000000));
    peer_close(&peer);
}

/* When the lock of the cluster is held the registration comes later, and what
 * it registers is not to be taken away then. */
static void a_registration_that_takes_long_is_left_alone(void **state)
{
    struct test_peer peer;
    struct question question;
    uint64_t begun = uv_hrtime();

    (void)state;
    start_ready();
    connect_handing_over(&peer, 100);
    answer_names(&peer, 1);
    answer_other(&peer, 3);
    answer_how(&peer, "well");
    receive_registration(&peer, &question);
    turn_until(is_done);
    seen.done = 0;
    node_release_name(node, 10000, on_done, NULL);
    turn_until(is_done);
    assert_true(uv_hrtime() - begun < UINT64_C(5000000000));
    peer_close(&peer);
}

static void a_handover_ends_with_the_peer_that_is_asked(void **state)
{
    struct test_peer peer;

    (void)state;
    start_ready();
    connect_handing_over(&peer, 10000);
    answer_names(&peer, 1);
    answer_other(&peer, 3);
    peer_close(&peer);
    turn_until(is_done);
}

/* Not even where it means nobody. */
static void a_name_that_is_handed_over_is_not_registered_again(void **state)
{
    struct test_peer peer;
    struct question question;

    (void)state;
    start_ready();
    hand_over(10000);
    turn_until(is_done);
    connect_visible(&peer);
    for (int i = 0; i < 4; i++) {
        receive_question(&peer, &question);
        assert_true(term_is_atom(question.function, "whereis_name"));
        answer_question(&peer, &question, "undefined", slice_of(NULL));
    }
    peer_close(&peer);
}

static void a_node_is_freed_during_a_handover(void **state)
{
    struct test_peer peer;

    (void)state;
    start_ready();
    connect_handing_over(&peer, 10000);
    answer_names(&peer, 1);
    node_free(node);
    node = NULL;
    await_close(&peer);
    turn_for(50);
    assert_int_equal(seen.done, 0);
    peer_close(&peer);
}

static void closing_sends_what_is_queued_and_leaves_epmd(void **state)
{
    static const struct slice hello = SLICE_LITERAL("w\5hello");
    struct test_peer peer;
    struct control control;

    (void)state;
    start_ready();
    peer_connect(&peer, "a@127.0.0.1", "router");
    turn_until(is_peer_up);
    assert_true(node_send(node, own_pid(&peer), hello, slice_of(NULL)));
    node_close(node, 1000, on_done, NULL);
    turn_until(is_done);
    peer_receive(&peer, &control);
    assert_atom_reason(&control, "hello");
    await_close(&peer);
    assert_int_equal(epmd_port_of("router"), 0);
    peer_close(&peer);
}

static void closing_before_the_start_is_done_works(void **state)
{
    (void)state;
    start();
    node_close(node, 1000, on_done, NULL);
    turn_until(is_done);
    assert_int_equal(seen.ready, 0);
}

static int release_terms(void **state)
{
    (void)state;
    buf_release(&self_pid);
    buf_release(&reference);
    buf_release(&other_pid);
    return 0;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_node_registers_with_epmd_as_hidden_and_is_ready),
        TEST(a_name_that_becomes_free_is_taken),
        TEST(a_taken_name_fails_after_two_seconds),
        TEST(without_epmd_the_node_fails_after_its_patience),
        TEST(a_node_registers_again_when_epmd_comes_back),
        TEST(a_name_that_is_no_node_name_fails),
        TEST(a_peer_with_the_cookie_is_let_in),
        TEST(a_second_connection_replaces_the_first),
        TEST(the_oldest_of_too_many_handshakes_goes),
        TEST(a_handshake_has_a_deadline),
        TEST(garbage_instead_of_a_handshake_closes),
        TEST(a_malformed_frame_closes_that_peer_only),
        TEST(a_silent_peer_is_closed_and_an_idle_one_gets_ticks),
        TEST(a_tick_is_answered),
        TEST(
            a_peer_that_does_not_read_is_closed_when_small_messages_fill_its_queue),
        TEST(a_ping_is_answered_yes),
        TEST(a_monitor_on_nobody_is_down_at_once),
        TEST(a_monitor_on_the_service_is_known_until_it_is_taken_away),
        TEST(when_a_peer_goes_all_it_waited_for_goes_first),
        TEST(links_to_nobody_break_and_unlinks_are_acknowledged),
        TEST(a_message_to_the_service_reaches_it),
        TEST(messages_to_nobody_are_dropped),
        TEST(a_call_too_deep_is_refused_with_whom_to_tell),
        TEST(a_refused_message_that_is_no_call_has_nobody_to_tell),
        TEST(a_call_returns_as_the_reason_of_its_process),
        TEST(an_unknown_function_is_undef_with_its_arguments),
        TEST(an_error_that_comes_later_names_the_arity),
        TEST(improper_arguments_are_a_bad_argument),
        TEST(a_call_whose_monitor_goes_is_abandoned),
        TEST(a_call_whose_process_is_killed_is_abandoned),
        TEST(the_service_and_running_calls_are_alive),
        TEST(a_call_of_rex_is_answered_and_abandoned_likewise),
        TEST(a_process_of_a_node_that_is_not_there_is_down_soon),
        TEST(only_the_watched_node_can_say_that_a_process_is_down),
        TEST(of_two_calls_at_once_that_of_the_greater_name_wins),
        TEST(a_message_to_a_node_that_is_not_connected_dials_it),
        TEST(a_peer_that_reads_again_is_drained),
        TEST(a_burst_that_the_kernel_takes_is_drained_soon),
        TEST(without_a_mark_nothing_is_said_of_a_backlog),
        TEST(references_are_new_each_time),
        TEST(a_message_that_cannot_arrive_is_dropped),
        TEST(a_peer_to_keep_is_dialled_again),
        TEST(a_name_that_means_nobody_is_registered_and_given_up),
        TEST(the_service_has_a_second_name_and_pid),
        TEST(a_node_that_a_visible_peer_sees_is_dialled),
        TEST(a_name_that_another_holds_is_not_fought),
        TEST(a_kill_takes_nothing_away_but_makes_ask),
        TEST(a_conflict_is_won_by_the_smaller_node_name),
        TEST(giving_up_a_name_nobody_answers_for_has_a_limit),
        TEST(a_name_is_handed_over_to_a_router_that_is_well),
        TEST(who_cannot_take_a_name_is_passed_over),
        TEST(who_does_not_answer_is_passed_over),
        TEST(without_another_router_a_handover_is_done_at_once),
        TEST(who_does_not_have_the_name_waits_for_it_too),
        TEST(a_registration_that_takes_long_is_left_alone),
        TEST(a_handover_ends_with_the_peer_that_is_asked),
        TEST(a_name_that_is_handed_over_is_not_registered_again),
        TEST(a_node_is_freed_during_a_handover),
        TEST(closing_sends_what_is_queued_and_leaves_epmd),
        TEST(closing_before_the_start_is_done_works),
    };

    return cmocka_run_group_tests(tests, NULL, release_terms);
}
