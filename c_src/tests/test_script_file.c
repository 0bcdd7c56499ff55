/* Which files are found, which are refused, and when they are read again. */
#include "tests/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "llm_router/script/cache.h"

enum { NAME_SIZE = 256 };

static struct script_cache cache;

static struct {
    char root[64];
    char first_name[NAME_SIZE], second_name[NAME_SIZE];
    struct slice paths[3];
    struct script_folders folders;
    struct script_fault fault;
} disk;

static const char *at(const char *name)
{
    static char path[2 * NAME_SIZE];

    snprintf(path, sizeof(path), "%s/%s", disk.root, name);
    return path;
}

static void write_file(const char *name, const char *text)
{
    int fd = open(at(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void make_folder(const char *name)
{
    assert_int_equal(mkdir(at(name), 0700), 0);
}

/* first/ and second/ are folders of scripts, outside/ is not; missing/ is not
 * there. */
static int set_up(void **state)
{
    (void)state;
    snprintf(disk.root, sizeof(disk.root), "/tmp/test_script_file.XXXXXX");
    assert_non_null(mkdtemp(disk.root));
    make_folder("first");
    make_folder("first/inner");
    make_folder("second");
    make_folder("outside");
    write_file("first/a.lua", "return 'first a'");
    write_file("first/inner/b.lua", "return 'first inner b'");
    write_file("second/a.lua", "return 'second a'");
    write_file("second/c.lua", "return 'second c'");
    write_file("outside/secret.lua", "return 'secret'");
    snprintf(disk.first_name, NAME_SIZE, "%s/first", disk.root);
    snprintf(disk.second_name, NAME_SIZE, "%s/second//", disk.root);
    disk.paths[0] = SLICE_LITERAL("/nonexistent/scripts");
    disk.paths[1] = slice_of(disk.first_name);
    disk.paths[2] = slice_of(disk.second_name);
    disk.folders = (struct script_folders){disk.paths, 3};
    script_cache_init(&cache);
    return 0;
}

static int remove_one(const char *path, const struct stat *status, int kind,
                      struct FTW *walk)
{
    (void)status;
    (void)kind;
    (void)walk;
    return remove(path);
}

static int tear_down(void **state)
{
    (void)state;
    script_cache_release(&cache);
    return nftw(disk.root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void assert_text(struct slice path, const char *expected)
{
    struct script_file file;
    struct buf text;

    if (!script_file_open(&disk.folders, path, &file, &disk.fault))
        fail_msg("%s", disk.fault.message);
    buf_init(&text, SCRIPT_FILE_MAX + 1);
    assert_true(script_file_read(&file, path, &text, &disk.fault));
    assert_slice(buf_slice(&text), expected);
    buf_release(&text);
    script_file_close(&file);
}

static void assert_refused(struct slice path, const char *message)
{
    struct script_file file;

    assert_false(script_file_open(&disk.folders, path, &file, &disk.fault));
    if (!strstr(disk.fault.message, message))
        fail_msg("%s, not %s", disk.fault.message, message);
    assert_null(strstr(disk.fault.message, disk.root));
    assert_int_equal(disk.fault.line, 0);
}

static void the_first_folder_that_has_it_decides(void **state)
{
    (void)state;
    assert_text(SLICE_LITERAL("a.lua"), "return 'first a'");
    assert_text(SLICE_LITERAL("c.lua"), "return 'second c'");
    assert_text(SLICE_LITERAL("inner/b.lua"), "return 'first inner b'");
    assert_text(SLICE_LITERAL("./inner//b.lua"), "return 'first inner b'");
}

static void an_absolute_path_must_be_below_a_folder(void **state)
{
    (void)state;
    assert_text(slice_of(at("first/a.lua")), "return 'first a'");
    assert_text(slice_of(at("second/a.lua")), "return 'second a'");
    assert_text(slice_of(at("first//inner/b.lua")), "return 'first inner b'");
    for (int i = 0; i < 2; i++) {
        struct script_file file;

        assert_false(script_file_open(
            &disk.folders,
            slice_of(at(i ? "outside/secret.lua" : "firsta.lua")), &file,
            &disk.fault));
        assert_non_null(strstr(disk.fault.message, "there is no such script"));
    }
    assert_refused(SLICE_LITERAL("/etc/passwd.lua"), "no such script");
}

static void wrong_paths_are_named(void **state)
{
    char longest[SCRIPT_PATH_MAX + 2];

    (void)state;
    memset(longest, 'x', sizeof(longest));
    memcpy(longest + SCRIPT_PATH_MAX - 3, ".lua", 4);
    assert_refused(SLICE_LITERAL(""), "the path of the script is empty");
    assert_refused(SLICE_LITERAL("a\0.lua"), "has a NUL in it");
    assert_refused(slice_make(longest, SCRIPT_PATH_MAX + 1),
                   "longer than 1024 bytes");
    assert_refused(SLICE_LITERAL("../outside/secret.lua"),
                   "../outside/secret.lua: \"..\" is not allowed");
    assert_refused(SLICE_LITERAL("inner/../a.lua"), "\"..\" is not allowed");
    assert_refused(SLICE_LITERAL("a.lua/.."), "\"..\" is not allowed");
    assert_refused(SLICE_LITERAL(".."), "\"..\" is not allowed");
    assert_refused(SLICE_LITERAL("a.txt"),
                   "a.txt: the name of a script ends in .lua");
    assert_refused(SLICE_LITERAL(".lua"), "ends in .lua");
    assert_refused(SLICE_LITERAL("a"), "ends in .lua");
    assert_refused(SLICE_LITERAL("none.lua"),
                   "none.lua: there is no such script");
    assert_refused(SLICE_LITERAL("a.lua/b.lua"), "there is no such script");
    assert_refused(SLICE_LITERAL("/a.lua"), "there is no such script");
}

static void names_with_dots_are_names(void **state)
{
    (void)state;
    write_file("first/..x.lua", "x");
    write_file("first/x..lua", "y");
    assert_text(SLICE_LITERAL("..x.lua"), "x");
    assert_text(SLICE_LITERAL("x..lua"), "y");
}

static void links_below_the_folder(void)
{
    assert_int_equal(symlink("inner/b.lua", at("first/in.lua")), 0);
    assert_int_equal(symlink("../a.lua", at("first/inner/up.lua")), 0);
    assert_text(SLICE_LITERAL("in.lua"), "return 'first inner b'");
    assert_text(SLICE_LITERAL("inner/up.lua"), "return 'first a'");
}

static void links_that_lead_out(void)
{
    char target[4 * NAME_SIZE];

    snprintf(target, sizeof(target), "%s", at("outside/secret.lua"));
    assert_int_equal(symlink(target, at("first/absolute.lua")), 0);
    assert_int_equal(symlink("../outside/secret.lua", at("first/rel.lua")), 0);
    assert_int_equal(symlink("../outside", at("first/folder")), 0);
    assert_int_equal(symlink("/proc/self/root/tmp", at("first/magic")), 0);
    assert_int_equal(symlink("loop.lua", at("first/loop.lua")), 0);
    assert_refused(SLICE_LITERAL("absolute.lua"),
                   "absolute.lua: leads out of the folder of scripts");
    assert_refused(SLICE_LITERAL("rel.lua"), "rel.lua: leads out");
    assert_refused(SLICE_LITERAL("folder/secret.lua"), "leads out");
    assert_refused(SLICE_LITERAL("loop.lua"), "cannot be read");
    snprintf(target, sizeof(target), "magic/%s/outside/secret.lua",
             disk.root + sizeof("/tmp/") - 1);
    assert_refused(slice_of(target), "leads out");
}

static void links_may_not_lead_out(void **state)
{
    (void)state;
    links_below_the_folder();
    links_that_lead_out();
}

/* As where the kernel or a filter of system calls does not know it. */
static void forbid_openat2(unsigned error)
{
    struct sock_filter steps[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {sizeof(steps) / sizeof(*steps), steps};

    assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

static void without_openat2(unsigned error)
{
    int status;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        forbid_openat2(error);
        assert_int_equal(syscall(SYS_openat2, -1, "", NULL, 0), -1);
        assert_true(errno == (int)error || errno == ENOSYS); /* valgrind */
        links_below_the_folder();
        links_that_lead_out();
        assert_text(SLICE_LITERAL("c.lua"), "return 'second c'");
        assert_text(slice_of(at("second/a.lua")), "return 'second a'");
        assert_refused(SLICE_LITERAL("none.lua"), "there is no such script");
        _exit(42);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 42);
}

static void it_is_the_same_where_there_is_no_openat2(void **state)
{
    (void)state;
    without_openat2(ENOSYS);
}

static void it_is_the_same_where_openat2_is_filtered(void **state)
{
    (void)state;
    without_openat2(EPERM);
}

static void only_files_of_a_limited_size_are_read(void **state)
{
    int fd;

    (void)state;
    make_folder("first/folder.lua");
    assert_int_equal(mkfifo(at("first/fifo.lua"), 0600), 0);
    assert_refused(SLICE_LITERAL("folder.lua"), "folder.lua: is not a file");
    assert_refused(SLICE_LITERAL("fifo.lua"), "fifo.lua: is not a file");
    write_file("first/large.lua", "");
    fd = open(at("first/large.lua"), O_WRONLY | O_CLOEXEC);
    assert_int_equal(ftruncate(fd, SCRIPT_FILE_MAX + 1), 0);
    assert_refused(SLICE_LITERAL("large.lua"),
                   "large.lua: is larger than 262144 bytes");
    assert_int_equal(ftruncate(fd, SCRIPT_FILE_MAX), 0);
    close(fd);
}

static void a_file_that_grows_after_it_was_opened_is_refused(void **state)
{
    struct slice path = SLICE_LITERAL("a.lua");
    struct script_file file;
    struct buf text;

    (void)state;
    assert_true(script_file_open(&disk.folders, path, &file, &disk.fault));
    assert_int_equal(truncate(at("first/a.lua"), SCRIPT_FILE_MAX), 0);
    buf_init(&text, SCRIPT_FILE_MAX + 1);
    assert_true(script_file_read(&file, path, &text, &disk.fault));
    assert_int_equal(text.size, SCRIPT_FILE_MAX);
    script_file_close(&file);
    assert_true(script_file_open(&disk.folders, path, &file, &disk.fault));
    assert_int_equal(truncate(at("first/a.lua"), SCRIPT_FILE_MAX + 1), 0);
    buf_clear(&text);
    assert_false(script_file_read(&file, path, &text, &disk.fault));
    assert_string_equal(disk.fault.message,
                        "a.lua: is larger than 262144 bytes");
    script_file_close(&file);
    buf_release(&text);
}

static void without_folders_there_are_no_scripts(void **state)
{
    (void)state;
    disk.folders.count = 0;
    assert_refused(SLICE_LITERAL("a.lua"), "there is no folder of scripts");
}

static bool find(const char *path, struct slice *code)
{
    return script_cache_find(&cache, &disk.folders, slice_of(path),
                             &SCRIPT_DEFAULT_LIMITS, code, &disk.fault);
}

static void assert_runs(const char *path, const char *expected)
{
    struct slice code;
    struct buf out;

    if (!find(path, &code))
        fail_msg("%s", disk.fault.message);
    buf_init(&out, 1 << 20);
    assert_true(
        script_run(code, NULL, &SCRIPT_DEFAULT_LIMITS, &out, &disk.fault));
    buf_append_byte(&out, '\0');
    assert_non_null(strstr(out.data, expected));
    buf_release(&out);
}

static void a_script_is_compiled_once_until_it_changes(void **state)
{
    struct slice code, again;

    (void)state;
    assert_true(find("a.lua", &code));
    assert_true(find(at("first/a.lua"), &again));
    assert_ptr_equal(code.data, again.data);
    assert_runs("a.lua", "first a");
    write_file("first/a.lua", "return 'another'");
    assert_runs("a.lua", "another");
    assert_int_equal(cache.count, 1);
    assert_int_equal(unlink(at("first/a.lua")), 0);
    assert_runs("a.lua", "second a");
}

/* As an editor does, or a tool that keeps the times of a file. */
static void
a_script_of_the_same_size_and_time_is_seen_to_be_another(void **state)
{
    struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};

    (void)state;
    write_file("first/a.lua", "return 'AAA'");
    assert_int_equal(utimensat(AT_FDCWD, at("first/a.lua"), times, 0), 0);
    assert_runs("a.lua", "AAA");
    usleep(20000); /* the clock of files is a coarse one */
    write_file("first/a.lua", "return 'BBB'");
    assert_int_equal(utimensat(AT_FDCWD, at("first/a.lua"), times, 0), 0);
    assert_runs("a.lua", "BBB");
    usleep(20000);
    write_file("first/new", "return 'CCC'");
    assert_int_equal(utimensat(AT_FDCWD, at("first/new"), times, 0), 0);
    {
        char from[2 * NAME_SIZE];

        snprintf(from, sizeof(from), "%s", at("first/new"));
        assert_int_equal(rename(from, at("first/a.lua")), 0);
    }
    assert_runs("a.lua", "CCC");
}

static void a_script_with_an_error_is_not_kept(void **state)
{
    struct slice code;

    (void)state;
    write_file("first/inner/wrong.lua", "\nx = = 1");
    for (int i = 0; i < 2; i++) {
        assert_false(find("inner/wrong.lua", &code));
        assert_string_equal(disk.fault.message, "unexpected symbol near '='");
        assert_int_equal(disk.fault.line, 2);
    }
    assert_int_equal(cache.count, 0);
    write_file("first/inner/wrong.lua", "return 'right'");
    assert_runs("inner/wrong.lua", "right");
}

static void the_cache_is_limited(void **state)
{
    struct slice code;
    char name[64], path[96];

    (void)state;
    for (int i = 0; i < SCRIPT_CACHE_ENTRIES + 10; i++) {
        snprintf(name, sizeof(name), "%d.lua", i);
        snprintf(path, sizeof(path), "first/%s", name);
        write_file(path, "return 'x'");
        assert_true(find(name, &code));
        assert_true(cache.count <= SCRIPT_CACHE_ENTRIES);
    }
    assert_int_equal(cache.count, 10);
    assert_runs("0.lua", "x");
}

static void large_scripts_share_the_room_of_the_cache(void **state)
{
    static char text[SCRIPT_FILE_MAX];
    struct slice code;
    char name[64], path[96];

    (void)state;
    for (size_t i = 0; i + 16 < sizeof(text); i += 4)
        memcpy(text + i, "x=1\n", 4);
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof(name), "%d.lua", i);
        snprintf(path, sizeof(path), "first/%s", name);
        write_file(path, text);
        if (!find(name, &code))
            fail_msg("%s", disk.fault.message);
        assert_true(cache.bytes <= SCRIPT_CACHE_MAX);
    }
    assert_true(cache.count < 40);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_first_folder_that_has_it_decides),
        TEST(an_absolute_path_must_be_below_a_folder),
        TEST(wrong_paths_are_named),
        TEST(names_with_dots_are_names),
        TEST(links_may_not_lead_out),
        TEST(it_is_the_same_where_there_is_no_openat2),
        TEST(it_is_the_same_where_openat2_is_filtered),
        TEST(only_files_of_a_limited_size_are_read),
        TEST(a_file_that_grows_after_it_was_opened_is_refused),
        TEST(without_folders_there_are_no_scripts),
        TEST(a_script_is_compiled_once_until_it_changes),
        TEST(a_script_of_the_same_size_and_time_is_seen_to_be_another),
        TEST(a_script_with_an_error_is_not_kept),
        TEST(the_cache_is_limited),
        TEST(large_scripts_share_the_room_of_the_cache),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
