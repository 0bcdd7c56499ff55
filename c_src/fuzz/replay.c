/* Runs every file of the directories in argv through a fuzz target, for
 * compilers without libFuzzer and for tests. Each input is in a heap block of
 * just its size, so that a sanitizer sees every read behind it. */
#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#include "llm_router/base/mem.h"

enum { PATH_SIZE = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool replay_file(const char *path, size_t size)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data;
    bool whole;

    if (!file)
        return false;
    data = mem_realloc(NULL, size);
    whole = fread(data, 1, size, file) == size;
    fclose(file);
    if (whole)
        LLVMFuzzerTestOneInput(data, size);
    mem_free(data);
    return whole;
}

/* How many files ran; -1 when one could not be read. */
static int replay_directory(const char *name)
{
    DIR *directory = opendir(name);
    struct dirent *entry;
    int count = 0;

    if (!directory)
        return -1;
    while (count >= 0 && (entry = readdir(directory)) != NULL) {
        char path[PATH_SIZE];
        struct stat info;

        snprintf(path, sizeof(path), "%s/%s", name, entry->d_name);
        if (stat(path, &info) != 0)
            count = -1;
        else if (S_ISREG(info.st_mode))
            count = replay_file(path, (size_t)info.st_size) ? count + 1 : -1;
    }
    closedir(directory);
    return count;
}

int main(int argc, char **argv)
{
    int total = 0;

    for (int i = 1; i < argc; i++) {
        int count = replay_directory(argv[i]);

        if (count <= 0) {
            fprintf(stderr, "%s: cannot be read or holds no input\n", argv[i]);
            return 1;
        }
        total += count;
    }
    printf("replayed %d inputs\n", total);
    return total > 0 ? 0 : 1;
}
