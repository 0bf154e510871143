/* SPDX-License-Identifier: Apache-2.0
 *
 * SVIDStore "disk": where files may be, whose they are, and who is told how.
 */
#include "base/file.h"
#include "base/mem.h"
#include "crypto/pem.h"
#include "plugin/svidstore.h"
#include "plugins/agent/svidstore/hook.h"
#include "plugins/agent/svidstore/place.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

extern const struct plugin_builtin plugin_svidstore_disk;

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

struct fixture {
    char top[64], more[80];
    struct plugin_env env;
    void *self;
    const struct svidstore_ops *ops;
    struct cs_slice certs[2];
    struct svidstore_svid svid;
};

static void configure(struct fixture *f, const char *hooks)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    struct cs_err e;
    cs_buf_printf(&text, "directory = \"%s/\"\nmore_directories = [\"%s\"]\n%s", f->top, f->more, hooks);
    if (plugin_svidstore_disk.configure(f->self, cs_buf_slice(&text), &e) != CS_OK)
        fail_msg("%s", e.text);
}

static int set_up(void **state)
{
    struct fixture *f = cs_calloc(1, sizeof *f);
    struct cs_err e;
    (void)snprintf(f->top, sizeof f->top, "/tmp/cs-store-XXXXXX");
    assert_non_null(mkdtemp(f->top));
    (void)snprintf(f->more, sizeof f->more, "%s.more", f->top);
    assert_int_equal(mkdir(f->more, 0755), 0);
    f->env =
        (struct plugin_env){.clock = &cs_clock_system, .trust_domain = "example.org", .data_dir = f->top};
    assert_int_equal(plugin_svidstore_disk.create(&f->env, &f->self, &e), CS_OK);
    f->ops = plugin_svidstore_disk.ops;
    f->certs[0] = cs_slice_str("leaf");
    f->certs[1] = cs_slice_str("root");
    f->svid = (struct svidstore_svid){.spiffe_id = "spiffe://example.org/w",
                                      .chain = &f->certs[0],
                                      .chain_count = 1,
                                      .key = cs_slice_str("key"),
                                      .bundle = &f->certs[1],
                                      .bundle_count = 1,
                                      .expires_at = 1790000000};
    configure(f, "");
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    char command[256];
    (void)snprintf(command, sizeof command, "rm -rf %s %s", f->top, f->more);
    assert_int_equal(system(command), 0);
    plugin_svidstore_disk.destroy(f->self);
    cs_free(f);
    return 0;
}

#define PATHS(dir) "certchainfile:" dir "tls.crt", "keyfile:" dir "tls.key", "bundlefile:" dir "ca.crt"

static void expect_put(struct fixture *f, const char *const *metadata, size_t count, cs_code code,
                       const char *text)
{
    struct cs_err e = {0};
    cs_code rc = f->ops->put(f->self, &f->svid, metadata, count, &e);
    if (rc != code || (code != CS_OK && strstr(e.text, text) == NULL))
        fail_msg("code %d, \"%s\" and not %d, \"%s\"", rc, e.text, code, text);
}
#define PUT(f, ...)                                                                                          \
    expect_put(f, (const char *const[]){__VA_ARGS__}, COUNT(((const char *const[]){__VA_ARGS__})), CS_OK, "")
#define PUT_FAILS(f, code, text, ...)                                                                        \
    expect_put(f, (const char *const[]){__VA_ARGS__}, COUNT(((const char *const[]){__VA_ARGS__})), code, text)

static void remove_all(struct fixture *f, const char *const *metadata, size_t count)
{
    struct cs_err e = {0};
    if (f->ops->remove(f->self, metadata, count, &e) != CS_OK)
        fail_msg("%s", e.text);
}

static bool read_text(const char *dir, const char *name, struct cs_buf *out)
{
    char path[200];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    return cs_file_read(path, 65536, out, NULL) == CS_OK;
}

static void assert_pem(const struct fixture *f, const char *name, const char *type, const char *const *ders)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf have = {0}, want = {0};
    assert_true(read_text(f->top, name, &have));
    for (; *ders != NULL; ders++)
        pem_write(&want, type, cs_slice_str(*ders));
    assert_string_equal(cs_buf_cstr(&have), cs_buf_cstr(&want));
}

