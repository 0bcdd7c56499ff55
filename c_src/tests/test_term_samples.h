/* Terms as `term_to_binary` of OTP 25.2.3 writes them on the node
 * sample@localhost, and older forms by hand. For test_term_*.c. */
#ifndef LLM_ROUTER_TESTS_TEST_TERM_SAMPLES_H
#define LLM_ROUTER_TESTS_TEST_TERM_SAMPLES_H

#include "llm_router/base/mem.h"
#include "llm_router/term/reader.h"

struct sample {
    const char *name;
    enum term_kind kind;
    const char *hex;
};

static const struct sample SAMPLES[] = {
    {"0", TERM_INTEGER, "836100"},
    {"255", TERM_INTEGER, "8361ff"},
    {"256", TERM_INTEGER, "836200000100"},
    {"-1", TERM_INTEGER, "8362ffffffff"},
    {"-2147483648", TERM_INTEGER, "836280000000"},
    {"2147483648", TERM_INTEGER, "836e040000000080"},
    {"9223372036854775807", TERM_INTEGER, "836e0800ffffffffffffff7f"},
    {"-9223372036854775808", TERM_INTEGER, "836e08010000000000000080"},
    {"9223372036854775808", TERM_BIG, "836e08000000000000000080"},
    {"-(1 bsl 70)", TERM_BIG, "836e0901000000000000000040"},
    {"1 bsl 1024", TERM_BIG,
     "836e8100000000000000000000000000000000000000000000000000000000"
     "00000000000000000000000000000000000000000000000000000000000000"
     "00000000000000000000000000000000000000000000000000000000000000"
     "00000000000000000000000000000000000000000000000000000000000000"
     "000000000000000001"},
    {"1.5", TERM_FLOAT, "83463ff8000000000000"},
    {"1.5 minor 0", TERM_FLOAT,
     "8363312e3530303030303030303030303030303030303030652b3030000000"
     "0000"},
    {"-1.0e-300 minor 0", TERM_FLOAT,
     "83632d312e3030303030303030303030303030303032353036652d33303000"
     "0000"},
    {"ok", TERM_ATOM, "836400026f6b"},
    {"ok utf8", TERM_ATOM, "8377026f6b"},
    {"'\\xe9' latin1", TERM_ATOM, "83640001e9"},
    {"'\\xe9' utf8", TERM_ATOM, "837702c3a9"},
    {"<<>>", TERM_BINARY, "836d00000000"},
    {"<<\"abc\">>", TERM_BINARY, "836d00000003616263"},
    {"<<1,5:3>>", TERM_BITSTRING, "834d000000020301a0"},
    {"{}", TERM_TUPLE, "836800"},
    {"{ok,1}", TERM_TUPLE, "8368026400026f6b6101"},
    {"[]", TERM_NIL, "836a"},
    {"\"abc\"", TERM_STRING, "836b0003616263"},
    {"[1,256]", TERM_LIST, "836c00000002610162000001006a"},
    {"[a|b]", TERM_LIST, "836c000000016400016164000162"},
    {"[[[]]]", TERM_LIST, "836c000000016c000000016a6a6a"},
    {"#{}", TERM_MAP, "837400000000"},
    {"#{a=>1}", TERM_MAP, "8374000000017701616101"},
    {"self()", TERM_PID,
     "8358771073616d706c65406c6f63616c686f737400000009000000006b02e4"
     "ba"},
    {"self() minor 1", TERM_PID,
     "835864001073616d706c65406c6f63616c686f737400000009000000006b02"
     "e4ba"},
    {"make_ref()", TERM_REFERENCE,
     "835a0003771073616d706c65406c6f63616c686f73746b02e4ba0002d9d24a"
     "300001b17b5119"},
    {"alias", TERM_REFERENCE,
     "835a0003771073616d706c65406c6f63616c686f73746b02e4ba0002d9d54a"
     "310001b17b5119"},
    {"port", TERM_PORT,
     "8359771073616d706c65406c6f63616c686f7374000000006b02e4ba"},
    {"fun with a variable", TERM_FUN,
     "8370000000560101e74a3ffe0161bfb5ce4458b4e740df0000000000000001"
     "77027332610062000f3a5158771073616d706c65406c6f63616c686f737400"
     "000009000000006b02e4ef68027701786c00000001610177017a"},
    {"fun without variables", TERM_FUN,
     "83700000004b01ec0ab24bac6a861342b56a2f3f5ce4d90000000100000000"
     "770673616d706c656101620760559258771073616d706c65406c6f63616c68"
     "6f737400000009000000006b02e4ba"},
    {"fun lists:map/2", TERM_FUN, "837177056c6973747377036d61706102"},
    {"gen_call", TERM_TUPLE,
     "83680377092467656e5f63616c6c680258771073616d706c65406c6f63616c"
     "686f737400000009000000006b02e4ba6c000000017705616c6961735a0003"
     "771073616d706c65406c6f63616c686f73746b02e4ba0002d9f44a300001b1"
     "7b5119770470696e67"},
    {"pid of OTP 22", TERM_PID, "8367770161000000010000000203"},
    {"port of OTP 22", TERM_PORT, "83667701610000000103"},
    {"port of OTP 23", TERM_PORT, "83597701610000000100000003"},
    {"reference of R6", TERM_REFERENCE, "83657301610000000103"},
    {"reference of OTP 22", TERM_REFERENCE,
     "837200036400016103000000010000000200000003"},
    {"small atom, Latin-1", TERM_ATOM, "837301e9"},
    {"atom, UTF-8, long form", TERM_ATOM, "837600026f6b"},
    {"tuple, long form", TERM_TUPLE, "8369000000016a"},
    {"big, long form", TERM_INTEGER, "836f000000010102"},
};

enum { SAMPLE_COUNT = sizeof(SAMPLES) / sizeof(SAMPLES[0]) };

/* The bytes of `hex` in a heap block of just their size, so that a sanitizer
 * sees every read behind them. Free data with mem_free. */
static inline struct slice bytes_of(const char *hex)
{
    static const char DIGITS[] = "0123456789abcdef";
    size_t size = strlen(hex) / 2;
    char *bytes = mem_realloc(NULL, size);

    for (size_t i = 0; i < size; i++)
        bytes[i] = (char)((strchr(DIGITS, hex[2 * i]) - DIGITS) << 4 |
                          (strchr(DIGITS, hex[2 * i + 1]) - DIGITS));
    return slice_make(bytes, size);
}

static inline void bytes_free(struct slice bytes)
{
    mem_free((void *)(uintptr_t)bytes.data);
}

#endif
