/* SPDX-License-Identifier: Apache-2.0
 *
 * What a host sends to a plugin: requests of every unary operation, the broker's messages, configurations.
 * The first byte chooses. The plugin reads every byte of what it is handed, and answers.
 */
#include "kit/start.h"
#include "tests/unit/kit/describe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run(struct cspire_env *env, const struct kit_handler *h, struct cs_slice in)
{
    CS_AUTO(cs_arena) arena = cs_arena_new(0, 8 << 20);
    struct cs_buf out CS_CLEANUP(cs_buf_free) = {0};
    struct cs_err e = {0};
    if (arena == NULL)
        return;
    if (kit_run(env, h, NULL, arena, in, &out, &e) != CS_OK && (e.code == CS_OK || e.text[0] == '\0'))
        abort(); /* a failure says what it is */
}

static void read_config(struct cspire_env *env, const char *text)
{
    static const char *const names[] = {"a"};
    struct cspire_config config = {.text = text, .trust_domain = "example.org"};
    struct cspire_call *c = cspire_call_new(env);
    const char *s = "";
    bool yes;
    int64_t n;
    struct cspire_texts list;
    if (c == NULL)
        return;
    (void)cspire_config_only(c, &config, names, 1);
    if (cspire_config_string(c, &config, "a", &s) == CSPIRE_OK)
        d_say("%s", s);
    (void)cspire_config_bool(c, &config, "a", &yes);
    (void)cspire_config_int(c, &config, "a", &n);
    (void)cspire_config_duration(c, &config, "a", &n);
    if (cspire_config_strings(c, &config, "a", &list) == CSPIRE_OK)
        (void)kit_versions_have(text, 1);
    cspire_call_free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    enum cspire_kind kind = (enum cspire_kind)(1 + data[0] % CSPIRE_SVID_STORE);
    size_t which = data[0] / CSPIRE_SVID_STORE;
    struct cs_slice in = cs_slice_of(data + 1, size - 1);
    struct cspire_plugin plugin = d_plugin(kind);
    struct cspire_env env;
    struct cs_err e;
    d_reset();
    kit_env_init(&env, &plugin, kit_kind_find(kind));
    if (kit_env_create(&env, &e) != CS_OK)
        abort();
    char *text = cs_strndup((const char *)in.data, in.len);
    if (text == NULL)
        abort();
    d_self.claims = text;
    const struct rpc_method *m = which < env.kind->method_count ? &env.kind->methods[which] : NULL;
    if (m != NULL && m->policy != NULL)
        run(&env, m->policy, in);
    else if (which < 10)
        run(&env, kit_config_methods[which % kit_config_method_count].policy, in);
    else if (which >= 15)
        read_config(&env, text);
    else if (kit_broker_message(&env, in, &e) == CS_OK && env.host_known &&
             (env.host_at.unix_path == NULL) == (env.host_at.tcp_address == NULL))
        abort();
    kit_env_free(&env);
    d_reset();
    cs_free(text);
    return 0;
}
