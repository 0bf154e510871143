/* SPDX-License-Identifier: Apache-2.0
 *
 * What a call to an external plugin costs over a call through the operations table of a built-in one, which
 * is an indirect call: the time of the smallest unary call there is, grpc.health.v1 Check.
 *
 *   bench_plugin_call TYPE PROGRAM [ARGUMENT...]
 */
#include "plugin/external.h"

#include "health.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define WARM 2000
#define CALLS 20000

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static cs_code check(struct plugin_external *x, struct cs_arena *a, struct cs_err *e)
{
    Healthv1__HealthCheckRequest req = HEALTHV1__HEALTH_CHECK_REQUEST__INIT;
    ProtobufCMessage *m = NULL;
    req.service = (char *)"plugin";
    cs_arena_reset(a);
    return plugin_external_unary(x, "/grpc.health.v1.Health/Check", &req.base,
                                 &healthv1__health_check_response__descriptor, a, &m, 0, e);
}

static int64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * CS_NS_PER_S + t.tv_nsec;
}

static cs_code measure(struct plugin_external *x, struct cs_err *e)
{
    CS_CLEANUP(cs_freep) int64_t *took = cs_calloc(CALLS, sizeof *took);
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    int64_t sum = 0, cpu = 0;
    if (took == NULL || a == NULL)
        return cs_nomem(e);
    for (int i = -WARM; i < CALLS; i++) {
        if (i == 0)
            cpu = cpu_ns();
        int64_t began = cs_mono_ns(&cs_clock_system);
        CS_TRY(check(x, a, e));
        if (i >= 0)
            sum += took[i] = cs_mono_ns(&cs_clock_system) - began;
    }
    cpu = cpu_ns() - cpu;
    qsort(took, CALLS, sizeof *took, by_size);
    printf("%d calls one after another: mean %.1f us, median %.1f us, 99%% %.1f us; CPU of the host %.1f us "
           "each\n",
           CALLS, (double)sum / CALLS / 1e3, (double)took[CALLS / 2] / 1e3,
           (double)took[CALLS * 99 / 100] / 1e3, (double)cpu / CALLS / 1e3);
    return CS_OK;
}

int main(int argc, char **argv)
{
    struct cs_err e = {0};
    struct plugin_runner *r = NULL;
    struct plugin_external *x = NULL;
    const struct plugin_env env = {.clock = &cs_clock_system, .trust_domain = "example.org"};
    if (argc < 3) {
        fprintf(stderr, "usage: %s TYPE PROGRAM [ARGUMENT...]\n", argv[0]);
        return 2;
    }
    const struct config_plugin config = {
        .type = argv[1],
        .name = "bench",
        .cmd = argv[2],
        .checksum = "",
        .args = {.at = (const char *const *)argv + 3, .len = (size_t)argc - 3}};
    cs_code rc = plugin_runner_new(env.log, env.clock, &r, &e);
    if (rc == CS_OK)
        rc = plugin_external_start(r, argv[1], &config, &env, &x, &e);
    if (rc == CS_OK)
        rc = measure(x, &e);
    plugin_external_stop(x);
    plugin_runner_free(r);
    if (rc != CS_OK)
        fprintf(stderr, "%s\n", e.text);
    return rc == CS_OK ? 0 : 1;
}
