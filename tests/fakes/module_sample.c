/* SPDX-License-Identifier: Apache-2.0
 *
 * A module as it should be: its plugin calls a function of the program that nothing else there may use.
 */
#include "base/buf.h"
#include "base/mem.h"
#include "base/text.h"
#include "build_stamp.h"
#include "plugin/module.h"

static cs_code create(const struct plugin_env *env, void **self, struct cs_err *e)
{
    struct cs_buf text = {0};
    (void)env;
    cs_duration_format(&text, 90 * (int64_t)1000000000);
    *self = cs_buf_take_str(&text);
    return *self != NULL ? CS_OK : cs_nomem(e);
}

static void destroy(void *self)
{
    cs_free(self);
}

static const struct plugin_builtin sample = {.name = "sample", .create = create, .destroy = destroy};

static const struct plugin_module_entry entries[] = {{"server", PLUGIN_TYPE_NOTIFIER, &sample}};
PLUGIN_MODULE(entries);
