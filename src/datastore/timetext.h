/* SPDX-License-Identifier: Apache-2.0
 *
 * Times as upstream's SQLite driver keeps them in datetime columns: "2026-11-22 21:43:47.588556111+00:00",
 * local zone, the fraction without trailing zeros and left out when zero.
 */
#ifndef CS_DATASTORE_TIMETEXT_H
#define CS_DATASTORE_TIMETEXT_H

#include "base/buf.h"

#define DS_TIME_MAX 48
/* What an unreadable time counts as: Go's zero time, long past (0001-01-01). */
#define DS_TIME_ZERO INT64_C(-62135596800)

/* NUL-terminated text of a time in the local zone. Any thread. */
void ds_time_text(int64_t unix_s, int32_t ns, char out[DS_TIME_MAX]);
/* The reverse, in the forms the driver reads (T or blank, seconds, fraction and zone optional, "Z", date
 * alone; no zone is UTC). DS_TIME_ZERO for anything else. ns may be NULL. */
int64_t ds_time_parse(struct cs_slice text, int32_t *ns);

#endif