static mode_t mode_of(const struct fixture *f, const char *name)
{
    char path[200];
    struct stat st;
    (void)snprintf(path, sizeof path, "%s/%s", f->top, name);
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777;
}

static void files_are_written_and_removed(void **state)
{
    struct fixture *f = *state;
    static const char *const metadata[] = {PATHS("web/")};
    PUT(f, PATHS("web/"));
    assert_pem(f, "web/tls.crt", "CERTIFICATE", (const char *const[]){"leaf", NULL});
    assert_pem(f, "web/tls.key", "PRIVATE KEY", (const char *const[]){"key", NULL});
    assert_pem(f, "web/ca.crt", "CERTIFICATE", (const char *const[]){"root", NULL});
    assert_int_equal(mode_of(f, "web/tls.crt"), 0644);
    assert_int_equal(mode_of(f, "web/tls.key"), 0600);
    assert_int_equal(mode_of(f, "web/ca.crt"), 0644);
    f->svid.key = cs_slice_str("second");
    PUT(f, PATHS("web/"), "keyfilemode:0400", "certfilemode:440");
    assert_pem(f, "web/tls.key", "PRIVATE KEY", (const char *const[]){"second", NULL});
    assert_int_equal(mode_of(f, "web/tls.key"), 0400);
    assert_int_equal(mode_of(f, "web/ca.crt"), 0440);
    remove_all(f, metadata, 3);
    CS_CLEANUP(cs_buf_free) struct cs_buf none = {0};
    assert_false(read_text(f->top, "web/tls.key", &none));
    assert_false(read_text(f->top, "web/..data/tls.key", &none));
    remove_all(f, metadata, 3);
}

static void owners_are_by_name_or_number(void **state)
{
    struct fixture *f = *state;
    char gid[32], path[200];
    struct stat st;
    (void)snprintf(gid, sizeof gid, "gid:%u", (unsigned)getegid());
    PUT(f, PATHS("web/"), gid);
    assert_int_equal(mode_of(f, "web/tls.key"), 0640);
    (void)snprintf(path, sizeof path, "%s/web/tls.key", f->top);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_gid, getegid());
    if (geteuid() == 0) {
        PUT(f, PATHS("web/"), "user:nobody", "group:daemon");
        assert_int_equal(stat(path, &st), 0);
        assert_int_not_equal(st.st_uid, 0);
        assert_int_not_equal(st.st_gid, 0);
    }
    PUT_FAILS(f, CS_NOT_FOUND, "user \"no-such\" is not known", PATHS(""), "user:no-such");
    PUT_FAILS(f, CS_NOT_FOUND, "group \"no-such\" is not known", PATHS(""), "group:no-such");
    PUT_FAILS(f, CS_INVALID, "user and uid exclude each other", PATHS(""), "user:root", "uid:0");
    PUT_FAILS(f, CS_INVALID, "gid \"-1\" is not between", PATHS(""), "gid:-1");
    PUT_FAILS(f, CS_INVALID, "uid \"4294967295\" is not between", PATHS(""), "uid:4294967295");
}

static void federated_roots_are_added_when_asked_for(void **state)
{
    struct fixture *f = *state;
    const struct cs_slice far[] = {cs_slice_str("far1"), cs_slice_str("far2")};
    const struct svidstore_federated fed = {"spiffe://far.test", far, 2};
    f->svid.federated = &fed;
    f->svid.federated_count = 1;
    PUT(f, PATHS(""));
    assert_pem(f, "ca.crt", "CERTIFICATE", (const char *const[]){"root", NULL});
    PUT(f, PATHS(""), "withfederated:true");
    assert_pem(f, "ca.crt", "CERTIFICATE", (const char *const[]){"root", "far1", "far2", NULL});
}

