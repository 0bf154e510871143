/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a process runs, by the shapes of cgroups and mounts that runtimes make; those of SPIRE's own tests
 * are all here.
 */
#include "base/mem.h"
#include "plugins/shared/containers/locate.h"
#include "plugins/shared/containers/matchers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define ID2 "7654321089abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define POD "00000000-1111-2222-3333-444444444444"
#define POD_ "00000000_1111_2222_3333_444444444444"
#define POD2 "76543210-89ab-cdef-0123-456789abcdef"
#define POD2_ "76543210_89ab_cdef_0123_456789abcdef"
#define PID 123

/* --- One path --- */

static const struct {
    const char *path, *pod, *id;
    bool legacy; /* the old patterns say the same */
} paths[] = {
    {"/kubepods/pod" POD "/" ID, POD, ID, true},
    {"/kubepods/burstable/pod" POD "/" ID, POD, ID, true},
    {"/docker/" ID2 "/kubepods/besteffort/pod" POD "/" ID, POD, ID, true},
    {"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" POD_ ".slice/docker-" ID ".scope", POD,
     ID, true},
    {"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" POD_ ".slice/crio-" ID ".scope", POD,
     ID, true},
    {"/../../../burstable/pod" POD "/" ID, POD, ID, true},
    {"/pod" POD "/" ID, POD, ID, true},
    {"/kubepods-besteffort-pod" POD_ ".slice:cri-containerd:" ID, POD, ID, true},
    {"/../crio-" ID ".scope", "", ID, true},
    /* no pod is named */
    {"/" ID, "", ID, false},
    {"/docker/" ID, "", ID, false},
    {"/system.slice/docker-" ID ".scope", "", ID, false},
    {"/system.slice/" ID ".scope", "", ID, false},
    /* behind the container's segment */
    {"/docker/" ID "/docker/" ID "/system.slice/containerd.service", "", ID, false},
    {"/kubepods/pod" POD "/" ID "/init.scope", POD, ID, false},
    /* no container */
    {"/", "", "", true},
    {"", "", "", true},
    {"/user.slice/user-1000.slice/session-2.scope", "", "", true},
    {"/kubepods/pod" POD, "", "", true},
    {"/docker/" ID "/", "", "", true}, /* an empty segment ends the search */
    {"/docker/" ID "f", "", "", true},
    {"/docker/x" ID, "", "", true},
    {"/docker/_" ID, "", "", true},
    /* no pod UID is as near as this */
    {"/kubepods/pod" POD "0/" ID, "", ID, false},
    {"/kubepods/xpod" POD "/" ID, "", ID, false},
    {"/kubepods/" POD "/" ID, "", ID, false},
    {"/kubepods//pod" POD "//" ID, "", ID, false},
};

static void test_paths(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        struct container_place p;
        struct cs_slice path = cs_slice_str(paths[i].path);
        container_place_of_path(path, true, &p);
        assert_string_equal(p.pod_uid, paths[i].pod);
        assert_string_equal(p.id, paths[i].id);
        container_place_of_path(path, false, &p);
        assert_string_equal(p.pod_uid, "");
        assert_string_equal(p.id, paths[i].id);
        bool found = container_place_of_path_legacy(path, &p);
        assert_int_equal(found, paths[i].legacy && paths[i].id[0] != '\0');
        assert_string_equal(p.id, found ? paths[i].id : "");
        assert_string_equal(p.pod_uid, found ? paths[i].pod : "");
    }
}

