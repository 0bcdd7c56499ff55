#include "llm_router/config/listen.h"

#include <arpa/inet.h>

static const char FORM[] = "must be PORT, HOST:PORT or [HOST]:PORT, HOST a "
                           "numeric address or localhost";

static bool take_port(struct slice text, uint16_t *port)
{
    int64_t number;

    if (text.size == 0 || text.data[0] == '-' ||
        !slice_to_int64(text, &number) || number > UINT16_MAX)
        return false;
    *port = (uint16_t)number;
    return true;
}

/* Names are not looked up: that may take seconds. */
static bool take_host(struct slice text, int family, char *host)
{
    unsigned char address[sizeof(struct in6_addr)];

    if (text.size == 0 || text.size >= LISTEN_HOST_MAX)
        return false;
    memcpy(host, text.data, text.size);
    host[text.size] = '\0';
    return (family == AF_INET && !strcmp(host, "localhost")) ||
           inet_pton(family, host, address) == 1;
}

const char *listen_parse(struct slice text, struct listen_address *address)
{
    const char *colon =
        text.size > 0 ? memrchr(text.data, ':', text.size) : NULL;
    struct slice host, port = text;
    int family = AF_INET;

    *address = (struct listen_address){.host = "127.0.0.1"};
    if (colon) {
        host = slice_make(text.data, (size_t)(colon - text.data));
        port = slice_make(colon + 1, text.size - host.size - 1);
        if (host.size > 2 && host.data[0] == '[' &&
            host.data[host.size - 1] == ']') {
            host = slice_make(host.data + 1, host.size - 2);
            family = AF_INET6;
        }
        if (!take_host(host, family, address->host))
            return FORM;
    }
    return take_port(port, &address->port) ? NULL : FORM;
}
