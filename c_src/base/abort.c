#include "llm_router/base/abort.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "llm_router/base/log.h"

/* In the middle of a library's abort(), not of anything of ours: what is not
 * for signal handlers may be called. A signal from outside may come in the
 * middle of the log, and has no line. */
static void on_abort(int number, siginfo_t *info, void *context)
{
    int last_error = errno;

    (void)context;
    if (info->si_code == SI_TKILL && info->si_pid == getpid())
        log_event(LOG_ERROR, "abort", "a library gives up",
                  LOG_FIELDS(log_text("reason",
                                      slice_of(strerrordesc_np(last_error)))));
    raise(number);
}

void abort_watch(void)
{
    struct sigaction action = {.sa_sigaction = on_abort,
                               .sa_flags = SA_SIGINFO | (int)SA_RESETHAND};

    sigemptyset(&action.sa_mask);
    sigaction(SIGABRT, &action, NULL);
}

void abort_said(void)
{
    signal(SIGABRT, SIG_DFL);
    abort();
}
