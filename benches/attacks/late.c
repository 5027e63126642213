/* Serves the listings of folders late, as some clients of network shares do: a file that another process has made in one of the folders of $LATE_FOLDERS is
 * not listed before it is $LATE_SECONDS old. To be preloaded. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char own[256][PATH_MAX];
static int own_count;

/* What this process has renamed into its place is its own, and it lists that at once. */
static void note(const char *path) {
    const char *name = strrchr(path, '/');
    if (own_count < 256) snprintf(own[own_count++], PATH_MAX, "%s", name ? name + 1 : path);
}

int rename(const char *from, const char *to) {
    static int (*next)(const char *, const char *);
    if (!next) next = dlsym(RTLD_NEXT, "rename");
    note(to);
    return next(from, to);
}

static int is_late(DIR *dir, const char *name) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd(dir));
    ssize_t len = readlink(link, path, sizeof path - 1);
    if (len < 0) return 0;
    path[len] = 0;
    const char *folder = strrchr(path, '/'), *folders = getenv("LATE_FOLDERS"), *seconds = getenv("LATE_SECONDS");
    char wanted[300];
    snprintf(wanted, sizeof wanted, " %.250s ", folder ? folder + 1 : path);
    if (!folders || !seconds || !strstr(folders, wanted)) return 0;
    for (int n = 0; n < own_count; n++) if (!strcmp(own[n], name)) return 0;
    struct stat stat;
    if (fstatat(dirfd(dir), name, &stat, AT_SYMLINK_NOFOLLOW) || !S_ISREG(stat.st_mode)) return 0;
    return time(NULL) - stat.st_mtime < atoi(seconds);
}

struct dirent64 *readdir64(DIR *dir) {
    static struct dirent64 *(*next)(DIR *);
    if (!next) next = dlsym(RTLD_NEXT, "readdir64");
    struct dirent64 *entry;
    while ((entry = next(dir)) && is_late(dir, entry->d_name)) {}
    return entry;
}
