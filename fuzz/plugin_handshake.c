/* SPDX-License-Identifier: Apache-2.0
 *
 * The first line of a plugin: what is taken has an address that is safe to connect to, and the text of what
 * is not can be shown.
 */
#include "plugin/handshake.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct plugin_handshake h;
    struct cs_err e = {0};
    if (plugin_handshake_parse(cs_slice_of(data, size), &h, &e) != CS_OK) {
        if (h.address[0] != '\0' || e.text[0] == '\0')
            abort();
        return 0;
    }
    if (h.address[0] == '\0' || memchr(h.address, '\0', sizeof h.address) == NULL)
        abort();
    if (h.tcp && strncmp(h.address, "127.", 4) != 0 && h.address[0] != '[')
        abort();
    return 0;
}
