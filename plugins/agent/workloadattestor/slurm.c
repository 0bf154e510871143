/* SPDX-License-Identifier: Apache-2.0
 *
 * WorkloadAttestor "slurm": the job and step that slurmstepd made a cgroup (v2) for
 * (doc/plugin_agent_workloadattestor_slurm.md of SPIRE):
 *
 *   /system.slice/[NODE_]slurmstepd.scope/(job_NUMBER or SLUID)/step_STEP[/...]
 *
 * It counts at the top only: elsewhere, as in a user's own slice, anybody can make a cgroup that looks like
 * it.
 */
#include "plugin/workloadattestor.h"
#include "plugins/shared/containers/proc.h"

#define NAME_MAX_LEN 255 /* of a cgroup */

struct job {
    char dir[NAME_MAX_LEN + 1], step[NAME_MAX_LEN + 1]; /* "job_17" or a SLUID; "" none */
};

static cs_code create(const struct plugin_env *env, void **self, struct cs_err *e)
{
    static const char none;
    (void)env;
    (void)e;
    *self = (void *)(uintptr_t)&none;
    return CS_OK;
}

static void destroy(void *self)
{
    (void)self;
}

static bool ends_with(struct cs_slice s, const char *end)
{
    size_t n = strlen(end);
    return s.len >= n && memcmp(s.data + s.len - n, end, n) == 0;
}

static bool cut_prefix(struct cs_slice *s, const char *begin)
{
    size_t n = strlen(begin);
    if (s->len <= n || memcmp(s->data, begin, n) != 0)
        return false;
    *s = cs_slice_of(s->data + n, s->len - n);
    return true;
}

/* job_ and digits, or s and digits and letters. */
static bool is_job(struct cs_slice s)
{
    struct cs_slice rest = s;
    bool number = cut_prefix(&rest, "job_");
    if (!number && !cut_prefix(&rest, "s"))
        return false;
    for (size_t i = 0; i < rest.len; i++) {
        uint8_t c = rest.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!(c >= '0' && c <= '9') && (number || !letter))
            return false;
    }
    return true;
}

static bool job_of(struct cs_slice path, struct job *out)
{
    struct cs_rd r = cs_rd_of(path);
    struct cs_slice top, slice, scope, dir, step;
    if (!container_next_segment(&r, &top) || top.len > 0 || !container_next_segment(&r, &slice) ||
        !cs_slice_is(slice, "system.slice") || !container_next_segment(&r, &scope) ||
        !ends_with(scope, "slurmstepd.scope") || !container_next_segment(&r, &dir) || !is_job(dir) ||
        !container_next_segment(&r, &step) || !cut_prefix(&step, "step_") || dir.len > NAME_MAX_LEN ||
        step.len > NAME_MAX_LEN)
        return false;
    *out = (struct job){0};
    memcpy(out->dir, dir.data, dir.len);
    memcpy(out->step, step.data, step.len);
    return true;
}

static cs_code on_cgroup(void *arg, size_t index, struct cs_slice path, struct cs_err *e)
{
    struct job *found = arg, next;
    (void)index;
    if (!job_of(path, &next))
        return CS_OK;
    if (found->dir[0] == '\0')
        *found = next;
    if (strcmp(found->dir, next.dir) != 0 || strcmp(found->step, next.step) != 0)
        return cs_fail(e, CS_PRECONDITION, "multiple Slurm jobs found in cgroups (%s/step_%s, %s/step_%s)",
                       found->dir, found->step, next.dir, next.step);
    return CS_OK;
}

static cs_code attest(void *self, pid_t pid, struct workloadattestor_values *out, struct cs_err *e)
{
    struct job job = {0};
    (void)self;
    cs_code rc = container_each_cgroup(container_proc(), pid, "unable to obtain cgroups", on_cgroup, &job, e);
    if (rc == CS_NOT_FOUND) {
        if (e != NULL)
            e->code = CS_INTERNAL;
        return CS_INTERNAL;
    }
    CS_TRY(rc);
    if (job.dir[0] == '\0') /* no job: nothing to say, and no error */
        return CS_OK;
    bool number = job.dir[0] == 'j';
    CS_TRY(workloadattestor_add(out, number ? "job_id" : "sluid", job.dir + (number ? 4 : 0), e));
    return workloadattestor_add(out, "step", job.step, e);
}

static const struct workloadattestor_ops ops = {.attest = attest};

const struct plugin_builtin plugin_workloadattestor_slurm = {
    .name = "slurm",
    .ops = &ops,
    .create = create,
    .destroy = destroy,
};
