/* SPDX-License-Identifier: Apache-2.0
 *
 * One log line as hashicorp's hclog writes it in JSON, which is what hosts of go-plugin read on a plugin's
 * standard error.
 */
#ifndef CS_KIT_LOGLINE_H
#define CS_KIT_LOGLINE_H

#include "base/buf.h"
#include "cspire/plugin.h"

#include <pthread.h>

/* go-plugin cuts lines at 64 KiB, and what was cut is JSON no more. */
#define KIT_LOG_LINE_MAX ((size_t)60 * 1024)
#define KIT_LOG_FIELDS_MAX 32

struct kit_log {
    int fd;
    pthread_mutex_t lock; /* a line is more than a pipe takes at once */
};

/* Appends the line with its end. What does not fit into KIT_LOG_LINE_MAX is cut, further fields are
 * left out. wall_ns: its time. */
void kit_log_format(struct cs_buf *out, int64_t wall_ns, enum cspire_level level, const char *message,
                    const struct cspire_field *fields, size_t count);
/* Any thread. A line that nobody takes any more is lost. */
void kit_log_write(struct kit_log *log, enum cspire_level level, const char *message,
                   const struct cspire_field *fields, size_t count);

#endif
