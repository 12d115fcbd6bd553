/* SPDX-License-Identifier: BSD-3-Clause */
/* uring: its sleep, and where it is forbidden. Data: file_test.c. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "file.h"
#include "unit.h"

#define LEN (1u << 20)

/* What went out before the announcement wakes a reactor as well. */
static void
wakes_for_all(void **state)
{
	enum { N = 64 };
	struct unit_io *u = calloc(N, sizeof(*u));
	char *mem = aligned_alloc(4096, 4096);
	unsigned done = 0;
	struct unit_dev d;
	struct unit_ctl c;
	struct file_queue *q;
	uint64_t n;

	memset(mem, 1, 4096);
	assert_int_equal(unit_disk("a", unit_file("k", LEN), 512, &c), 0);
	unit_open(&d, "a");
	q = ((struct file_ch *)bdev_ch_priv(d.ch))->q;
	for (unsigned i = 0; i < N; i++) {
		unit_io(&u[i], d.ch, BDEV_WRITE, i * 4096, mem, 4096);
		bdev_submit(&u[i].io);
	}
	while (q->queued)
		bdev_kick();
	while (done < N) {
		if (bdev_sleep() == REACTOR_SLEEP_FOREVER) {
			while (q->inflight && read(q->efd.fd, &n, sizeof(n)) <
						      0) /* or hangs here */
				usleep(10);
		}
		bdev_wake();
		reactor_step(reactor_get(0)); /* workers' */
		bdev_reap();
		done = 0;
		for (unsigned i = 0; i < N; i++)
			done += u[i].done;
		if (!q->inflight)
			usleep(10);
	}
	unit_close(&d);
	free(mem);
	free(u);
}

/* From now on that system call ends with @err, for this process. */
static void
forbid(unsigned call, int err)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)err),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { ARRAY_SIZE(code), code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
		_exit(77);
}

/* Where it is forbidden, as in a container, the answer says so. */
static void
may_be_forbidden(void **state)
{
	static const struct {
		int err;
		const char *says;
	} cases[] = { { EPERM, "kernel.io_uring_disabled" },
		      { ENOSYS, "this kernel has no io_uring" },
		      { ENOMEM, "bdev_aio_create" } };
	struct unit_ctl u;
	int status;

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		pid_t pid = fork();

		if (!pid) {
			forbid(__NR_io_uring_setup, cases[i].err);
			_exit(uring_engine_room(unit_ctl(&u)) !=
				      -cases[i].err ||
			      !strstr(u.c.error, cases[i].says));
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (status)
			fail_msg("%s", cases[i].says);
	}
}

int
uring_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(wakes_for_all, unit_setup,
						unit_teardown),
		cmocka_unit_test(may_be_forbidden),
	};
	int failed = 0;

	if (unit_choose(UNIT_URING))
		failed = cmocka_run_group_tests_name("bdev/uring alone", tests,
						     NULL, NULL);
	unit_choose(UNIT_AIO);
	return failed;
}
