#include <stdarg.h>
#include <stdio.h>

#include "console/console_internal.h"

static struct figure print(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

static struct figure print(const char *format, ...)
{
    struct figure figure;
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(figure.text, sizeof(figure.text), format, arguments);
    va_end(arguments);
    return figure;
}

struct figure figure_count(double value)
{
    if (value < 0)
        value = 0;
    if (value < 999.5)
        return print("%.0f", value);
    if (value < 999999.5) {
        int whole = (int)(value + 0.5);

        return print("%d,%03d", whole / 1000, whole % 1000);
    }
    if (value < 999.95e6)
        return print("%.1fM", value / 1e6);
    if (value < 999.95e9)
        return print("%.1fG", value / 1e9);
    return print("%.1e", value);
}

struct figure figure_percent(double share)
{
    double percent = share > 0 ? share * 100 : 0;

    if (percent > 0 && percent < 9.95)
        return print("%.1f%%", percent);
    return percent < 999.5 ? print("%.0f%%", percent) : print(">999%%");
}

struct figure figure_ms(double ms)
{
    if (ms > 0 && ms < 9.995)
        return print("%.2f", ms);
    if (ms < 9999999.5)
        return print("%.0f", ms > 0 ? ms : 0.0);
    return print("%.1e", ms);
}

struct figure figure_usd(double usd)
{
    if (usd < 0)
        return print("-");
    if (usd > 0 && usd < 0.00005)
        return print("<$.0001");
    if (usd > 0 && usd < 0.9995)
        return print("$%.4f", usd);
    if (usd < 9999.995)
        return print("$%.2f", usd);
    return usd < 9999999.5 ? print("$%.0f", usd) : print("$%.1e", usd);
}

struct figure figure_bytes(double bytes)
{
    double mebibytes = bytes > 0 ? bytes / (1024 * 1024) : 0;

    if (mebibytes < 9999.95)
        return print("%.1f MiB", mebibytes);
    return mebibytes < 1e9 ? print("%.1f GiB", mebibytes / 1024)
                           : print("%.1e MiB", mebibytes);
}

/* The two largest units that say something. */
struct figure figure_duration(double duration_ms)
{
    double seconds = duration_ms > 0 ? duration_ms / 1000 : 0;
    int whole = seconds < 1e9 ? (int)seconds : 1000000000;

    if (whole < 60)
        return print("%ds", whole);
    if (whole < 3600)
        return print("%dm %02ds", whole / 60, whole % 60);
    if (whole < 86400)
        return print("%dh %02dm", whole / 3600, whole / 60 % 60);
    return print("%dd %02dh", whole / 86400, whole / 3600 % 24);
}
