/* SPDX-License-Identifier: Apache-2.0
 *
 * One request to a SCONE CAS: POST /session with the text of a session.
 */
#ifndef CS_MODULES_SCONECAS_CAS_H
#define CS_MODULES_SCONECAS_CAS_H

#include "plugins/modules/http/http.h"
#include "plugins/modules/sconecas/predecessor.h"

enum scone_answer {
    SCONE_CREATED,   /* 201 with a hash */
    SCONE_NOT_FOUND, /* 404: no session has that predecessor */
    SCONE_CONFLICT,  /* there is the session, and the predecessor is not its last version */
    SCONE_OTHER,
};
struct scone_outcome {
    enum scone_answer answer; /* SCONE_OTHER when no answer came */
    int status;               /* HTTP; 0: no answer came */
    char hash[SCONE_HASH_MAX + 1];
};

/* Posts to `url` and says what came of it. CS_OK only with SCONE_CREATED; else the text says what the CAS
 * answered, cut and made printable, but for answers that repeat any of `secret`. Blocking. */
CS_CHECKED cs_code scone_cas_post(struct http_client *c, const char *url, struct cs_slice session,
                                  struct cs_slice secret, int64_t timeout_ns, const struct crypto_stop *stop,
                                  struct scone_outcome *out, struct cs_err *e);

/* What scone_cas_post makes of an answer; for tests and fuzzing. */
CS_CHECKED cs_code scone_cas_read(int status, struct cs_slice body, struct cs_slice secret,
                                  struct scone_outcome *out, struct cs_err *e);

#endif
