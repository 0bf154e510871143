/* SPDX-License-Identifier: Apache-2.0
 *
 * WorkloadAttestor "systemd": the unit that a process belongs to, as systemd says over the system bus
 * (doc/plugin_agent_workloadattestor_systemd.md of SPIRE). Each attestation has a connection of its own, so
 * that nobody waits for another's answer.
 */
#include "plugins/modules/workload_systemd/systemd.h"

#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <systemd/sd-bus.h>

#define SYSTEMD "org.freedesktop.systemd1"
#define SYSTEMD_PATH "/org/freedesktop/systemd1"

static inline void bus_drop(sd_bus **b)
{
    *b = sd_bus_close_unref(*b); /* nothing that matters is on its way */
}

static inline void message_drop(sd_bus_message **m)
{
    *m = sd_bus_message_unref(*m);
}

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

/* What the bus or systemd said, else the system's word for -rc. */
static cs_code failed(struct cs_err *e, const char *what, const sd_bus_error *fault, int rc)
{
    if (fault != NULL && fault->message != NULL)
        return cs_fail(e, CS_INTERNAL, "%s: %.300s", what, fault->message);
    return cs_fail_errno(e, CS_INTERNAL, -rc, "%s", what);
}

/* Until the bus has taken us, for which libsystemd alone would wait for 90 s. */
static int await_bus(sd_bus *bus, uint64_t limit_us)
{
    const int64_t until = cs_mono_ns(&cs_clock_system) + (int64_t)limit_us * 1000;
    int rc;
    while ((rc = sd_bus_is_ready(bus)) == 0) {
        rc = sd_bus_process(bus, NULL);
        if (rc < 0)
            return rc;
        if (rc > 0)
            continue;
        const int64_t left = until - cs_mono_ns(&cs_clock_system);
        if (left <= 0)
            return -ETIMEDOUT;
        rc = sd_bus_wait(bus, (uint64_t)left / 1000 + 1);
        if (rc < 0 && rc != -EINTR)
            return rc;
    }
    return rc;
}

static cs_code open_bus(sd_bus **out, uint64_t limit_us, struct cs_err *e)
{
    int rc = sd_bus_open_system(out);
    if (rc >= 0)
        rc = await_bus(*out, limit_us);
    if (rc >= 0)
        rc = sd_bus_set_method_call_timeout(*out, limit_us);
    return rc >= 0 ? CS_OK : failed(e, "failed to open dbus connection", NULL, rc);
}

/* *path views *reply. */
static cs_code unit_of(sd_bus *bus, pid_t pid, sd_bus_message **reply, const char **path, struct cs_err *e)
{
    CS_CLEANUP(sd_bus_error_free) sd_bus_error fault = SD_BUS_ERROR_NULL;
    char what[64];
    (void)snprintf(what, sizeof what, "failed to get unit by pid %d", (int)pid);
    int rc = sd_bus_call_method(bus, SYSTEMD, SYSTEMD_PATH, SYSTEMD ".Manager", "GetUnitByPID", &fault, reply,
                                "u", (uint32_t)pid);
    if (rc >= 0)
        rc = sd_bus_message_read(*reply, "o", path);
    return rc >= 0 ? CS_OK : failed(e, what, &fault, rc);
}

static cs_code add_property(sd_bus *bus, const char *unit, const char *name, const char *kind,
                            struct workloadattestor_values *out, struct cs_err *e)
{
    CS_CLEANUP(sd_bus_error_free) sd_bus_error fault = SD_BUS_ERROR_NULL;
    CS_CLEANUP(message_drop) sd_bus_message *reply = NULL;
    const char *type = NULL, *value = NULL;
    char what[64];
    (void)snprintf(what, sizeof what, "error getting value for %s", name);
    int rc = sd_bus_call_method(bus, SYSTEMD, unit, "org.freedesktop.DBus.Properties", "Get", &fault, &reply,
                                "ss", SYSTEMD ".Unit", name);
    if (rc >= 0)
        rc = sd_bus_message_peek_type(reply, NULL, &type);
    if (rc < 0)
        return failed(e, what, &fault, rc);
    if (type == NULL || strcmp(type, "s") != 0)
        return cs_fail(e, CS_INTERNAL, "Returned value for %s was not a string: type %.32s", name,
                       type != NULL ? type : "");
    rc = sd_bus_message_read(reply, "v", "s", &value);
    return rc >= 0 ? workloadattestor_add(out, kind, value, e) : failed(e, what, NULL, rc);
}

cs_code systemd_attest(pid_t pid, uint64_t limit_us, struct workloadattestor_values *out, struct cs_err *e)
{
    CS_CLEANUP(bus_drop) sd_bus *bus = NULL;
    CS_CLEANUP(message_drop) sd_bus_message *reply = NULL;
    const char *unit = NULL;
    CS_TRY(open_bus(&bus, limit_us, e));
    CS_TRY(unit_of(bus, pid, &reply, &unit, e));
    CS_TRY(add_property(bus, unit, "Id", "id", out, e));
    return add_property(bus, unit, "FragmentPath", "fragment_path", out, e);
}

static cs_code attest(void *self, pid_t pid, struct workloadattestor_values *out, struct cs_err *e)
{
    (void)self;
    return systemd_attest(pid, SYSTEMD_LIMIT_US, out, e);
}

static const struct workloadattestor_ops ops = {.attest = attest};

extern const struct plugin_builtin plugin_workloadattestor_systemd;
const struct plugin_builtin plugin_workloadattestor_systemd = {
    .name = "systemd",
    .ops = &ops,
    .create = create,
    .destroy = destroy,
};
