/* Numbers as JSON text. An embedding is thousands of them, so those of the
 * usual magnitudes are written without printf: exactly, in integers of 128
 * bits. */
#include "llm_router/json/value.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "json/json_internal.h"

enum {
    TEXT_SIZE = 32, /* "-1.7976931348623157e+308" is 24 */
    DIGITS_FEWEST = 15,
    DIGITS_MOST = 17, /* always enough to read back the same */
    FRACTION_BITS = 52,
    EXPONENT_BIAS = 1023,
    PLAIN_ZEROS = 4, /* behind the point; with more of them, an exponent */
};

__extension__ typedef unsigned __int128 wide;

/* mantissa / 2^shift */
struct binary {
    uint64_t mantissa;
    int shift;
};

/* The first of the digits stands for 10^exponent. */
struct decimal {
    uint64_t digits;
    int count;
    int exponent;
};

static uint64_t power_of(uint64_t base, int exponent)
{
    uint64_t power = 1;

    for (; exponent > 0; exponent >>= 1, base *= base)
        if (exponent & 1)
            power *= base;
    return power;
}

/* Of these, 10^n times the value, for all digits that may be wanted, is under
 * 2^117 and still has binary places. */
static const double USUAL_LEAST = 1e-10, USUAL_MOST = 1e14;

static struct binary split(double value)
{
    uint64_t bits, one = UINT64_C(1) << FRACTION_BITS;

    memcpy(&bits, &value, sizeof(bits));
    return (struct binary){
        .mantissa = (bits & (one - 1)) | one,
        .shift = FRACTION_BITS + EXPONENT_BIAS - (int)(bits >> FRACTION_BITS),
    };
}

/* The decimal of so many digits that is nearest. Does it read back as the same
 * double? It does when it is nearer than half the way to the next one, and
 * below a power of two that is half as far. Powers of five are odd: it is never
 * just half the way. */
static bool round_to(struct binary value, struct decimal *decimal)
{
    int places = decimal->count - 1 - decimal->exponent;
    int shift = value.shift - places;
    wide step = power_of(5, places); /* from one double to the next */
    wide scaled = value.mantissa * step;
    uint64_t digits = (uint64_t)(scaled >> shift);
    wide below = scaled - ((wide)digits << shift);
    wide above = ((wide)1 << shift) - below;
    bool up = above < below || (above == below && digits % 2 == 1);
    bool close = !up && value.mantissa == UINT64_C(1) << FRACTION_BITS;

    decimal->digits = digits + up;
    return (up ? above : below) * (close ? 4 : 2) < step;
}

/* The power of ten at or below it. Negative powers are no doubles: the nearest
 * one may count as either, since one digit is enough for it. */
static int exponent_of(double value)
{
    static const double NEXT[] = {
        1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1e0,  1e1,  1e2,
        1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14};
    int steps = 0;

    while (value >= NEXT[steps])
        steps++;
    return steps - 10;
}

/* The shortest that reads back the same. */
static struct decimal shortest(double value)
{
    const struct binary binary = split(value);
    struct decimal decimal = {.count = DIGITS_FEWEST,
                              .exponent = exponent_of(value)};

    while (!round_to(binary, &decimal))
        decimal.count++;
    if (decimal.digits == power_of(10, decimal.count)) {
        decimal.digits /= 10;
        decimal.exponent++;
    }
    while (decimal.digits % 10 == 0) {
        decimal.digits /= 10;
        decimal.count--;
    }
    return decimal;
}

static char *write_digits(char *end, uint64_t number)
{
    do {
        *--end = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    return end;
}

static void put_whole(struct buf *out, uint64_t number)
{
    char text[TEXT_SIZE];
    char *from = write_digits(text + sizeof(text), number);

    buf_append(out, from, (size_t)(text + sizeof(text) - from));
}

/* As printf's %g lays it out. There is a fraction: digits behind the point. */
static void put_decimal(struct buf *out, struct decimal decimal)
{
    char text[TEXT_SIZE];
    const char *digits = write_digits(text + sizeof(text), decimal.digits);
    size_t count = (size_t)decimal.count;
    size_t whole = decimal.exponent < 0 ? 0 : (size_t)decimal.exponent + 1;

    if (decimal.exponent < -PLAIN_ZEROS) {
        buf_append_byte(out, digits[0]);
        if (count > 1)
            buf_append_byte(out, '.');
        buf_append(out, digits + 1, count - 1);
        buf_append_text(out, decimal.exponent > -10 ? "e-0" : "e-");
        put_whole(out, (uint64_t)-decimal.exponent);
        return;
    }
    if (whole == 0)
        buf_append(out, "0.000", (size_t)(1 - decimal.exponent));
    buf_append(out, digits, whole);
    if (whole > 0)
        buf_append_byte(out, '.');
    buf_append(out, digits + whole, count - whole);
}

/* Of any magnitude. */
static void put_unusual(struct buf *out, double value)
{
    char text[TEXT_SIZE];

    for (int digits = DIGITS_FEWEST; digits <= DIGITS_MOST; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    buf_append_text(out, text);
}

void jv_put_number(struct buf *out, double value)
{
    double size = fabs(value);

    if (!isfinite(value)) {
        out->failed = true;
        return;
    }
    if (signbit(value))
        buf_append_byte(out, '-');
    if (size <= 0x1p53 && (double)(uint64_t)size == size)
        put_whole(out, (uint64_t)size);
    else if (size >= USUAL_LEAST && size < USUAL_MOST)
        put_decimal(out, shortest(size));
    else
        put_unusual(out, size);
}

void json_put_integer(struct buf *out, int64_t value)
{
    if (value < 0)
        buf_append_byte(out, '-');
    put_whole(out, value < 0 ? -(uint64_t)value : (uint64_t)value);
}
