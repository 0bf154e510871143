/* SPDX-License-Identifier: Apache-2.0
 *
 * agent_path_template of NodeAttestor "nitro_enclave": text with fields `{{ .Name }}`, the part of SPIRE's
 * agent path templates (Go's text/template) that needs no functions.
 */
#ifndef CS_PLUGINS_NITRO_PATH_H
#define CS_PLUGINS_NITRO_PATH_H

#include "plugins/shared/nitro/document.h"

#define NITRO_PATH_TEMPLATE_MAX 512 /* bytes */

/* Is it a template whose every field is known, and that gives a path? CS_INVALID naming what is wrong.
 * *names_image (may be NULL): whether PCR0 is one of its fields. Any thread. */
CS_CHECKED cs_code nitro_path_check(const char *template, bool *names_image, struct cs_err *e);
/* Append the path for a document. CS_DENIED when the document lacks a field, or a field makes no part of a
 * path. Any thread. */
CS_CHECKED cs_code nitro_path_render(const char *template, const struct nitro_document *d, struct cs_buf *out,
                                     struct cs_err *e);

#endif
