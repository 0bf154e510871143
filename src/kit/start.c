/* SPDX-License-Identifier: Apache-2.0
 *
 * Environment and socket of a plugin.
 */
#include "kit/start.h"

#include "base/text.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool kit_versions_have(const char *list, unsigned version)
{
    if (list == NULL || list[0] == '\0')
        return true;
    for (const char *p = list; p != NULL;) {
        const char *comma = strchr(p, ',');
        size_t len = comma != NULL ? (size_t)(comma - p) : strlen(p);
        int64_t n;
        if (cs_parse_i64(cs_slice_of(p, len), &n, NULL) == CS_OK && n == (int64_t)version)
            return true;
        p = comma != NULL ? comma + 1 : NULL;
    }
    return false;
}

static cs_code group_id(const char *group, gid_t *out, struct cs_err *e)
{
    int64_t n;
    if (cs_parse_i64(cs_slice_str(group), &n, NULL) == CS_OK && n >= 0 && n < (int64_t)(gid_t)-1) {
        *out = (gid_t)n;
        return CS_OK;
    }
    char mem[4096];
    struct group g, *found = NULL;
    int err = getgrnam_r(group, &g, mem, sizeof mem, &found);
    if (err != 0)
        return cs_fail_errno(e, CS_INTERNAL, err, "group %s", group);
    if (found == NULL)
        return cs_fail(e, CS_INVALID, "group %s does not exist", group);
    *out = found->gr_gid;
    return CS_OK;
}

static cs_code let_group(const char *path, const char *group, mode_t mode, struct cs_err *e)
{
    gid_t gid;
    if (group == NULL || group[0] == '\0')
        return CS_OK;
    CS_TRY(group_id(group, &gid, e));
    if (chown(path, (uid_t)-1, gid) != 0 || chmod(path, mode) != 0)
        return cs_fail_errno(e, CS_INTERNAL, errno, "give %s to group %s", path, group);
    return CS_OK;
}

cs_code kit_socket_new(const char *dir, const char *group, struct kit_socket *out, struct cs_err *e)
{
    *out = (struct kit_socket){.folder = ""};
    if (dir == NULL || dir[0] == '\0')
        dir = getenv("TMPDIR");
    if (dir == NULL || dir[0] == '\0')
        dir = "/tmp";
    char folder[KIT_PATH_MAX];
    int n = snprintf(folder, sizeof folder, "%s/cspire-plugin-XXXXXX", dir);
    if (n < 0 || (size_t)n + sizeof "/s" > sizeof out->path)
        return cs_fail(e, CS_INVALID, "the path of a socket in %s would be too long", dir);
    if (mkdtemp(folder) == NULL)
        return cs_fail_errno(e, CS_INTERNAL, errno, "make a folder for the socket in %s", dir);
    memcpy(out->folder, folder, sizeof folder);
    snprintf(out->path, sizeof out->path, "%.*s/s", KIT_PATH_MAX - 3, folder);
    cs_code code = let_group(out->folder, group, 0750, e);
    if (code != CS_OK)
        kit_socket_remove(out);
    return code;
}

cs_code kit_socket_share(const struct kit_socket *s, const char *group, struct cs_err *e)
{
    return let_group(s->path, group, 0660, e);
}

void kit_socket_remove(const struct kit_socket *s)
{
    if (s->folder[0] == '\0')
        return;
    (void)unlink(s->path);
    (void)rmdir(s->folder);
}
