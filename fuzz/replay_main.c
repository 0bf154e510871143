/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs a fuzz target over every file of the folders and files named, for builds without libFuzzer.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned long runs;

static int replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        perror(path);
        return 1;
    }
    uint8_t *data = NULL;
    size_t len = 0, cap = 0;
    for (;;) {
        if (len == cap) {
            cap = cap ? cap * 2 : 4096;
            data = realloc(data, cap);
            if (data == NULL)
                abort();
        }
        size_t n = fread(data + len, 1, cap - len, f);
        if (n == 0)
            break;
        len += n;
    }
    fclose(f);
    /* an exact-size copy, so that sanitizers see a read past the end */
    uint8_t *exact = malloc(len ? len : 1);
    if (exact == NULL)
        abort();
    for (size_t i = 0; i < len; i++)
        exact[i] = data[i];
    free(data);
    LLVMFuzzerTestOneInput(exact, len);
    free(exact);
    runs++;
    return 0;
}

static int replay(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        perror(path);
        return 1;
    }
    if (!S_ISDIR(st.st_mode))
        return replay_file(path);
    DIR *d = opendir(path);
    if (d == NULL) {
        perror(path);
        return 1;
    }
    int bad = 0;
    for (struct dirent *ent; (ent = readdir(d)) != NULL;) {
        char name[4096];
        if (ent->d_name[0] == '.')
            continue;
        snprintf(name, sizeof name, "%s/%s", path, ent->d_name);
        bad |= replay_file(name);
    }
    closedir(d);
    return bad;
}

int main(int argc, char **argv)
{
    int bad = argc < 2;
    for (int i = 1; i < argc; i++)
        bad |= replay(argv[i]);
    printf("%lu inputs replayed\n", runs);
    return bad || runs == 0;
}
