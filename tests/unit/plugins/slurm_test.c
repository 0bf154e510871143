/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/workloadattestor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

extern const struct plugin_builtin plugin_workloadattestor_slurm;

static const struct {
    const char *cgroup, *id, *step; /* id NULL: no job */
} cases[] = {
    {"0::/system.slice/slurmstepd.scope/s5K1KKYAYG5D00/step_0/user/task_0\n", "sluid:s5K1KKYAYG5D00",
     "step:0"},
    {"0::/system.slice/slurmstepd.scope/job_3385/step_batch/slurm\n", "job_id:3385", "step:batch"},
    {"0::/system.slice/slurmstepd.scope/job_42/step_extern\n", "job_id:42", "step:extern"},
    {"0::/system.slice/node1_slurmstepd.scope/job_100/step_1/slurm\n", "job_id:100", "step:1"},
    {"1:x:/\n0::/system.slice/slurmstepd.scope/job_1/step_0/a\n2:y:/system.slice/slurmstepd.scope/job_1/"
     "step_0/b",
     "job_id:1", "step:0"},
    {"0::/system.slice/docker-0123456789abcdef.scope\n", NULL, NULL},
    {"0::/user.slice/user-1000.slice/session-3.scope\n", NULL, NULL},
    /* look-alikes that users can make */
    {"0::/user.slice/user-1000.slice/user@1000.service/slurmstepd.scope/job_9/step_0\n", NULL, NULL},
    {"0::/user.slice/system.slice/slurmstepd.scope/job_9/step_0\n", NULL, NULL},
    {"0::system.slice/slurmstepd.scope/job_9/step_0\n", NULL, NULL},
    {"0::/../system.slice/slurmstepd.scope/job_9/step_0\n", NULL, NULL},
    {"0::/system.slice/x/slurmstepd.scope/job_9/step_0\n", NULL, NULL},
    {"0::/system.slice/slurmstepd.scopex/job_9/step_0\n", NULL, NULL},
    {"0::/system.slice/slurmstepd.scope/job_/step_0\n", NULL, NULL},
    {"0::/system.slice/slurmstepd.scope/job_9x/step_0\n", NULL, NULL},
    {"0::/system.slice/slurmstepd.scope/s-1/step_0\n", NULL, NULL},
    {"0::/system.slice/slurmstepd.scope/s/step_0\n", NULL, NULL},
    {"0::/system.slice/slurmstepd.scope/job_9/step_\n", NULL, NULL},
    {"0::/system.slice/slurmstepd.scope/job_9\n", NULL, NULL},
    {"", NULL, NULL},
};

static char dir[] = "/tmp/cs-slurm-XXXXXX";
static char file[64];

static cs_code ask(const char *cgroup, struct workloadattestor_values *out, struct cs_err *e)
{
    const struct workloadattestor_ops *ops = plugin_workloadattestor_slurm.ops;
    void *self;
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    assert_true(fputs(cgroup, f) >= 0);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(plugin_workloadattestor_slurm.create(NULL, &self, NULL), CS_OK);
    cs_code rc = ops->attest(self, 123, out, e);
    plugin_workloadattestor_slurm.destroy(self);
    return rc;
}

static void test_jobs(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
        struct workloadattestor_values v = {.arena = a};
        assert_int_equal(ask(cases[i].cgroup, &v, NULL), CS_OK);
        assert_int_equal(v.count, cases[i].id != NULL ? 2 : 0);
        if (v.count > 0) {
            assert_string_equal(v.at[0], cases[i].id);
            assert_string_equal(v.at[1], cases[i].step);
        }
    }
}

static void test_errors(void **state)
{
    (void)state;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    struct workloadattestor_values v = {.arena = a};
    struct cs_err e;
    assert_int_equal(ask("0::/system.slice/slurmstepd.scope/job_1/step_0/slurm\n"
                         "1:x:/system.slice/slurmstepd.scope/job_2/step_0/slurm\n",
                         &v, &e),
                     CS_PRECONDITION);
    assert_string_equal(e.text, "multiple Slurm jobs found in cgroups (job_1/step_0, job_2/step_0)");
    assert_int_equal(ask("nonsense\n", &v, &e), CS_INTERNAL);
    assert_non_null(strstr(e.text, "unable to obtain cgroups: invalid cgroup entry"));
    assert_int_equal(unlink(file), 0);
    const struct workloadattestor_ops *ops = plugin_workloadattestor_slurm.ops;
    assert_int_equal(ops->attest(NULL, 123, &v, &e), CS_INTERNAL);
    assert_non_null(strstr(e.text, "unable to obtain cgroups: open "));
    assert_int_equal(v.count, 0);
}

static int set_up(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(file, sizeof file, "%s/123", dir);
    assert_int_equal(mkdir(file, 0700), 0);
    (void)snprintf(file, sizeof file, "%s/123/cgroup", dir);
    return setenv("HOST_PROC", dir, 1);
}

static int tear_down(void **state)
{
    (void)state;
    (void)snprintf(file, sizeof file, "%s/123", dir);
    return rmdir(file) != 0 || rmdir(dir) != 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_jobs), cmocka_unit_test(test_errors)};
    return cmocka_run_group_tests_name("slurm", tests, set_up, tear_down);
}
