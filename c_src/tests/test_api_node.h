/* A real node that judges what was written: it decodes the bytes and compares
 * them with an Erlang expression. */
#ifndef LLM_ROUTER_TESTS_TEST_API_NODE_H
#define LLM_ROUTER_TESTS_TEST_API_NODE_H

#include <sys/wait.h>
#include <unistd.h>

#include "test_api_terms.h"
#include "tests/external.h"

/* Answers each line "HEX EXPRESSION" by "same" or what HEX is instead. */
static const char NODE_PROGRAM[] =
    "io:setopts([{encoding, latin1}]),"
    "Value = fun(Text, Bindings) ->"
    "    {ok, Tokens, _} = erl_scan:string(Text),"
    "    {ok, Expressions} = erl_parse:parse_exprs(Tokens),"
    "    {value, V, _} = erl_eval:exprs(Expressions, Bindings), V end,"
    "Decode = fun(Hex) -> binary_to_term(binary:decode_hex(Hex)) end,"
    "Words = [{'PID', Decode(<<\"83" PID_HEX "\">>)},"
    "         {'REF', Decode(<<\"83" REF_HEX "\">>)}],"
    "Verdict = fun(Line) ->"
    "    [Hex, Text] = binary:split(list_to_binary(string:trim(Line)),"
    "                               <<\" \">>),"
    "    Expected = Value(unicode:characters_to_list(<<Text/binary, \".\">>),"
    "                     Words),"
    "    case Decode(Hex) of"
    "        Expected -> \"same\";"
    "        Other -> io_lib:format(\"~0p, not ~0p\", [Other, Expected])"
    "    end end,"
    "Loop = fun Again() -> case io:get_line(\"\") of"
    "    eof -> halt();"
    "    Line -> io:put_chars([try Verdict(Line)"
    "                catch C:R -> io_lib:format(\"~0p\", [{C, R}]) end, 10]),"
    "            Again() end end,"
    "Loop().";

static struct {
    pid_t process;
    FILE *to, *from;
} node;

static inline int start_node(void **state)
{
    int to[2], from[2];

    (void)state;
    if (pipe(to) != 0 || pipe(from) != 0)
        return -1;
    node.process = fork();
    if (node.process == 0) {
        dup2(to[0], STDIN_FILENO);
        dup2(from[1], STDOUT_FILENO);
        close(to[1]);
        close(from[0]);
        execlp("erl", "erl", "-noshell", "-eval", NODE_PROGRAM, (char *)NULL);
        _exit(127);
    }
    close(to[0]);
    close(from[1]);
    node.to = fdopen(to[1], "w");
    node.from = fdopen(from[0], "r");
    return node.process > 0 && node.to && node.from ? 0 : -1;
}

static inline int stop_node(void **state)
{
    int status;

    (void)state;
    fclose(node.to);
    fclose(node.from);
    return waitpid(node.process, &status, 0) == node.process && status == 0
               ? 0
               : -1;
}

/* A real node reads `external` as the value of `expression`. */
static inline void assert_means(struct slice external, const char *expression)
{
    char verdict[4096];
    struct error err;

    if (!external_check(external, &TEST_LIMITS, &err))
        fail_msg("%s", err.message);
    for (size_t i = 0; i < external.size; i++)
        fprintf(node.to, "%02x", (unsigned char)external.data[i]);
    fprintf(node.to, " %s\n", expression);
    fflush(node.to);
    if (!fgets(verdict, sizeof(verdict), node.from))
        fail_msg("no node");
    if (strcmp(verdict, "same\n") != 0)
        fail_msg("%s", verdict);
}

#endif
