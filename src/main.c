/*
 * holdfast: which command it is, and what every command needs of the process.
 * The commands start the helper for limited children themselves, before they
 * have any thread; those that only ask a server need none.
 */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/cli_error.h"
#include "sqlite/sq.h"

static const struct command {
    const char *name;
    const char *arguments;
    const char *summary;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"serve", "--data DIR", "serve the HTTP API", cli_serve},
    {"backup", "", "make a backup of a database in use", cli_backup},
    {"list", "", "list the backups, newest first", cli_list},
    {"restore", "FILE", "put a backup into the database in use", cli_restore},
    {"download", "FILE", "take a copy of a backup", cli_download},
    {"delete", "FILE", "delete a backup", cli_delete},
    {"verify", "FILE", "read a backup back and check it", cli_verify},
    {"databases", "[VERB]", "list, add, remove and choose databases",
     cli_databases},
    {"key", "[VERB]", "list, create and revoke keys for programs", cli_key},
    {"user", "set NAME", "set the account's name and password", cli_user},
};

#define N_COMMANDS (sizeof commands / sizeof commands[0])

static void print_help(void)
{
    (void)puts("Usage: holdfast COMMAND [OPTION...]\n"
               "       holdfast --version | --help\n"
               "\n"
               "Backups of SQLite databases in use, and restores into them.\n"
               "\n"
               "Commands:");
    for (size_t i = 0; i < N_COMMANDS; i++)
        (void)printf("  %-9s %-10s  %s\n", commands[i].name,
                     commands[i].arguments, commands[i].summary);
    (void)puts(
        "\n"
        "Every command but serve, key and user works through a server "
        "(--server URL, "
        "or\nHOLDFAST_SERVER; default http://127.0.0.1:8080) or straight "
        "on a data directory\n(--data DIR, or HOLDFAST_DATA).  More "
        "with holdfast COMMAND --help, and in\nholdfast(1).\n"
        "\n"
        "Exit status:");
    cli_exit_table(stdout);
}

static void print_version(void)
{
    (void)printf("holdfast %s (SQLite %s)%s\n", HOLDFAST_VERSION, sq_version(),
#ifdef HOLDFAST_TEST
                 ", test build"
#else
                 ""
#endif
    );
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    return NULL;
}

static int dispatch(int argc, char **argv)
{
    const struct command *c;
    char called[32];

    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        print_help();
        return CLI_OK;
    }
    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        print_version();
        return CLI_OK;
    }
    c = argc > 1 ? find_command(argv[1]) : NULL;
    if (c == NULL) {
        (void)fprintf(stderr, "holdfast: %s%s\nTry 'holdfast --help'.\n",
                      argc > 1 ? "there is no command " : "which command?",
                      argc > 1 ? argv[1] : "");
        return CLI_USAGE;
    }
    (void)snprintf(called, sizeof called, "holdfast %s", c->name);
    argv[1] = called;
    return c->run(argc - 1, argv + 1);
}

/* A file opened as descriptor 2 would get the next message written into it. */
static void fill_standard_descriptors(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        (void)close(fd);
}

int main(int argc, char **argv)
{
    int status;

    fill_standard_descriptors();
    (void)signal(SIGPIPE, SIG_IGN);
    argp_err_exit_status = CLI_USAGE;
    status = dispatch(argc, argv);
    /* An answer that did not get out is none; who closed the pipe knows. */
    if (fflush(stdout) != 0 || ferror(stdout)) {
        if (errno != EPIPE)
            (void)fprintf(stderr, "holdfast: cannot write to stdout: %s\n",
                          strerror(errno));
        return status != CLI_OK ? status : CLI_FAILED;
    }
    return status;
}