static void selectors_say_what_is_wrong(void **state)
{
    struct fixture *f = *state;
    PUT_FAILS(f, CS_INVALID, "certchainfile is required", "keyfile:k", "bundlefile:b");
    PUT_FAILS(f, CS_INVALID, "bundlefile is required", "certchainfile:c", "keyfile:k", "bundlefile:");
    PUT_FAILS(f, CS_INVALID, "metadata does not contain a colon: \"web\"", PATHS(""), "web");
    PUT_FAILS(f, CS_INVALID, "selector \"mode:600\" is not known", PATHS(""), "mode:600");
    PUT_FAILS(f, CS_INVALID, "keyfile must be in the same folder", "certchainfile:a/c", "keyfile:b/k",
              "bundlefile:a/b");
    PUT_FAILS(f, CS_INVALID, "certchainfile and keyfile have the same name", "certchainfile:c", "keyfile:c",
              "bundlefile:b");
    PUT_FAILS(f, CS_INVALID, "keyfilemode \"0644\" is no octal mode between 0400 and 0660", PATHS(""),
              "keyfilemode:0644");
    PUT_FAILS(f, CS_INVALID, "no octal mode", PATHS(""), "certfilemode:0200");
    PUT_FAILS(f, CS_INVALID, "no octal mode", PATHS(""), "certfilemode:rw-");
    PUT_FAILS(f, CS_INVALID, "no octal mode", PATHS(""), "certfilemode:04755");
    PUT_FAILS(f, CS_INVALID, "withfederated must be", PATHS(""), "withfederated:yes");
    PUT_FAILS(f, CS_INVALID, "hook \"x\" is not configured", PATHS(""), "hook:x");
}

static void nothing_leaves_the_directories(void **state)
{
    static const char *const bad[] = {"../x/", "a/../../x/", "./", "a//b/", "a/./b/", "/etc/"};
    struct fixture *f = *state;
    char text[3][200], path[200];
    for (size_t i = 0; i < COUNT(bad); i++) {
        (void)snprintf(text[0], sizeof text[0], "certchainfile:%sc", bad[i]);
        (void)snprintf(text[1], sizeof text[1], "keyfile:%sk", bad[i]);
        (void)snprintf(text[2], sizeof text[2], "bundlefile:%sb", bad[i]);
        PUT_FAILS(f, CS_INVALID, "certchainfile \"", text[0], text[1], text[2]);
    }
    PUT_FAILS(f, CS_INVALID, "is no path of a file", "certchainfile:..data", "keyfile:k", "bundlefile:b");
    PUT_FAILS(f, CS_INVALID, "is no path of a file", "certchainfile:a/", "keyfile:k", "bundlefile:b");
    PUT_FAILS(f, CS_INVALID, "is no path of a file", "certchainfile:a\nb", "keyfile:k", "bundlefile:b");
    /* beside a directory whose name begins alike */
    (void)snprintf(text[0], sizeof text[0], "certchainfile:%s.moreover/c", f->top);
    PUT_FAILS(f, CS_INVALID, "is in none of the configured directories", text[0], "keyfile:k",
              "bundlefile:b");
    (void)snprintf(path, sizeof path, "%s/out", f->top);
    assert_int_equal(symlink(f->more, path), 0);
    PUT_FAILS(f, CS_PRECONDITION, "is a link or no folder", PATHS("out/"));
    PUT_FAILS(f, CS_PRECONDITION, "is a link or no folder", PATHS("out/deeper/"));
    /* the second directory, by an absolute path */
    (void)snprintf(text[0], sizeof text[0], "certchainfile:%s/db/c", f->more);
    (void)snprintf(text[1], sizeof text[1], "keyfile:%s/db/k", f->more);
    (void)snprintf(text[2], sizeof text[2], "bundlefile:%s/db/b", f->more);
    PUT(f, text[0], text[1], text[2]);
    CS_CLEANUP(cs_buf_free) struct cs_buf key = {0};
    assert_true(read_text(f->more, "db/k", &key));
}

static void a_folder_has_one_svid(void **state)
{
    struct fixture *f = *state;
    static const char *const other[] = {"certchainfile:web/b.crt", "keyfile:web/b.key",
                                        "bundlefile:web/b.ca"};
    PUT(f, PATHS("web/"));
    PUT_FAILS(f, CS_PRECONDITION, "holds another SVID already (tls.crt/tls.key/ca.crt)", other[0], other[1],
              other[2]);
    remove_all(f, other, 3); /* never there: nothing of the one that is goes */
    assert_pem(f, "web/tls.key", "PRIVATE KEY", (const char *const[]){"key", NULL});
    static const char *const first[] = {PATHS("web/")};
    remove_all(f, first, 3);
    PUT(f, other[0], other[1], other[2]);
    assert_pem(f, "web/b.key", "PRIVATE KEY", (const char *const[]){"key", NULL});
}

