#include "web_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 128 };

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static bool is_loopback4(struct in_addr address)
{
    return ntohl(address.s_addr) >> 24 == 127;
}

static bool is_loopback6(const struct in6_addr *address)
{
    return IN6_IS_ADDR_LOOPBACK(address) ||
           (IN6_IS_ADDR_V4MAPPED(address) && address->s6_addr[12] == 127);
}

static bool is_loopback(const union address *address)
{
    return address->any.sa_family == AF_INET
               ? is_loopback4(address->v4.sin_addr)
               : is_loopback6(&address->v6.sin6_addr);
}

/* Without asking anybody. */
static bool find_address(const char *host, uint16_t port,
                         union address *address, socklen_t *size)
{
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
                                   .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    char service[8];

    if (slice_is_nocase(slice_of(host), "localhost"))
        host = "127.0.0.1";
    snprintf(service, sizeof(service), "%u", port);
    if (getaddrinfo(host, service, &hints, &found) != 0)
        return false;
    *size = found->ai_addrlen;
    memcpy(address, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return true;
}

static bool listen_at(int fd, const union address *address, socklen_t size)
{
    int no = 0, yes = 1;

    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) != 0)
        return false;
    /* "::" is both families, whatever the system's default is. */
    if (address->any.sa_family == AF_INET6 &&
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof(no)) != 0)
        return false;
    return bind(fd, &address->any, size) == 0 && listen(fd, BACKLOG) == 0;
}

bool door_open(struct door *door, const char *host, uint16_t port,
               struct error *err)
{
    union address address;
    socklen_t size;
    int reason;

    if (!find_address(host, port, &address, &size))
        return error_set(err, ERR_INVALID_REQUEST,
                         "cannot serve HTTP at %.80s port %u: the host must be "
                         "a numeric address or localhost",
                         host, port);
    door->loopback = is_loopback(&address);
    door->fd = socket(address.any.sa_family,
                      SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (door->fd >= 0 && listen_at(door->fd, &address, size) &&
        getsockname(door->fd, &address.any, &size) == 0) {
        /* The port is at the same place in both families. */
        door->port = ntohs(address.v4.sin_port);
        return true;
    }
    reason = errno;
    if (door->fd >= 0)
        close(door->fd);
    return error_set(err, ERR_UNREACHABLE,
                     "cannot serve HTTP at %.80s port %u: %s", host, port,
                     strerror(reason));
}

/* What is before the port: "[::1]:80" -> "::1", "localhost" -> itself. */
static struct slice host_of(struct slice host)
{
    bool bracketed = host.size > 0 && host.data[0] == '[';
    const char *end;

    if (bracketed)
        host = slice_make(host.data + 1, host.size - 1);
    end = memchr(host.data, bracketed ? ']' : ':', host.size);
    return end ? slice_make(host.data, (size_t)(end - host.data)) : host;
}

bool door_names_loopback(struct slice host)
{
    struct slice name = host_of(host);
    char text[INET6_ADDRSTRLEN];
    struct in_addr v4;
    struct in6_addr v6;

    if (slice_is_nocase(name, "localhost"))
        return true;
    if (name.size == 0 || name.size >= sizeof(text))
        return false;
    memcpy(text, name.data, name.size);
    text[name.size] = '\0';
    return (inet_pton(AF_INET, text, &v4) == 1 && is_loopback4(v4)) ||
           (inet_pton(AF_INET6, text, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6));
}
