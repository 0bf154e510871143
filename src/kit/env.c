/* SPDX-License-Identifier: Apache-2.0
 *
 * The plugin's life: made at Init, used by operations, destroyed when the last of them is out.
 */
#include "kit/kit.h"

#include "base/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static const struct kit_kind *const kinds[] = {
    &kit_server_key_manager, &kit_server_node_attestor, &kit_upstream_authority, &kit_notifier,
    &kit_bundle_publisher,   &kit_credential_composer,  &kit_agent_key_manager,  &kit_agent_node_attestor,
    &kit_workload_attestor,  &kit_svid_store,
};

const struct kit_kind *kit_kind_find(enum cspire_kind kind)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (kinds[i]->kind == kind)
            return kinds[i];
    }
    return NULL;
}

cs_code kit_plugin_check(const struct cspire_plugin *p, struct cs_err *e)
{
    /* the members that were there in the first version */
    if (p == NULL || p->size < offsetof(struct cspire_plugin, validate) + sizeof p->validate)
        return cs_fail(e, CS_INVALID, "struct cspire_plugin has no size");
    if (kit_kind_find(p->kind) == NULL)
        return cs_fail(e, CS_INVALID, "there is no kind of plugin with the number %d", (int)p->kind);
    /* each table begins with its size */
    if (p->ops.key_manager == NULL || p->ops.key_manager->size < sizeof(size_t))
        return cs_fail(e, CS_INVALID, "the plugin has no operations, or their table no size");
    if (KIT_OP(p, validate) != NULL && KIT_OP(p, configure) == NULL)
        return cs_fail(e, CS_INVALID, "a plugin with validate needs configure");
    return CS_OK;
}

void kit_env_init(struct cspire_env *env, const struct cspire_plugin *plugin, const struct kit_kind *kind)
{
    *env = (struct cspire_env){.plugin = plugin, .kind = kind, .stop_fd = -1};
    env->log.fd = STDERR_FILENO;
    pthread_mutex_init(&env->log.lock, NULL);
    pthread_mutex_init(&env->serial, NULL);
    pthread_mutex_init(&env->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&env->changed, &attr);
    pthread_condattr_destroy(&attr);
}

void kit_env_free(struct cspire_env *env)
{
    (void)kit_env_destroy(env, 0);
    rpc_client_free(env->host);
    if (env->loop != NULL)
        loop_free(env->loop);
    cs_free((char *)env->host_at.unix_path);
    cs_free((char *)env->host_at.tcp_address);
    pthread_cond_destroy(&env->changed);
    pthread_mutex_destroy(&env->lock);
    pthread_mutex_destroy(&env->serial);
    pthread_mutex_destroy(&env->log.lock);
}

bool kit_wait_until(struct cspire_env *env, int64_t mono_ns)
{
    struct timespec ts = {.tv_sec = mono_ns / CS_NS_PER_S, .tv_nsec = mono_ns % CS_NS_PER_S};
    return pthread_cond_timedwait(&env->changed, &env->lock, &ts) == 0;
}

void kit_lock(struct cspire_env *env)
{
    if (env->plugin->flags & CSPIRE_SERIAL)
        pthread_mutex_lock(&env->serial);
}

void kit_unlock(struct cspire_env *env)
{
    if (env->plugin->flags & CSPIRE_SERIAL)
        pthread_mutex_unlock(&env->serial);
}

/* --- Life --- */

static cs_code run_create(struct cspire_env *env, void **self, struct cs_err *e)
{
    enum cspire_code (*create)(struct cspire_call *, void **) = KIT_OP(env->plugin, create);
    if (create == NULL)
        return CS_OK;
    struct cspire_call c;
    CS_TRY(kit_call_init(&c, env, NULL, NULL, 0, e));
    cs_code code = kit_verdict(&c, create(&c, self), e);
    kit_call_end(&c);
    return code;
}

cs_code kit_env_create(struct cspire_env *env, struct cs_err *e)
{
    cs_code code = CS_OK;
    pthread_mutex_lock(&env->lock);
    while (env->state == KIT_CREATING)
        pthread_cond_wait(&env->changed, &env->lock);
    if (env->state == KIT_NEW) {
        void *self = NULL;
        env->state = KIT_CREATING;
        pthread_mutex_unlock(&env->lock);
        code = run_create(env, &self, e);
        pthread_mutex_lock(&env->lock);
        env->self = code == CS_OK ? self : NULL;
        env->state = code == CS_OK ? KIT_READY : KIT_NEW;
        pthread_cond_broadcast(&env->changed);
    } else if (env->state != KIT_READY) {
        code = cs_fail(e, CS_PRECONDITION, "the plugin was deinitialized");
    }
    pthread_mutex_unlock(&env->lock);
    return code;
}

/* Under the lock, which is let go while the plugin's destroy runs; env->state says who came first. */
static void destroy_if_unused(struct cspire_env *env)
{
    if (env->state != KIT_LEAVING || env->users > 0)
        return;
    void (*destroy)(void *) = KIT_OP(env->plugin, destroy);
    env->state = KIT_DESTROYING;
    pthread_mutex_unlock(&env->lock);
    if (destroy != NULL)
        destroy(env->self);
    pthread_mutex_lock(&env->lock);
    env->self = NULL;
    env->state = KIT_OVER;
    pthread_cond_broadcast(&env->changed);
}

bool kit_env_destroy(struct cspire_env *env, int64_t wait_ns)
{
    int64_t until = cs_mono_ns(&cs_clock_system) + wait_ns;
    bool in_time = true;
    pthread_mutex_lock(&env->lock);
    while (env->state == KIT_CREATING)
        pthread_cond_wait(&env->changed, &env->lock);
    if (env->state == KIT_NEW)
        env->state = KIT_OVER;
    if (env->state == KIT_READY)
        env->state = KIT_LEAVING;
    destroy_if_unused(env);
    while (env->state != KIT_OVER && in_time)
        in_time = kit_wait_until(env, until);
    bool over = env->state == KIT_OVER;
    pthread_mutex_unlock(&env->lock);
    return over;
}

cs_code kit_enter(struct cspire_env *env, struct cs_err *e)
{
    cs_code code = CS_OK;
    pthread_mutex_lock(&env->lock);
    if (env->state == KIT_READY)
        env->users++;
    else
        code = cs_fail(e, CS_UNAVAILABLE, "the plugin is not initialized");
    pthread_mutex_unlock(&env->lock);
    return code;
}

void kit_leave(struct cspire_env *env)
{
    pthread_mutex_lock(&env->lock);
    env->users--;
    destroy_if_unused(env);
    pthread_mutex_unlock(&env->lock);
}