static void test_legacy_only(void **state)
{
    (void)state;
    static const struct {
        const char *path, *pod;
    } cases[] = {
        {"9:devices:/kubepods.slice/pod" POD_ ".slice/crio-" ID ".scope", POD},
        {"/kubepods/pod2732ca68f6358eba7703fb6f82a25c94/" ID, "2732ca68f6358eba7703fb6f82a25c94"},
        {"/kubepods/pod2732ca68+f635^8eba=7703~fb6f82a25c94/" ID, "2732ca68+f635^8eba=7703~fb6f82a25c94"},
        {"/pod" POD "/pod" POD2 "/" ID, POD},   /* the first of two */
        {"/pod" POD "//pod" POD2 "/" ID, POD2}, /* nothing but words may be behind it */
        {"0::/../crio-" ID ".scope", ""},
        /* both patterns fit, or none */
        {"/kubepods/pod2732ca68f6358eba7703fb6f82a25c94/crio-" ID, NULL},
        {"/kubepods/pod2732ca68f6358eba7703fb6f82a25c94", NULL},
        {"/pod" POD "/a//b-" ID, NULL},
        {"/pod" POD "crio-" ID, ""}, /* the pod does not end there */
        {"/crio" ID, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct container_place p;
        bool found = container_place_of_path_legacy(cs_slice_str(cases[i].path), &p);
        assert_int_equal(found, cases[i].pod != NULL);
        assert_string_equal(p.pod_uid, found ? cases[i].pod : "");
        assert_string_equal(p.id, found ? ID : "");
    }
}

/* --- Lines --- */

static void test_cgroup_lines(void **state)
{
    (void)state;
    struct cs_slice path;
    struct cs_err e;
    assert_int_equal(container_cgroup_line(cs_slice_str("1:name=systemd:/a:b"), &path, &e), CS_OK);
    assert_true(cs_slice_is(path, "/a:b"));
    assert_int_equal(container_cgroup_line(cs_slice_str("0::/"), &path, &e), CS_OK);
    assert_true(cs_slice_is(path, "/"));
    assert_int_equal(container_cgroup_line(cs_slice_str("::"), &path, &e), CS_OK);
    assert_int_equal(path.len, 0);
    assert_int_equal(container_cgroup_line(cs_slice_str("11:hugetlb"), &path, &e), CS_INVALID);
    assert_string_equal(e.text,
                        "invalid cgroup entry, contains 2 colon separated fields but expected at least 3: "
                        "\"11:hugetlb\"");
    assert_int_equal(container_cgroup_line(cs_slice_of(NULL, 0), &path, &e), CS_INVALID);
    assert_string_equal(
        e.text, "invalid cgroup entry, contains 1 colon separated fields but expected at least 3: \"\"");
}

static void test_mountinfo_lines(void **state)
{
    (void)state;
    static const struct {
        const char *line, *root, *type, *fault;
    } cases[] = {
        {"1543 1542 0:32 /a /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw", "/a", "cgroup2", NULL},
        {"1543 1542 0:32 /a /sys/fs/cgroup ro master:9 shared:3 - cgroup cgroup rw", "/a", "cgroup", NULL},
        {"119 206 0:68 / /local rw,relatime - tmpfs  rw,size=8192k", "/", "tmpfs", NULL},
        {"119 206 0:68 / /local rw - tmpfs", "/", "tmpfs", NULL},
        {"119 206 0:68 / /local rw tmpfs tmpfs rw", NULL, NULL, "missing separator in mountinfo line: "},
        {"119 206 0:68 / /local - tmpfs tmpfs rw", NULL, NULL,
         "expected at least 6 fields before separator in mountinfo line: "},
        {"119 206 0:68 / /local rw -", NULL, NULL, "missing filesystem type in mountinfo line: "},
        {"119 206 0:68 / /local rw -  tmpfs rw", NULL, NULL, "missing filesystem type in mountinfo line: "},
        {"", NULL, NULL, "missing separator in mountinfo line: "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct container_mount m;
        struct cs_err e;
        cs_code rc = container_mountinfo_line(cs_slice_str(cases[i].line), &m, &e);
        assert_int_equal(rc, cases[i].fault == NULL ? CS_OK : CS_INVALID);
        if (rc == CS_OK) {
            assert_true(cs_slice_is(m.root, cases[i].root));
            assert_true(cs_slice_is(m.type, cases[i].type));
        } else {
            assert_memory_equal(e.text, cases[i].fault, strlen(cases[i].fault));
        }
    }
}

/* --- Files --- */

struct proc {
    char dir[64], cgroup[128], mounts[128];
};

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* NULL: no such file. */
static void proc_make(struct proc *p, const char *cgroup, const char *mounts)
{
    char sub[96];
    (void)snprintf(p->dir, sizeof p->dir, "/tmp/cs-containers-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    (void)snprintf(sub, sizeof sub, "%s/%d", p->dir, PID);
    assert_int_equal(mkdir(sub, 0700), 0);
    (void)snprintf(p->cgroup, sizeof p->cgroup, "%s/cgroup", sub);
    (void)snprintf(p->mounts, sizeof p->mounts, "%s/mountinfo", sub);
    if (cgroup != NULL)
        write_file(p->cgroup, cgroup);
    if (mounts != NULL)
        write_file(p->mounts, mounts);
}

static void proc_remove(struct proc *p)
{
    char sub[96];
    (void)unlink(p->cgroup);
    (void)unlink(p->mounts);
    (void)snprintf(sub, sizeof sub, "%s/%d", p->dir, PID);
    assert_int_equal(rmdir(sub), 0);
    assert_int_equal(rmdir(p->dir), 0);
}

#define MOUNT(root, type) "1543 1542 0:32 " root " /sys/fs/cgroup ro,nosuid,relatime - " type " cgroup rw\n"
#define KUBE "/../../kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod"

static const struct {
    const char *cgroup, *mounts, *pod, *id;
    cs_code code;
    const char *fault;
} files[] = {
    /* the kernel's file counts first, and alone */
    {"11:hugetlb:/kubepods/pod" POD "/" ID "\n10:x:/kubepods/pod" POD "/" ID, NULL, POD, ID, CS_OK, NULL},
    {"0::/../" ID, MOUNT(KUBE POD2_ ".slice/cri-containerd-" ID2 ".scope", "cgroup2"), "", ID, CS_OK, NULL},
    {"0::/../" ID "\r\n", MOUNT("/", "cgroup2"), "", ID, CS_OK, NULL},
    {"1:cpuset:/docker/" ID2 "/kubepods/besteffort/pod" POD "/" ID "\n0::/docker/" ID2
     "/system.slice/x.service\n",
     NULL, POD, ID, CS_OK, NULL},
    {"0::/docker/" ID2 "\n1:cpuset:/kubepods/pod" POD "/" ID "\n", NULL, POD, ID, CS_OK, NULL},
    {"3:rdma:/\n2:x:/docker/" ID "\n", NULL, "", ID, CS_OK, NULL},
    /* then the other one */
    {"0::/", MOUNT(KUBE POD_ ".slice/cri-containerd-" ID ".scope", "cgroup2"), POD, ID, CS_OK, NULL},
    {NULL, MOUNT(KUBE POD_ ".slice/cri-containerd-" ID ".scope", "cgroup2"), POD, ID, CS_OK, NULL},
    {NULL, MOUNT(KUBE POD_ ".slice/cri-containerd-" ID ".scope", "not-a-cgroup-type"), "", "", CS_OK, NULL},
    {NULL, MOUNT("/not-a-match", "cgroup2"), "", "", CS_OK, NULL},
    {NULL, MOUNT("/docker/" ID, "cgroup") MOUNT("/", "cgroup2") MOUNT("/", "cgroup"), "", ID, CS_OK, NULL},
    {NULL, MOUNT("/../" ID, "cgroup2") "119 206 0:68 / /local rw - tmpfs  rw,size=8192k\n\n", "", ID, CS_OK,
     NULL},
    {NULL,
     MOUNT("/kubepods-pod" POD_ ".slice/cri-containerd-" ID ".scope", "cgroup")
         MOUNT("/fake/cri-containerd-" ID2 ".scope", "cgroup"),
     POD, ID, CS_OK, NULL},
    {NULL, NULL, "", "", CS_OK, NULL},
    {"", "", "", "", CS_OK, NULL},
    /* contradictions */
    {NULL, MOUNT(KUBE POD_ ".slice/" ID, "cgroup2") MOUNT(KUBE POD2_ ".slice/" ID, "cgroup2"), "", "",
     CS_PRECONDITION, "multiple pod UIDs found (\"" POD "\", \"" POD2 "\")"},
    {NULL, MOUNT(KUBE POD_ ".slice/" ID, "cgroup2") MOUNT(KUBE POD_ ".slice/" ID2, "cgroup2"), "", "",
     CS_PRECONDITION, "multiple container IDs found (\"" ID "\", \"" ID2 "\")"},
    {"4:a:/docker/" ID "\n3:b:/docker/" ID2 "\n", NULL, "", "", CS_PRECONDITION,
     "multiple container IDs found (\"" ID "\", \"" ID2 "\")"},
    {"4:a:/docker/" ID "\n3:b:/\n", NULL, "", "", CS_PRECONDITION,
     "multiple container IDs found (\"" ID "\", \"\")"},
    /* what is malformed */
    {"11:hugetlb\n", NULL, "", "", CS_INTERNAL,
     "unable to obtain cgroups: invalid cgroup entry, contains 2 colon separated fields but expected at "
     "least 3: "
     "\"11:hugetlb\""},
    {NULL, "what is this\n", "", "", CS_INTERNAL, NULL},
};

static void test_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct proc p;
        struct container_place place;
        struct cs_err e = {0};
        proc_make(&p, files[i].cgroup, files[i].mounts);
        cs_code rc = container_locate(p.dir, PID, true, NULL, &place, &e);
        proc_remove(&p);
        assert_int_equal(rc, files[i].code);
        assert_string_equal(place.pod_uid, files[i].pod);
        assert_string_equal(place.id, files[i].id);
        if (files[i].fault != NULL)
            assert_string_equal(e.text, files[i].fault);
    }
}

static void test_mountinfo_fault_names_the_file(void **state)
{
    (void)state;
    struct proc p;
    struct container_place place;
    struct cs_err e;
    char want[256];
    proc_make(&p, NULL, "what is this\n");
    assert_int_equal(container_locate(p.dir, PID, true, NULL, &place, &e), CS_INTERNAL);
    (void)snprintf(
        want, sizeof want,
        "failed to parse mount info at \"%s\": missing separator in mountinfo line: \"what is this\"",
        p.mounts);
    assert_string_equal(e.text, want);
    proc_remove(&p);
}

/* Lines that end in the middle of what is read at once, and one that is too long. */
static void test_long_files(void **state)
{
    (void)state;
    struct proc p;
    struct container_place place;
    struct cs_err e;
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    for (unsigned i = 0; i < 2000; i++)
        cs_buf_printf(&text, "%u 1 0:1 /%0*u /x rw - ext4 /dev/x rw\n", i, 1 + (int)(i % 97), i);
    cs_buf_add_str(&text, MOUNT("/docker/" ID, "cgroup"));
    proc_make(&p, "0::/", cs_buf_cstr(&text));
    assert_int_equal(container_locate(p.dir, PID, true, NULL, &place, &e), CS_OK);
    assert_string_equal(place.id, ID);
    cs_buf_reset(&text);
    cs_buf_printf(&text, "0::/%0*u", (int)CONTAINER_LINE_MAX, 0);
    write_file(p.cgroup, cs_buf_cstr(&text));
    assert_int_equal(container_locate(p.dir, PID, true, NULL, &place, &e), CS_INTERNAL);
    assert_string_equal(e.text, "unable to obtain cgroups: bufio.Scanner: token too long");
    proc_remove(&p);
}

static void test_legacy_files(void **state)
{
    (void)state;
    static const struct {
        const char *cgroup, *pod, *id, *fault;
    } cases[] = {
        {"1:a:/user.slice\n0::/kubepods/pod" POD "/" ID "\n", POD, ID, NULL},
        {"1:a:/user.slice\n", "", "", NULL},
        {"1:a:/pod" POD "/" ID "\n0::/x/pod" POD "/" ID2 "\n", "", "",
         "multiple container IDs found in cgroups (" ID ", " ID2 ")"},
        {"1:a:/pod" POD "/" ID "\n0::/x/pod" POD2 "/" ID "\n", "", "",
         "multiple pod UIDs found in cgroups (" POD ", " POD2 ")"},
    };
    struct container_place place;
    struct cs_err e;
    struct proc p;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        proc_make(&p, cases[i].cgroup, NULL);
        cs_code rc = container_locate_legacy(p.dir, PID, &place, &e);
        proc_remove(&p);
        assert_int_equal(rc, cases[i].fault == NULL ? CS_OK : CS_PRECONDITION);
        assert_string_equal(place.pod_uid, cases[i].pod);
        assert_string_equal(place.id, cases[i].id);
        if (rc != CS_OK)
            assert_string_equal(e.text, cases[i].fault);
    }
    proc_make(&p, NULL, NULL); /* here a missing file is an error */
    assert_int_equal(container_locate_legacy(p.dir, PID, &place, &e), CS_INTERNAL);
    assert_non_null(strstr(e.text, "unable to obtain cgroups: open "));
    proc_remove(&p);
}

