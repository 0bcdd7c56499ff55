#include "llm_router/base/descriptor.h"

#include <fcntl.h>
#include <stdio.h>

int descriptor_open_again(int fd, int access)
{
    char path[32];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open(path, access | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}
