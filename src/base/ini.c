/*
 * INI files: see ini.h.
 *
 * libinih reads through read_line, which counts the lines, refuses those that
 * do not fit its buffer (it would take the rest for a line of its own), and
 * reports section headings, which libinih keeps to itself.
 */
#include "base/ini.h"

#include <errno.h>
#include <ini.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct ini {
    FILE *file;
    ini_set *set;
    void *arg;
    struct err *e;
    int line;
    int failed_line; /* 0: none */
};

static void fail(struct ini *ini)
{
    ini->failed_line = ini->line;
}

static void report_section(struct ini *ini, const char *line)
{
    char name[128];
    const char *end = strchr(line, ']');
    size_t n = end == NULL ? 0 : (size_t)(end - line - 1);

    if (end == NULL || n >= sizeof name)
        return; /* libinih says what is wrong with it, or its keys do */
    memcpy(name, line + 1, n);
    name[n] = '\0';
    if (ini->set(ini->arg, name, NULL, NULL, ini->e) != 0)
        fail(ini);
}

static char *read_line(char *line, int size, void *arg)
{
    struct ini *ini = arg;
    size_t n;

    /* After an error libinih is told that the file ends here. */
    if (ini->failed_line != 0 || fgets(line, size, ini->file) == NULL)
        return NULL;
    ini->line++;
    n = strlen(line);
    if (n > 0 && line[n - 1] != '\n' && !feof(ini->file)) {
        (void)err_set(ini->e, ERR_BAD_REQUEST,
                      "the line is longer than %d bytes, or holds a NUL byte",
                      size - 3);
        fail(ini);
        return NULL;
    }
    if (line[0] == '[')
        report_section(ini, line);
    return line;
}

static int take_value(void *arg, const char *section, const char *key,
                      const char *value)
{
    struct ini *ini = arg;

    if (ini->failed_line != 0)
        return 0;
    if (ini->set(ini->arg, section, key, value, ini->e) != 0) {
        fail(ini);
        return 0;
    }
    return 1;
}

int ini_read(const char *path, ini_set *set, void *arg, struct err *e)
{
    struct ini ini = {.set = set, .arg = arg, .e = e};
    int bad_line;
    bool unread;

    ini.file = fopen(path, "re");
    if (ini.file == NULL && errno == ENOENT)
        return err_set(e, ERR_NOT_FOUND, "no such file: %s", path);
    if (ini.file == NULL)
        return err_sys(e, "cannot open %s", path);
    bad_line = ini_parse_stream(read_line, &ini, take_value, &ini);
    unread = ferror(ini.file) != 0;
    if (unread)
        (void)err_sys(e, "cannot read %s", path);
    (void)fclose(ini.file);
    if (unread)
        return -1;
    if (ini.failed_line != 0 && (bad_line <= 0 || ini.failed_line <= bad_line))
        return err_wrap(e, "%s:%d", path, ini.failed_line);
    if (bad_line > 0)
        return err_set(e, ERR_BAD_REQUEST,
                       "%s:%d: neither a [section] nor key = value", path,
                       bad_line);
    if (bad_line < 0)
        return err_set(e, ERR_INTERNAL, "cannot parse %s", path);
    return 0;
}