/* --- Hooks --- */

static void hook_script(struct fixture *f, const char *body, const char *more)
{
    char path[100], text[400];
    struct cs_err e;
    (void)snprintf(path, sizeof path, "%s/hook.sh", f->top);
    (void)snprintf(text, sizeof text, "#!/bin/sh\ncd %s\n%s\n", f->top, body);
    assert_int_equal(cs_file_write_atomic(path, cs_slice_str(text), 0755, &e), CS_OK);
    (void)snprintf(text, sizeof text, "hook \"h\" {\ncommand = [\"%s\", \"a b\"]\n%s\n}\n", path, more);
    configure(f, text);
}

static void assert_text(const struct fixture *f, const char *name, const char *text)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf have = {0};
    assert_true(read_text(f->top, name, &have));
    assert_string_equal(cs_buf_cstr(&have), text);
}

static void a_command_runs_after_each_change(void **state)
{
    struct fixture *f = *state;
    char want[200];
    setenv("SECRET_OF_OURS", "1", 1);
    hook_script(f, "echo \"$1 $SPIFFE_ID $SVID_DIR ${SECRET_OF_OURS-none}\" >> said", "");
    PUT(f, PATHS("web/"), "hook:h");
    (void)snprintf(want, sizeof want, "a b spiffe://example.org/w %s/web none\n", f->top);
    assert_text(f, "said", want);
    PUT(f, PATHS("web/"), "hook:h"); /* nothing new */
    assert_text(f, "said", want);
    f->svid.key = cs_slice_str("second");
    PUT(f, PATHS("web/"), "hook:h");
    (void)snprintf(want, sizeof want, "a b spiffe://example.org/w %s/web none\n%s", f->top,
                   "a b spiffe://example.org/w ");
    CS_CLEANUP(cs_buf_free) struct cs_buf have = {0};
    assert_true(read_text(f->top, "said", &have));
    assert_int_equal(strncmp(cs_buf_cstr(&have), want, strlen(want)), 0);
    /* files that somebody took away are put back */
    char path[200];
    (void)snprintf(path, sizeof path, "%s/web/tls.key", f->top);
    assert_int_equal(unlink(path), 0);
    PUT(f, PATHS("web/"), "hook:h");
    assert_pem(f, "web/tls.key", "PRIVATE KEY", (const char *const[]){"second", NULL});
    unsetenv("SECRET_OF_OURS");
}

static void a_command_that_fails_is_run_again(void **state)
{
    struct fixture *f = *state;
    hook_script(f, "test -e ready && echo ran > said && exit 0\necho 'not \"yet\"' >&2; exit 3", "");
    PUT_FAILS(f, CS_INTERNAL, "hook \"h\": ", PATHS("web/"), "hook:h");
    PUT_FAILS(f, CS_INTERNAL, "hook.sh ended with status 3: \"not \\\"yet\\\"\\n\"", PATHS("web/"), "hook:h");
    assert_pem(f, "web/tls.key", "PRIVATE KEY", (const char *const[]){"key", NULL});
    struct cs_err e;
    char path[100];
    (void)snprintf(path, sizeof path, "%s/ready", f->top);
    assert_int_equal(cs_file_write_atomic(path, cs_slice_str(""), 0600, &e), CS_OK);
    PUT(f, PATHS("web/"), "hook:h");
    assert_text(f, "said", "ran\n");
    configure(f, "hook \"h\" {\ncommand = [\"/no/such\"]\n}");
    f->svid.key = cs_slice_str("second");
    PUT_FAILS(f, CS_INTERNAL, "fork/exec /no/such: no such file or directory", PATHS("web/"), "hook:h");
}

