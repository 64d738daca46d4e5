/*
 * The commands.  Each takes its own arguments (argv[0] is what messages call
 * it, "holdfast restore") and returns the exit status.
 */
#ifndef HOLDFAST_CLI_CLI_H
#define HOLDFAST_CLI_CLI_H

int cli_backup(int argc, char **argv);
int cli_databases(int argc, char **argv);
int cli_delete(int argc, char **argv);
int cli_download(int argc, char **argv);
int cli_key(int argc, char **argv);
int cli_list(int argc, char **argv);
int cli_restore(int argc, char **argv);
int cli_serve(int argc, char **argv);
int cli_user(int argc, char **argv);
int cli_verify(int argc, char **argv);

#endif
