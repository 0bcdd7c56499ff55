#include "tests/unit.h"

#include "llm_router/config/listen.h"

static void a_port_alone_is_one_of_this_machine(void **state)
{
    struct listen_address address;

    (void)state;
    assert_null(listen_parse(SLICE_LITERAL("9464"), &address));
    assert_string_equal(address.host, "127.0.0.1");
    assert_int_equal(address.port, 9464);
    assert_null(listen_parse(SLICE_LITERAL("0"), &address));
    assert_int_equal(address.port, 0);
}

static void hosts_are_numeric_or_localhost(void **state)
{
    static const struct {
        const char *text, *host;
        int port;
    } rows[] = {
        {"0.0.0.0:65535", "0.0.0.0", 65535},
        {"localhost:1", "localhost", 1},
        {"[::]:9464", "::", 9464},
        {"[::1]:9464", "::1", 9464},
        {"[fe80:1111:2222:3333:4444:5555:6666:7777]:1",
         "fe80:1111:2222:3333:4444:5555:6666:7777", 1},
    };
    struct listen_address address;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_null(listen_parse(slice_of(rows[i].text), &address));
        assert_string_equal(address.host, rows[i].host);
        assert_int_equal(address.port, rows[i].port);
    }
}

static void everything_else_is_refused(void **state)
{
    static const char *const texts[] = {
        "",
        ":",
        ":1",
        "host:1",
        "65536",
        "-1",
        "1x",
        "::1:9464",
        "[::1]",
        "[::1]:",
        "[]:1",
        "[:1",
        "1.2.3:4",
        "1.2.3.4:",
        "1.2.3.4:-0",
        "[1.2.3.4]:1",
        "[localhost]:1",
        "http://127.0.0.1:80",
        "[1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc]:1",
    };
    struct listen_address address;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_non_null(listen_parse(slice_of(texts[i]), &address));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_port_alone_is_one_of_this_machine),
        cmocka_unit_test(hosts_are_numeric_or_localhost),
        cmocka_unit_test(everything_else_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