static void a_command_that_hangs_is_killed_with_its_children(void **state)
{
    struct fixture *f = *state;
    hook_script(f, "sleep 1000 & echo $! > child; wait", "timeout = \"300ms\"");
    PUT_FAILS(f, CS_DEADLINE, "did not end in time", PATHS("web/"), "hook:h");
    CS_CLEANUP(cs_buf_free) struct cs_buf child = {0};
    assert_true(read_text(f->top, "child", &child));
    pid_t pid = (pid_t)strtol(cs_buf_cstr(&child), NULL, 10);
    assert_true(pid > 1);
    bool gone = false;
    for (int i = 0; i < 1000 && !gone; i++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf stat = {0};
        char dir[32];
        (void)snprintf(dir, sizeof dir, "/proc/%d", (int)pid);
        /* gone, or waiting for init to reap it */
        gone = !read_text(dir, "stat", &stat) || strstr(cs_buf_cstr(&stat), ") Z ") != NULL;
        (void)usleep(10000);
    }
    assert_true(gone);
}

static void what_a_command_prints_is_bounded(void **state)
{
    struct fixture *f = *state;
    hook_script(f, "yes xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx | head -c 3000000; exit 1", "");
    struct cs_err e = {0};
    static const char *const metadata[] = {PATHS("web/"), "hook:h"};
    assert_int_equal(f->ops->put(f->self, &f->svid, metadata, 4, &e), CS_INTERNAL);
    assert_non_null(strstr(e.text, "ended with status 1: \"xxxx"));
    assert_true(strlen(e.text) < 400);
}

static void pid_file(struct fixture *f, const char *content, mode_t mode)
{
    char path[100], text[200];
    struct cs_err e;
    (void)snprintf(path, sizeof path, "%s/pid", f->top);
    assert_int_equal(cs_file_write_atomic(path, cs_slice_str(content), mode, &e), CS_OK);
    (void)snprintf(text, sizeof text, "hook \"h\" {\npid_file = \"%s\"\nsignal = \"usr1\"\n}", path);
    configure(f, text);
}

static void put_changed(struct fixture *f, cs_code code, const char *text)
{
    static char key[32];
    static int n;
    (void)snprintf(key, sizeof key, "key %d", n++);
    f->svid.key = cs_slice_str(key);
    PUT_FAILS(f, code, text, PATHS("web/"), "hook:h");
}

static void a_process_is_sent_the_signal(void **state)
{
    struct fixture *f = *state;
    sigset_t usr1, old;
    char text[32];
    (void)sigemptyset(&usr1);
    (void)sigaddset(&usr1, SIGUSR1);
    (void)sigprocmask(SIG_BLOCK, &usr1, &old);
    (void)snprintf(text, sizeof text, "%d\n", (int)getpid());
    pid_file(f, text, 0644);
    put_changed(f, CS_OK, "");
    const struct timespec limit = {.tv_sec = 10};
    siginfo_t info;
    assert_int_equal(sigtimedwait(&usr1, &info, &limit), SIGUSR1);
    assert_int_equal(info.si_pid, getpid());
    (void)sigprocmask(SIG_SETMASK, &old, NULL);

    pid_file(f, text, 0666);
    put_changed(f, CS_DENIED, "one that anybody may write");
    pid_file(f, "1\n", 0644);
    put_changed(f, CS_INVALID, "holds no process number");
    pid_file(f, "-1\n", 0644);
    put_changed(f, CS_INVALID, "holds no process number");
    pid_file(f, "", 0644);
    put_changed(f, CS_INVALID, "holds no process number");
    pid_file(f, "12345678901234567890123456789012345678901234567890", 0644);
    put_changed(f, CS_INVALID, "holds no process number");
    /* nobody there: no failure */
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    (void)snprintf(text, sizeof text, "%d", (int)child);
    pid_file(f, text, 0644);
    put_changed(f, CS_OK, "");
    configure(f, "hook \"h\" {\npid_file = \"/no/such/pid\"\n}");
    put_changed(f, CS_OK, "");
}

static void a_stranger_cannot_point_at_others(void **state)
{
    struct fixture *f = *state;
    char path[100], text[32];
    if (geteuid() != 0)
        skip();
    (void)snprintf(text, sizeof text, "%d\n", (int)getpid());
    pid_file(f, text, 0644);
    (void)snprintf(path, sizeof path, "%s/pid", f->top);
    assert_int_equal(chown(path, 65534, 65534), 0);
    put_changed(f, CS_DENIED, "pid is of user 65534, its process");
}

