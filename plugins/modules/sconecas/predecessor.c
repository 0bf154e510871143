/* SPDX-License-Identifier: Apache-2.0 */
#include "plugins/modules/sconecas/predecessor.h"

#include "base/file.h"
#include "base/mem.h"

#include <ctype.h>

#define PART_MAX 240 /* a file's name may have 255 bytes, and is written beside with some more */
#define FILE_MAX_BYTES 4096

static bool part_ok(struct cs_slice part)
{
    if (part.len == 0 || part.len > PART_MAX || cs_slice_is(part, ".") || cs_slice_is(part, ".."))
        return false;
    for (size_t i = 0; i < part.len; i++)
        if (part.data[i] < 0x20 || part.data[i] == 0x7f)
            return false;
    return true;
}

cs_code scone_name_check(const char *name, struct cs_err *e)
{
    const size_t len = strlen(name);
    bool ok = len > 0 && len <= SCONE_SESSION_NAME_MAX;
    for (const char *p = name; ok && p != NULL;) {
        const char *slash = strchr(p, '/');
        ok = part_ok(cs_slice_of(p, slash != NULL ? (size_t)(slash - p) : strlen(p)));
        p = slash != NULL ? slash + 1 : NULL;
    }
    return ok ? CS_OK : cs_fail(e, CS_INVALID, "\"%.200s\" cannot be the name of a session", name);
}

bool scone_hash_ok(struct cs_slice hash)
{
    if (hash.len == 0 || hash.len > SCONE_HASH_MAX)
        return false;
    for (size_t i = 0; i < hash.len; i++)
        if (hash.data[i] > 0x7f || !isalnum(hash.data[i]))
            return false;
    return true;
}

char *scone_predecessor_path(const char *dir, const char *name)
{
    return cs_asprintf("%s/%s", dir, name);
}

cs_code scone_predecessor_read(const char *dir, const char *name, char hash[SCONE_HASH_MAX + 1],
                               struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    CS_CLEANUP(cs_freep) char *path = scone_predecessor_path(dir, name);
    hash[0] = '\0';
    if (path == NULL)
        return cs_nomem(e);
    CS_TRY(cs_file_read(path, FILE_MAX_BYTES, &text, e));
    struct cs_slice s = cs_buf_slice(&text);
    while (s.len > 0 && isspace(s.data[0]))
        s = cs_slice_of(s.data + 1, s.len - 1);
    while (s.len > 0 && isspace(s.data[s.len - 1]))
        s.len--;
    if (!scone_hash_ok(s))
        return cs_fail(e, CS_INVALID, "%s holds no hash of a session", path);
    memcpy(hash, s.data, s.len);
    hash[s.len] = '\0';
    return CS_OK;
}

cs_code scone_predecessor_write(const char *dir, const char *name, const char *hash, struct cs_err *e)
{
    CS_CLEANUP(cs_freep) char *path = scone_predecessor_path(dir, name);
    if (path == NULL)
        return cs_nomem(e);
    char *slash = strrchr(path, '/');
    *slash = '\0';
    cs_code rc = cs_mkdir_all(path, 0700, e);
    *slash = '/';
    return rc == CS_OK ? cs_file_write_atomic(path, cs_slice_str(hash), 0600, e) : rc;
}
