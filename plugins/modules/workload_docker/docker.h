/* SPDX-License-Identifier: Apache-2.0
 *
 * Parts of the docker attestor: the engine's API, and selectors of what it answers.
 */
#ifndef CS_MODULES_WORKLOAD_DOCKER_DOCKER_H
#define CS_MODULES_WORKLOAD_DOCKER_DOCKER_H

#include "base/clock.h"
#include "plugin/workloadattestor.h"
#include "plugins/modules/http/http.h"

#include <jansson.h>

#define DOCKER_TIMEOUT_NS (10 * CS_NS_PER_S) /* of one request */
#define DOCKER_BODY_MAX ((size_t)8 << 20)
#define DOCKER_ID_MAX 128

/* --- The engine (engine.c) --- */

/* Podman's has the same API. Any thread. */
struct docker_engine;
/* `host`: "unix:///path" or "tcp://host:port"; `version`: of the API, "" the engine's own. CS_INVALID. */
CS_CHECKED cs_code docker_engine_new(const char *host, const char *version, struct docker_engine **out,
                                     struct cs_err *e);
void docker_engine_free(struct docker_engine *d); /* NULL is fine */
static inline void docker_engine_drop(struct docker_engine **d)
{
    docker_engine_free(*d);
    *d = NULL;
}
/* /containers/ID/json and /images/NAME/json: a new reference. Refusals: `Error response from daemon: ...`. */
CS_CHECKED cs_code docker_container(struct docker_engine *d, const char *id, const struct crypto_stop *stop,
                                    json_t **out, struct cs_err *e);
CS_CHECKED cs_code docker_image(struct docker_engine *d, const char *name, const struct crypto_stop *stop,
                                json_t **out, struct cs_err *e);

/* --- Selectors (selectors.c) --- */

/* Of the container as the engine described it: label, env, image_id. *image (borrowed): "" when none is
 * named. CS_UNKNOWN: it is not what it should be. */
CS_CHECKED cs_code docker_add_container(struct workloadattestor_values *out, const json_t *container,
                                        const char **image, struct cs_err *e);
/* image_config_digest, when the image has an ID. */
CS_CHECKED cs_code docker_add_image(struct workloadattestor_values *out, const json_t *image,
                                    struct cs_err *e);

static inline void docker_json_drop(json_t **j) /* for CS_CLEANUP */
{
    json_decref(*j);
    *j = NULL;
}

#endif