/* --- Life --- */

static void configuration_is_checked(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text, *fault;
    } cases[] = {
        {"", "directory must be configured"},
        {"directory = \"x\"", "directory \"x\" must be absolute, and not the root"},
        {"directory = \"//\"", "directory \"//\" must be absolute, and not the root"},
        {"directory = \"/x\" directories = []", "unknown option \"directories\""},
        {"directory = \"/x\" hook \"a\" {}", "hook \"a\": command or pid_file must be set"},
        {"directory = \"/x\" hook \"a\" { command = [\"nginx\"] }",
         "hook \"a\": command must begin with an absolute path"},
        {"directory = \"/x\" hook \"a\" { pid_file = \"nginx.pid\" }",
         "hook \"a\": pid_file must be absolute"},
        {"directory = \"/x\" hook \"a\" { pid_file = \"/p\" signal = \"SIGKILL\" }",
         "hook \"a\": signal \"SIGKILL\" is not one of"},
        {"directory = \"/x\" hook \"a\" { command = [\"/c\"] signal = \"HUP\" }",
         "hook \"a\": signal needs pid_file"},
        {"directory = \"/x\" hook \"a\" { command = [\"/c\"] timeout = \"11m\" }",
         "hook \"a\": timeout must be above 0"},
        {"directory = \"/x\" hook \"a\" { command = [\"/c\"] timeout = \"x\" }",
         "hook \"a\": timeout: time: invalid duration"},
        {"directory = \"/x\" hook \"a\" { command = [\"/c\"] shell = true }",
         "hook \"a\": unknown option \"shell\""},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct plugin_notes notes = {0};
        struct cs_err e = {0};
        assert_int_equal(plugin_svidstore_disk.configure(f->self, cs_slice_str(cases[i].text), &e),
                         CS_INVALID);
        if (strstr(e.text, cases[i].fault) == NULL)
            fail_msg("\"%s\" and not \"%s\"", e.text, cases[i].fault);
        assert_int_equal(plugin_svidstore_disk.validate(&f->env, cs_slice_str(cases[i].text), &notes, &e),
                         CS_OK);
        assert_int_equal(notes.count, 1);
        plugin_notes_free(&notes);
    }
    PUT(f, PATHS("")); /* the older configuration is in force */
}

static void memory_may_run_out(void **state)
{
    struct fixture *f = *state;
    static const char *const metadata[] = {PATHS("web/"), "user:root", "uid:0"};
    PUT(f, PATHS("web/"));
    for (size_t i = 1;; i++) {
        struct cs_err e = {0};
        char key[32];
        (void)snprintf(key, sizeof key, "key %zu", i);
        f->svid.key = cs_slice_str(key);
        (void)cs_mem_fail_at(i, true);
        cs_code rc = f->ops->put(f->self, &f->svid, metadata, 3, &e);
        (void)cs_mem_fail_at(0, false);
        if (rc == CS_OK)
            break;
        assert_int_equal(rc, CS_INTERNAL);
        assert_true(i < 200);
    }
    for (size_t i = 1;; i++) {
        (void)cs_mem_fail_at(i, true);
        cs_code rc = f->ops->remove(f->self, metadata, 3, NULL);
        (void)cs_mem_fail_at(0, false);
        if (rc == CS_OK)
            break;
        assert_true(i < 200);
    }
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(files_are_written_and_removed),
        TEST(owners_are_by_name_or_number),
        TEST(federated_roots_are_added_when_asked_for),
        TEST(selectors_say_what_is_wrong),
        TEST(nothing_leaves_the_directories),
        TEST(a_folder_has_one_svid),
        TEST(a_command_runs_after_each_change),
        TEST(a_command_that_fails_is_run_again),
        TEST(a_command_that_hangs_is_killed_with_its_children),
        TEST(what_a_command_prints_is_bounded),
        TEST(a_process_is_sent_the_signal),
        TEST(a_stranger_cannot_point_at_others),
        TEST(configuration_is_checked),
        TEST(memory_may_run_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
