#include "tests/unit.h"

#include "llm_router/core/allow.h"

static bool matches(const char *pattern, const char *node)
{
    struct slice patterns[] = {slice_of(pattern)};

    return allow_matches(patterns, 1, slice_of(node));
}

static void a_pattern_matches_the_whole_name(void **state)
{
    static const struct {
        const char *pattern, *node;
        bool expected;
    } rows[] = {
        {"web1@host", "web1@host", true},
        {"web1@host", "web1@hosts", false},
        {"web1@host", "aweb1@host", false},
        {"web1@host", "Web1@host", false},
        {"web1@host", "web2@host", false},
        {"web1", "web1@host", false},
        {"a.b@c", "axb@c", false},
        {"*", "web1@host", true},
        {"*", "a@b", true},
        {"**", "web1@host", true},
        {"web*", "web1@host", true},
        {"web*", "we@host", false},
        {"web*@host", "web@host", true},
        {"web*@host", "web12@host", true},
        {"web*host", "web1@ghost", true}, /* the star takes an @, too */
        {"web*@host", "web1@host2", false},
        {"*@host", "web1@host", true},
        {"*@host", "web1@myhost", false},
        {"*@*.example.com", "a@b.example.com", true},
        {"*@*.example.com", "a@example.com", false},
        {"*.example.com", "a@b.example.com.evil.org", false},
        {"a*b*c", "abc", true},
        {"a*b*c", "a_b_b_c", true},
        {"a*b*c", "acb", false},
        {"a*a", "a", false}, /* two of them */
        {"a*a", "aa", true},
        {"*a*a*", "a@b", false},
        {"*ab*ab", "ab_aab", true},
        {"*ab*ab", "aab", false},
        {"a***b", "ab", true},
        {"a@*", "a@", true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        if (matches(rows[i].pattern, rows[i].node) != rows[i].expected)
            fail_msg("%s and %s", rows[i].pattern, rows[i].node);
}

/* A peer may call itself what no pattern of ours may hold. */
static void a_star_in_a_name_is_no_wildcard(void **state)
{
    (void)state;
    assert_false(matches("web1@host", "*"));
    assert_false(matches("web1@host", "web*@host"));
    assert_true(matches("web*@host", "web*@host"));
}

static void one_of_several_patterns_is_enough(void **state)
{
    const struct slice patterns[] = {SLICE_LITERAL("a@*"),
                                     SLICE_LITERAL("b@*")};

    (void)state;
    assert_true(allow_matches(patterns, 2, slice_of("a@x")));
    assert_true(allow_matches(patterns, 2, slice_of("b@x")));
    assert_false(allow_matches(patterns, 2, slice_of("c@x")));
    assert_false(allow_matches(patterns, 1, slice_of("b@x")));
    assert_false(allow_matches(patterns, 0, slice_of("a@x")));
    assert_false(allow_matches(NULL, 0, slice_of("a@x")));
}

/* The plain definition, exponential in the stars: for short texts only. */
static bool defined(struct slice pattern, struct slice name)
{
    struct slice rest;

    if (pattern.size == 0)
        return name.size == 0;
    rest = slice_make(pattern.data + 1, pattern.size - 1);
    if (pattern.data[0] == '*' && defined(rest, name))
        return true;
    if (name.size == 0 ||
        (pattern.data[0] != '*' && pattern.data[0] != name.data[0]))
        return false;
    return defined(pattern.data[0] == '*' ? pattern : rest,
                   slice_make(name.data + 1, name.size - 1));
}

/* Every text of at most `longest` of the letters, one after the other. */
static bool next_text(char *text, size_t *size, const char *letters,
                      size_t longest)
{
    for (size_t i = 0; i < *size; i++) {
        const char *letter = strchr(letters, text[i]);

        if (letter[1] != '\0') {
            text[i] = letter[1];
            return true;
        }
        text[i] = letters[0];
    }
    if (*size == longest)
        return false;
    text[(*size)++] = letters[0];
    return true;
}

static void every_short_pattern_means_what_it_is_defined_to_mean(void **state)
{
    char pattern[6], name[6];
    size_t pattern_size = 0, name_size;

    (void)state;
    while (next_text(pattern, &pattern_size, "ab*", sizeof(pattern))) {
        const struct slice patterns[] = {slice_make(pattern, pattern_size)};

        name_size = 0;
        while (next_text(name, &name_size, "ab", sizeof(name))) {
            struct slice node = slice_make(name, name_size);

            if (allow_matches(patterns, 1, node) != defined(patterns[0], node))
                fail_msg("%.*s and %.*s", SLICE_ARG(patterns[0]),
                         SLICE_ARG(node));
        }
    }
}

/* With backtracking this would not come to an end. */
static void a_pattern_of_many_stars_takes_no_time(void **state)
{
    char pattern[ALLOW_PATTERN_MAX], name[ALLOW_PATTERN_MAX];
    const struct slice patterns[] = {slice_make(pattern, sizeof(pattern))};

    (void)state;
    memset(name, 'a', sizeof(name));
    for (size_t i = 0; i < sizeof(pattern); i++)
        pattern[i] = i % 2 == 0 ? '*' : 'a';
    assert_true(allow_matches(patterns, 1, slice_make(name, sizeof(name))));
    pattern[sizeof(pattern) - 1] = 'b';
    assert_false(allow_matches(patterns, 1, slice_make(name, sizeof(name))));
}

static void a_pattern_holds_what_node_names_hold(void **state)
{
    static const char *const good[] = {"*",     "web1@host", "W-e_b*@10.0.0.*",
                                       "*@::1", "a@b.c",     "web1"};
    static const char *const bad[] = {
        "",           " ",           "a b@c",         "web?@host",
        "[ab]@host",  "a,b@c",       "a@b\n",         "a/b@c",
        "web1@host;", "'web1@host'", "\xc3\xa4@host", "a@b\x7f"};
    char text[ALLOW_PATTERN_MAX + 1];

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
        if (!allow_pattern_is_valid(slice_of(good[i])))
            fail_msg("%s", good[i]);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        if (allow_pattern_is_valid(slice_of(bad[i])))
            fail_msg("%s", bad[i]);
    assert_false(allow_pattern_is_valid(slice_make("a\0b", 3)));
    memset(text, 'a', sizeof(text));
    assert_true(allow_pattern_is_valid(slice_make(text, ALLOW_PATTERN_MAX)));
    assert_false(allow_pattern_is_valid(slice_make(text, sizeof(text))));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pattern_matches_the_whole_name),
        cmocka_unit_test(a_star_in_a_name_is_no_wildcard),
        cmocka_unit_test(one_of_several_patterns_is_enough),
        cmocka_unit_test(every_short_pattern_means_what_it_is_defined_to_mean),
        cmocka_unit_test(a_pattern_of_many_stars_takes_no_time),
        cmocka_unit_test(a_pattern_holds_what_node_names_hold),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
