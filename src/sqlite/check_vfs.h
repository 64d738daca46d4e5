/*
 * How the limited child sees files through SQLite.
 *
 * SQLite leaves CHECK constraints out of the schema of a database that it can
 * only read, and integrity_check then says nothing about them.  So both views
 * say that the database can be written, although its descriptor is read-only.
 */
#ifndef HOLDFAST_SQLITE_CHECK_VFS_H
#define HOLDFAST_SQLITE_CHECK_VFS_H

/*
 * check_vfs_private: the name of a VFS in which a database opened with
 * SQLITE_OPEN_READONLY is a file that nobody changes: no locks, no journal or
 * WAL beside it, and not in WAL mode, whatever its header says.  Writing to
 * it fails.  Other files are as they are.  NULL if it cannot be registered.
 */
const char *check_vfs_private(void);

/* check_vfs_live: the name of a VFS that is the platform's but for that. */
const char *check_vfs_live(void);

#endif
