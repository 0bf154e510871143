/* SPDX-License-Identifier: Apache-2.0
 *
 * Logging as a plugin sees it.
 */
#include "kit/kit.h"

#include <stdarg.h>
#include <stdio.h>

void cspire_log(struct cspire_env *env, enum cspire_level level, const char *message,
                const struct cspire_field *fields, size_t count)
{
    kit_log_write(&env->log, level, message, fields, count);
}

void cspire_logf(struct cspire_env *env, enum cspire_level level, const char *fmt, ...)
{
    char text[4096];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    kit_log_write(&env->log, level, text, NULL, 0);
}

const char *cspire_plugin_version(void)
{
    return CSPIRE_VERSION;
}