/* --- Matchers --- */

static void test_matchers(void **state)
{
    (void)state;
    static const char *const patterns[] = {"/docker/<id>", "/my.slice/*/<id>/*"};
    struct cs_slice id;
    struct cs_err e;
    assert_int_equal(container_matchers_check(patterns, 2, &e), CS_OK);
    assert_true(container_matchers_find(patterns, 2, cs_slice_str("/docker/abc"), &id));
    assert_true(cs_slice_is(id, "abc"));
    assert_true(container_matchers_find(patterns, 2, cs_slice_str("/docker/"), &id));
    assert_int_equal(id.len, 0);
    assert_true(container_matchers_find(patterns, 2, cs_slice_str("/my.slice/x/abc/y"), &id));
    assert_true(cs_slice_is(id, "abc"));
    assert_false(container_matchers_find(patterns, 2, cs_slice_str("/mysslice/x/abc/y"), &id));
    assert_false(container_matchers_find(patterns, 2, cs_slice_str("/docker/abc/d"), &id));
    assert_false(container_matchers_find(patterns, 2, cs_slice_str("docker/abc"), &id));
    assert_false(container_matchers_find(patterns, 2, cs_slice_of(NULL, 0), &id));
}

static void test_matchers_refused(void **state)
{
    (void)state;
    struct cs_err e;
    assert_int_equal(container_matchers_check(NULL, 0, &e), CS_INVALID);
    assert_string_equal(e.text, "dockerfinder: at least 1 pattern must be supplied");
    assert_int_equal(container_matchers_check((const char *const[]){"/docker/"}, 1, &e), CS_INVALID);
    assert_string_equal(e.text,
                        "pattern \"/docker/\" must contain the container id token \"<id>\" exactly once");
    assert_int_equal(container_matchers_check((const char *const[]){"/<id>/<id>"}, 1, &e), CS_INVALID);
    assert_int_equal(container_matchers_check((const char *const[]){"/x<id>"}, 1, &e), CS_INVALID);
    assert_int_equal(
        container_matchers_check((const char *const[]){"/a/b/<id>", "/c/d/<id>", "/*/b/<id>"}, 3, &e),
        CS_INVALID);
    assert_string_equal(e.text,
                        "dockerfinder: patterns must not be ambiguous: [\"/a/b/<id>\" \"/*/b/<id>\"]");
    assert_int_equal(container_matchers_check((const char *const[]){"/<id>", "/<id>"}, 2, &e), CS_INVALID);
    assert_string_equal(e.text, "dockerfinder: patterns must not be ambiguous: [\"/<id>\"]");
    assert_int_equal(container_matchers_check((const char *const[]){"/a/<id>", "/a/b/<id>"}, 2, &e), CS_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),        cmocka_unit_test(test_legacy_only),
        cmocka_unit_test(test_cgroup_lines), cmocka_unit_test(test_mountinfo_lines),
        cmocka_unit_test(test_files),        cmocka_unit_test(test_mountinfo_fault_names_the_file),
        cmocka_unit_test(test_long_files),   cmocka_unit_test(test_legacy_files),
        cmocka_unit_test(test_matchers),     cmocka_unit_test(test_matchers_refused),
    };
    return cmocka_run_group_tests_name("containers", tests, NULL, NULL);
}
