/* SPDX-License-Identifier: Apache-2.0
 *
 * The key file of KeyManager "disk", as any bytes.
 */
#include "plugin/keymanager.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

extern const struct plugin_builtin plugin_keymanager_disk;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static cs_code use_key(void *arg, const char *id, struct crypto_signer *key, struct cs_err *e)
{
    (void)arg, (void)e;
    /* What was read must be whole. */
    if (id == NULL || crypto_pub_spki(crypto_signer_pub(key)).len == 0)
        __builtin_trap();
    return CS_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct plugin_env env = {
        .clock = &cs_clock_system, .trust_domain = "example.org", .data_dir = "."};
    int fd = memfd_create("keys", 0);
    if (fd < 0)
        return 0;
    char config[64];
    snprintf(config, sizeof config, "keys_path = \"/proc/self/fd/%d\"", fd);
    void *self = NULL;
    if (write(fd, data, size) == (ssize_t)size && plugin_keymanager_disk.create(&env, &self, NULL) == CS_OK) {
        struct cs_err e;
        if (plugin_keymanager_disk.configure(self, cs_slice_str(config), &e) == CS_OK) {
            const struct keymanager_ops *ops = plugin_keymanager_disk.ops;
            if (ops->each_key(self, use_key, NULL, &e) != CS_OK)
                __builtin_trap();
        }
        plugin_keymanager_disk.destroy(self);
    }
    close(fd);
    return 0;
}
