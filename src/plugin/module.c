/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening modules. Whoever can write a module, or put another in its place, is this program; so it is held to
 * what one expects of the program's own file, and neither LD_LIBRARY_PATH nor the working folder has a say.
 */
#include "plugin/module.h"

#include "base/mem.h"
#include "build_stamp.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

const char *plugin_build_stamp(void)
{
    return CSPIRE_BUILD_STAMP;
}

#ifdef CSPIRE_STATIC

cs_code plugin_module_plugin(const char *module, const char *program, const char *type, const char *name,
                             const struct plugin_builtin **out, struct cs_err *e)
{
    return plugin_module_plugin_in("", module, program, type, name, out, e);
}

cs_code plugin_module_plugin_in(const char *folder, const char *module, const char *program, const char *type,
                                const char *name, const struct plugin_builtin **out, struct cs_err *e)
{
    (void)folder, (void)module, (void)program, (void)type;
    *out = NULL;
    return cs_fail(e, CS_UNIMPLEMENTED, "plugin \"%s\" needs a module, which the static build cannot load",
                   name);
}

#else

/* --- Whether a file may become part of this process --- */

/* Who could change the program itself anyway: root, who runs it, who owns its file. */
static bool is_trusted_owner(uid_t owner)
{
    struct stat self;
    return owner == 0 || owner == geteuid() || (stat("/proc/self/exe", &self) == 0 && owner == self.st_uid);
}

static cs_code check_path(const char *path, mode_t kind, struct cs_err *e)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return cs_fail_errno(e, errno == ENOENT || errno == ENOTDIR ? CS_NOT_FOUND : CS_DENIED, errno,
                             "stat %s", path);
    if ((st.st_mode & S_IFMT) != kind)
        return cs_fail(e, CS_DENIED, "%s is not a %s", path, kind == S_IFDIR ? "folder" : "file");
    if (!is_trusted_owner(st.st_uid))
        return cs_fail(e, CS_DENIED,
                       "%s belongs to user %u, who neither runs this program nor owns it, nor is root", path,
                       (unsigned)st.st_uid);
    if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return cs_fail(e, CS_DENIED, "%s may be written by others than its owner", path);
    return CS_OK;
}

/* The file with links followed, as it will be opened, and the folder it then lies in. */
static cs_code check_module(const char *path, char real[PATH_MAX], struct cs_err *e)
{
    char folder[PATH_MAX];
    if (realpath(path, real) == NULL)
        return cs_fail_errno(e, errno == ENOENT || errno == ENOTDIR ? CS_NOT_FOUND : CS_DENIED, errno,
                             "open %s", path);
    memcpy(folder, real, sizeof folder);
    *strrchr(folder, '/') = '\0';
    CS_TRY(check_path(folder[0] != '\0' ? folder : "/", S_IFDIR, e));
    return check_path(real, S_IFREG, e);
}

/* --- Opening --- */

static cs_code open_module(const char *path, const struct plugin_module **out, struct cs_err *e)
{
    char real[PATH_MAX];
    CS_TRY(check_module(path, real, e));
    /* Never closed: its libraries have threads, hooks at exit and memory of their own. */
    void *handle = dlopen(real, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) {
        const char *why = dlerror();
        return cs_fail(e, CS_PRECONDITION, "%s", why != NULL ? why : real);
    }
    const struct plugin_module *m = dlsym(handle, PLUGIN_MODULE_SYMBOL);
    if (m == NULL || memcmp(m->magic, PLUGIN_MODULE_MAGIC, sizeof PLUGIN_MODULE_MAGIC) != 0)
        return cs_fail(e, CS_PRECONDITION, "%s is not a module", real);
    if (strcmp(m->build, plugin_build_stamp()) != 0)
        return cs_fail(e, CS_PRECONDITION, "%s is of another build (%.64s) than this program (%s)", real,
                       m->build, plugin_build_stamp());
    *out = m;
    return CS_OK;
}

static cs_code find_plugin(const struct plugin_module *m, const char *program, const char *type,
                           const char *name, const struct plugin_builtin **out, struct cs_err *e)
{
    for (size_t i = 0; i < m->count; i++) {
        const struct plugin_module_entry *x = &m->entries[i];
        if (strcmp(x->program, program) == 0 && strcmp(x->type, type) == 0 &&
            strcmp(x->plugin->name, name) == 0) {
            *out = x->plugin;
            return CS_OK;
        }
    }
    return cs_fail(e, CS_INTERNAL, "it has no plugin \"%s\" for type \"%s\"", name, type);
}

cs_code plugin_module_plugin_in(const char *folder, const char *module, const char *program, const char *type,
                                const char *name, const struct plugin_builtin **out, struct cs_err *e)
{
    const struct plugin_module *m = NULL;
    *out = NULL;
    CS_CLEANUP(cs_freep) char *path = cs_asprintf("%s/%s.so", folder, module);
    if (path == NULL)
        return cs_nomem(e);
    cs_code rc = open_module(path, &m, e);
    if (rc == CS_OK)
        rc = find_plugin(m, program, type, name, out, e);
    return rc == CS_OK ? CS_OK : cs_wrap(e, "module \"%s\"", module);
}

/* "/usr/bin/spire-server" -> "/usr/bin/../lib/cspire" */
static cs_code folder_beside(char out[PATH_MAX], struct cs_err *e)
{
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n <= 0)
        return cs_fail_errno(e, CS_INTERNAL, errno,
                             "where this program is, and its modules beside it: readlink /proc/self/exe");
    exe[n] = '\0';
    char *slash = strrchr(exe, '/');
    if (slash == NULL)
        return cs_fail(e, CS_INTERNAL, "this program's file has no folder");
    *slash = '\0';
    if ((size_t)snprintf(out, PATH_MAX, "%s/../lib/cspire", exe) >= PATH_MAX)
        return cs_fail(e, CS_INTERNAL, "the path of this program's file is too long");
    return CS_OK;
}

cs_code plugin_module_plugin(const char *module, const char *program, const char *type, const char *name,
                             const struct plugin_builtin **out, struct cs_err *e)
{
    char beside[PATH_MAX];
    struct cs_err local;
    e = e != NULL ? e : &local;
    *out = NULL;
    CS_TRY(folder_beside(beside, e));
    cs_code rc = plugin_module_plugin_in(beside, module, program, type, name, out, e);
    if (rc != CS_NOT_FOUND)
        return rc;
    rc = plugin_module_plugin_in(CSPIRE_MODULE_DIR, module, program, type, name, out, e);
    if (rc != CS_NOT_FOUND)
        return rc;
    return cs_fail(e, rc, "module \"%s\": no %s.so in %s or " CSPIRE_MODULE_DIR, module, module, beside);
}

#endif
