/* SPDX-License-Identifier: BSD-3-Clause */
/* The path: who may have it, what stays behind. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "unit.h"

static char at[160];

static int
try_bind(const char *name, unsigned mode, struct stat *st)
{
	struct vu_listener_config cfg = {
		.path = at, .mode = mode, .uid = -1, .gid = -1
	};

	if (name) {
		strcpy(at, listen_path);
		strcpy(strrchr(at, '/') + 1, name);
	}
	return vu_sock_bind(&cfg, st);
}

/* What a daemon that died leaves: a bound socket that nobody listens on. */
static void
leave_dead(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	memcpy(addr.sun_path, at, strlen(at) + 1);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd);
}

static void
test_taken(void **state)
{
	struct stat st;

	assert_int_equal(try_bind("cntrl", 0, &st), -EADDRINUSE);
	close(client_start(NULL)); /* it did no harm, and no probe stays */
	until(!fake.opened);
}

static void
test_dead(void **state)
{
	struct stat st;
	int fd = try_bind("dead", 0, &st);

	assert_true(fd >= 0);
	close(fd);
	fd = try_bind(NULL, 0, &st);
	assert_true(fd >= 0);
	close(fd);
	unlink(at);
	leave_dead();
	fd = try_bind(NULL, 0640, &st);
	assert_true(fd >= 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	close(fd);
	unlink(at);
}

static void
test_modes(void **state)
{
	struct stat st;
	mode_t mask = umask(0);
	int fd = try_bind("mode", 0, &st);

	umask(mask);
	assert_true(fd >= 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_true(S_ISSOCK(st.st_mode));
	close(fd);
	unlink(at);
}

static void
test_refused(void **state)
{
	struct stat st;
	int fd, lock;

	/* something that is no socket is not touched */
	strcpy(strrchr(strcpy(at, listen_path), '/') + 1, "file");
	fd = open(at, O_CREAT | O_WRONLY, 0600);
	close(fd);
	assert_int_equal(try_bind(NULL, 0, &st), -EEXIST);
	assert_int_equal(access(at, F_OK), 0);
	unlink(at);
	assert_int_equal(symlink("nowhere", at), 0);
	assert_int_equal(try_bind(NULL, 0, &st), -EEXIST);
	unlink(at);
	assert_int_equal(try_bind("no/such/dir", 0, &st), -ENOENT);
	assert_int_equal(try_bind("0123456789012345678901234567890123456789"
				  "0123456789012345678901234567890123456789"
				  "012345678901234567890123456789",
				  0, &st),
			 -ENAMETOOLONG);
	at[0] = '\0';
	assert_int_equal(try_bind(NULL, 0, &st), -EINVAL);
	/* another daemon is looking at the same directory just now */
	*strrchr(strcpy(at, listen_path), '/') = '\0';
	lock = open(at, O_RDONLY | O_DIRECTORY);
	assert_int_equal(flock(lock, LOCK_EX), 0);
	assert_int_equal(try_bind("locked", 0, &st), -EADDRINUSE);
	close(lock);
}

/* Another daemon's socket at our path is not ours to unlink. */
static void
test_unlink_own(void **state)
{
	struct stat st, other;
	int fd = try_bind("own", 0, &st), fd2;

	assert_true(fd >= 0);
	unlink(at);
	fd2 = try_bind(NULL, 0, &other);
	assert_true(fd2 >= 0);
	if (st.st_ino != other.st_ino) {
		vu_sock_unlink(at, st.st_dev, st.st_ino);
		assert_int_equal(access(at, F_OK), 0);
	}
	vu_sock_unlink(at, other.st_dev, other.st_ino);
	assert_int_not_equal(access(at, F_OK), 0);
	close(fd);
	close(fd2);
}

#define T(f) cmocka_unit_test_setup_teardown(f, unit_setup, unit_teardown)

int
listen_tests(void)
{
	const struct CMUnitTest tests[] = {
		T(test_taken),	 T(test_dead),	     T(test_modes),
		T(test_refused), T(test_unlink_own),
	};

	return cmocka_run_group_tests_name("listen", tests, NULL, NULL);
}
