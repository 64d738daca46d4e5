/*
 * seccomp: the system calls that SQLite and the C library need for files,
 * memory and time.  Everything else fails with EPERM, which SQLite takes as
 * any other failure; what only an intruder would try ends the child.
 *
 * The filter is put together in memory: check the processor's ABI, then one
 * comparison per call.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guard/guard_internal.h"

#if defined(__x86_64__)
#define FILTER_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define FILTER_ARCH AUDIT_ARCH_AARCH64
#endif

#ifdef FILTER_ARCH

#define MAX_FILTER 512

/* Most frequent first: the filter is read from the top. */
static const int allowed[] = {
    __NR_pread64,
    __NR_pwrite64,
    __NR_fcntl,
    __NR_fstat,
    __NR_read,
    __NR_write,
    __NR_lseek,
    __NR_brk,
    __NR_munmap,
    __NR_mremap,
    __NR_madvise,
    __NR_futex,
    __NR_newfstatat,
    __NR_statx,
    __NR_openat,
    __NR_close,
    __NR_ftruncate,
    __NR_fsync,
    __NR_fdatasync,
    __NR_unlinkat,
    __NR_faccessat,
    __NR_faccessat2,
    __NR_readlinkat,
    __NR_getcwd,
    __NR_clock_gettime,
    __NR_clock_getres,
    __NR_clock_nanosleep,
    __NR_nanosleep,
    __NR_gettimeofday,
    __NR_getpid,
    __NR_gettid,
    __NR_getuid,
    __NR_geteuid,
    __NR_getgid,
    __NR_getegid,
    __NR_getrandom,
    __NR_rt_sigaction,
    __NR_rt_sigprocmask,
    __NR_rt_sigreturn,
    __NR_sigaltstack,
    __NR_restart_syscall,
    __NR_sched_yield,
    __NR_exit,
    __NR_exit_group,
/* The older names, which aarch64 does not have. */
#ifdef __NR_open
    __NR_open,
    __NR_stat,
    __NR_lstat,
    __NR_access,
    __NR_readlink,
    __NR_unlink,
    __NR_time,
#endif
};

static const int fatal[] = {
    __NR_execve,
    __NR_execveat,
    __NR_ptrace,
    __NR_socket,
    __NR_socketpair,
    __NR_process_vm_readv,
    __NR_process_vm_writev,
};

struct filter {
    struct sock_filter code[MAX_FILTER];
    unsigned short n;
};

static void put(struct filter *f, struct sock_filter op)
{
    f->code[f->n++] = op;
}

static void load(struct filter *f, size_t offset)
{
    put(f, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                        (uint32_t)offset));
}

/* Skip `n` instructions unless the loaded word is `value`. */
static void unless_equal(struct filter *f, uint32_t value, uint8_t n)
{
    put(f,
        (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, n));
}

static void verdict(struct filter *f, uint32_t value)
{
    put(f, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, value));
}

static void refuse(struct filter *f)
{
    verdict(f, SECCOMP_RET_ERRNO | EPERM);
}

/* The low half of an argument: both processors are little-endian. */
static size_t arg(int i)
{
    return offsetof(struct seccomp_data, args) + (size_t)i * sizeof(uint64_t);
}

static void check_abi(struct filter *f)
{
    load(f, offsetof(struct seccomp_data, arch));
    unless_equal(f, FILTER_ARCH, 1);
    put(f, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 1));
    verdict(f, SECCOMP_RET_KILL_PROCESS);
    load(f, offsetof(struct seccomp_data, nr));
#ifdef __x86_64__
    /* The x32 ABI has the same processor code and other call numbers. */
    put(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000,
                                        0, 1));
    verdict(f, SECCOMP_RET_KILL_PROCESS);
#endif
}

/* Memory yes, but none that can be executed. */
static void allow_without_exec(struct filter *f, int nr)
{
    unless_equal(f, (uint32_t)nr, 4);
    load(f, arg(2));
    put(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC,
                                        0, 1));
    refuse(f);
    verdict(f, SECCOMP_RET_ALLOW);
}

/* Signals to itself, for abort(). */
static void allow_own_signals(struct filter *f)
{
    unless_equal(f, __NR_tgkill, 4);
    load(f, arg(0));
    unless_equal(f, (uint32_t)getpid(), 1);
    verdict(f, SECCOMP_RET_ALLOW);
    refuse(f);
}

static void build(struct filter *f)
{
    f->n = 0;
    check_abi(f);
    for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++) {
        unless_equal(f, (uint32_t)fatal[i], 1);
        verdict(f, SECCOMP_RET_KILL_PROCESS);
    }
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++) {
        unless_equal(f, (uint32_t)allowed[i], 1);
        verdict(f, SECCOMP_RET_ALLOW);
    }
    allow_without_exec(f, __NR_mmap);
    allow_without_exec(f, __NR_mprotect);
    allow_own_signals(f);
    refuse(f);
}

_Static_assert(
    2 * (sizeof allowed / sizeof *allowed + sizeof fatal / sizeof *fatal) + 32 <
        MAX_FILTER,
    "the filter fits");

int guard_seccomp_enter(struct err *e)
{
    struct filter f;
    struct sock_fprog prog = {.filter = f.code};

    if (prctl(PR_GET_SECCOMP) < 0) /* a kernel built without seccomp */
        return 0;
    build(&f);
    prog.len = f.n;
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) != 0)
        return err_sys(e, "cannot enter the seccomp filter");
    return 0;
}

#else

int guard_seccomp_enter(struct err *e)
{
    (void)e;
    return 0;
}

#endif
