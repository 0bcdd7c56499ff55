#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "config/config_internal.h"
#include "llm_router/config/files.h"

/* As auth.erl: printable ASCII, line ends at the end only, 1 to 255 bytes. */
enum { COOKIE_MAX = 255, MADE_COOKIE_SIZE = 20 };

static bool check_cookie(struct slice cookie, const char *path,
                         struct error *err)
{
    if (cookie.size == 0)
        return error_at(err, ERR_INVALID_REQUEST, path, "the cookie is empty");
    if (cookie.size > COOKIE_MAX)
        return error_at(err, ERR_INVALID_REQUEST, path,
                        "the cookie is longer than %d bytes", COOKIE_MAX);
    for (size_t i = 0; i < cookie.size; i++)
        if (cookie.data[i] < ' ' || cookie.data[i] > '~')
            return error_at(err, ERR_INVALID_REQUEST, path,
                            "bad character in the cookie at byte %zu", i);
    return true;
}

static bool read_cookie(struct config *config, const char *path,
                        struct error *err)
{
    struct slice text;

    if (!file_read(&config->arena, path, 4096, FILE_OWNER_ONLY, &text, err))
        return false;
    while (text.size > 0 && (text.data[text.size - 1] == '\n' ||
                             text.data[text.size - 1] == '\r'))
        text.size--;
    config->cookie = text;
    return check_cookie(text, path, err);
}

/* erl makes a cookie for the user's first node; we are a node too. */
static bool make_cookie(struct config *config, const char *path,
                        struct error *err)
{
    unsigned char chance[MADE_COOKIE_SIZE];
    char cookie[MADE_COOKIE_SIZE];
    int fd;
    bool written;

    if (getrandom(chance, sizeof(chance), 0) != sizeof(chance))
        return error_at(err, ERR_INVALID_REQUEST, path, "no random bytes: %s",
                        strerror(errno));
    for (size_t i = 0; i < sizeof(cookie); i++)
        cookie[i] = (char)('A' + chance[i] % 26);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
    if (fd < 0)
        return error_at(err, ERR_INVALID_REQUEST, path,
                        "cannot make the cookie file: %s", strerror(errno));
    written = write(fd, cookie, sizeof(cookie)) == sizeof(cookie);
    if (close(fd) != 0 || !written)
        return error_at(err, ERR_INVALID_REQUEST, path,
                        "cannot write the cookie file");
    config->cookie =
        arena_copy(&config->arena, slice_make(cookie, sizeof(cookie)));
    return true;
}

const char *config_home_directory(void)
{
    const char *home = getenv("HOME");
    const struct passwd *user;

    if (home && home[0] != '\0')
        return home;
    user = getpwuid(getuid());
    return user ? user->pw_dir : "/";
}

static const char *user_config_path(struct config *config)
{
    const char *base = getenv("XDG_CONFIG_HOME");

    if (base && base[0] != '\0')
        return arena_printf(&config->arena, "%s/erlang/.erlang.cookie", base)
            .data;
    return arena_printf(&config->arena, "%s/.config/erlang/.erlang.cookie",
                        config_home_directory())
        .data;
}

static const char *home_path(struct config *config)
{
    return arena_printf(&config->arena, "%s/.erlang.cookie",
                        config_home_directory())
        .data;
}

bool config_find_cookie(struct config *config, struct error *err)
{
    struct slice variable = config_secret_variable(config, "RELEASE_COOKIE");
    const char *path;

    if (config->handed.cookie.size > 0) {
        config->cookie = config->handed.cookie;
        return check_cookie(config->cookie, "standard input", err);
    }
    if (config->cookie_file)
        return read_cookie(config, config->cookie_file, err);
    if (variable.size > 0) {
        config->cookie = variable;
        return check_cookie(config->cookie, "RELEASE_COOKIE", err);
    }
    path = config_credential(config, "RELEASE_COOKIE");
    if (path)
        return read_cookie(config, path, err);
    path = home_path(config);
    if (!file_exists(path))
        path = user_config_path(config);
    config->cookie = slice_of(NULL);
    return !file_exists(path) || read_cookie(config, path, err);
}

bool config_load_cookie(struct config *config, struct error *err)
{
    return config_find_cookie(config, err) &&
           (config->cookie.size > 0 ||
            make_cookie(config, home_path(config), err));
}
