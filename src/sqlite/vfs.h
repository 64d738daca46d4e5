/*
 * Our VFS: SQLite's own "unix" with one addition.  A database's -wal, -shm
 * and -journal are made as the owner of the database file, so that even when
 * we die the moment after, an application under another user can open them.
 * (SQLite gives such files to the owner too, but in a second step.)
 */
#ifndef HOLDFAST_SQLITE_VFS_H
#define HOLDFAST_SQLITE_VFS_H

#include "base/err.h"

/* vfs_register: make it the process's default; more than once is harmless. */
int vfs_register(struct err *e);

/*
 * vfs_unix: SQLite's own VFS, which from then on opens files by
 * file_open_straight.  A database's folder belongs to others, who could put
 * a symlink or a FIFO where its -wal or -journal belongs.  NULL if SQLite has
 * none.
 */
struct sqlite3_vfs *vfs_unix(void);

#endif
