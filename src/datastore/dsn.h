/* SPDX-License-Identifier: Apache-2.0
 *
 * The connection string of sqlite3 data stores: a path or a file: URI, with the parameters of SQLite
 * (cache, mode, vfs, ...) and those of the Go driver upstream uses (_busy_timeout, _synchronous, ...).
 */
#ifndef CS_DATASTORE_DSN_H
#define CS_DATASTORE_DSN_H

#include "base/buf.h"

struct ds_dsn {
    struct cs_buf uri;     /* for sqlite3_open_v2 with SQLITE_OPEN_URI */
    struct cs_buf pragmas; /* statements each connection starts with */
    int busy_timeout_ms;   /* 5000 unless the string says otherwise */
};

/* CS_INVALID: `datastore-sql: unsupported scheme "x"`, `datastore-sql: parse ...`,
 * `datastore-sql: Invalid _busy_timeout: ...` and the like. Fill a zeroed struct; free it always. */
CS_CHECKED cs_code ds_dsn_parse(const char *s, struct ds_dsn *out, struct cs_err *e);
void ds_dsn_free(struct ds_dsn *d);

#endif
