/* SPDX-License-Identifier: BSD-3-Clause */
/* The socket: lock, mode, leftovers, slow and vanishing clients. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "unit.h"

#include "fake/nofile.h"

static char dir[32], path[64], lock[80];
static struct rpc_server *server;

static int
setup(void **state)
{
	unsigned core = 0;
	struct reactor_config cfg = { .cores = &core,
				      .ncores = 1,
				      .no_pin = true };

	assert_int_equal(reactors_init(&cfg), 0);
	strcpy(dir, "/tmp/belfry-rpc-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/sock", dir);
	snprintf(lock, sizeof(lock), "%s.lock", path);
	assert_int_equal(rpc_listen(reactor_get(0), path, &server), 0);
	return 0;
}

static int
teardown(void **state)
{
	rpc_close(server);
	assert_int_equal(rmdir(dir), 0); /* nothing is left in it */
	reactors_fini();
	return 0;
}

static int
client_connect(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(addr.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)),
			 0);
	return fd;
}

static void
say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL),
			 strlen(text));
}

/* Run the reactor until there is something to read, or 2 s. */
static ssize_t
hear(int fd, char *buf, size_t len)
{
	uint64_t end = util_now_ns() + 2000000000ull;
	ssize_t n;

	do {
		reactor_step(reactor_get(0));
		n = recv(fd, buf, len - 1, MSG_DONTWAIT);
	} while (n < 0 && errno == EAGAIN && util_now_ns() < end);
	buf[n > 0 ? n : 0] = '\0';
	return n;
}

static void
steps(unsigned ms)
{
	uint64_t end = util_now_ns() + ms * 1000000ull;

	while (util_now_ns() < end)
		reactor_step(reactor_get(0));
}

static void
test_talk(void **state)
{
	int fd = client_connect();
	char buf[256];

	say(fd, "{\"method\":\"t_echo\",");
	steps(2);
	say(fd, "\"id\":1}");
	assert_true(hear(fd, buf, sizeof(buf)) > 0);
	assert_string_equal(buf,
			    "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":true}\n");
	close(fd);
	steps(2);
}

static void
test_half_closed(void **state)
{
	int fd = client_connect();
	char buf[256];

	say(fd, "{\"method\":\"t_later\",\"id\":1}");
	shutdown(fd, SHUT_WR);
	steps(2);
	assert_int_equal(recv(fd, buf, 1, MSG_DONTWAIT), -1);
	rpc_result(unit_later, json_true());
	unit_later = NULL;
	assert_true(hear(fd, buf, sizeof(buf)) > 0);
	assert_non_null(strstr(buf, "true"));
	assert_int_equal(hear(fd, buf, sizeof(buf)), 0);
	close(fd);
	/* half a request at the end is worth a word */
	fd = client_connect();
	say(fd, "{\"method\":");
	shutdown(fd, SHUT_WR);
	assert_true(hear(fd, buf, sizeof(buf)) > 0);
	assert_non_null(strstr(buf, "-32700"));
	close(fd);
	steps(2);
}

static void
test_vanishes(void **state)
{
	int fd = client_connect();

	say(fd, "{\"method\":\"t_later\",\"id\":1}");
	steps(2);
	close(fd);
	steps(2);
	rpc_result(unit_later, json_true());
	unit_later = NULL;
	steps(2);
}

static void
test_broken(void **state)
{
	int fd = client_connect();
	char buf[256];

	say(fd, "nonsense");
	assert_true(hear(fd, buf, sizeof(buf)) > 0);
	assert_non_null(strstr(buf, "-32700"));
	assert_int_equal(hear(fd, buf, sizeof(buf)), 0);
	close(fd);
}

/* A client that never reads is not read from for ever, and others are served. */
static void
test_deaf(void **state)
{
	size_t len = 200 * 1024, sent = 0;
	int fd = client_connect(), other;
	char *text = malloc(len + 64), buf[256];
	ssize_t n;
	unsigned i;

	memset(text, 'x', len);
	memcpy(text, "{\"method\":\"t_echo\",\"id\":1,\"params\":{\"x\":\"",
	       41);
	memcpy(text + len - 3, "\"}}", 3);
	for (i = 0; i < 4000 && sent < 64ul * 1024 * 1024; i++) {
		n = send(fd, text + sent % len, len - sent % len,
			 MSG_DONTWAIT | MSG_NOSIGNAL);
		sent += n > 0 ? (size_t)n : 0;
		if (n < 0)
			steps(1);
		if (i > 100 && n < 0)
			break;
	}
	assert_true(sent < 16ul * 1024 * 1024);
	other = client_connect();
	say(other, "{\"method\":\"t_echo\",\"id\":7}");
	assert_true(hear(other, buf, sizeof(buf)) > 0);
	close(other);
	close(fd);
	free(text);
	steps(2);
}

static void
test_too_many(void **state)
{
	int fds[RPC_MAX_CONNS], extra;
	char buf[256];
	unsigned i;

	for (i = 0; i < RPC_MAX_CONNS; i++) {
		fds[i] = client_connect();
		steps(0);
		reactor_step(reactor_get(0));
	}
	steps(5);
	extra = client_connect();
	assert_true(hear(extra, buf, sizeof(buf)) > 0);
	assert_non_null(strstr(buf, "too many"));
	close(extra);
	close(fds[0]);
	steps(2);
	fds[0] = client_connect();
	say(fds[0], "{\"method\":\"t_echo\",\"id\":7}");
	assert_true(hear(fds[0], buf, sizeof(buf)) > 0);
	assert_non_null(strstr(buf, "\"id\":7"));
	for (i = 0; i < RPC_MAX_CONNS; i++)
		close(fds[i]);
	steps(5);
}

static void
test_second(void **state)
{
	struct rpc_server *s;

	assert_int_equal(rpc_listen(reactor_get(0), path, &s), -EWOULDBLOCK);
	assert_int_equal(access(path, F_OK), 0);
	/* the lock is held until the end of a long shutdown */
	rpc_stop(server);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(rpc_listen(reactor_get(0), path, &s), -EWOULDBLOCK);
	rpc_close(server);
	assert_int_equal(access(lock, F_OK), -1);
	assert_int_equal(rpc_listen(reactor_get(0), path, &server), 0);
}

static void
test_files(void **state)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct stat st;
	mode_t old;
	int fd;

	rpc_close(server);
	/* what a dead daemon leaves: both files, nobody behind them */
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	strcpy(addr.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd);
	close(open(lock, O_CREAT | O_RDWR, 0600));
	old = umask(0);
	assert_int_equal(rpc_listen(reactor_get(0), path, &server), 0);
	umask(old);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	rpc_close(server);
	/* a file that is no socket is not ours to remove */
	close(open(path, O_CREAT | O_RDWR, 0600));
	assert_int_equal(rpc_listen(reactor_get(0), path, &server), -EEXIST);
	assert_int_equal(access(path, F_OK), 0);
	unlink(path);
	/* somebody without our lock is somebody */
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(rpc_listen(reactor_get(0), path, &server),
			 -EWOULDBLOCK);
	close(fd);
	unlink(path);
	assert_int_equal(rpc_listen(reactor_get(0), path, &server), 0);
}

static void
test_no_descriptors(void **state)
{
	int fd = client_connect();
	char buf[256];

	say(fd, "{\"method\":\"t_echo\",\"id\":1}");
	fake_no_descriptors(fd);
	assert_true(hear(fd, buf, sizeof(buf)) > 0);
	close(fd);
	steps(2);
}

int
server_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_talk, setup, teardown),
		cmocka_unit_test_setup_teardown(test_half_closed, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_vanishes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_broken, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deaf, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_descriptors, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_second, setup, teardown),
		cmocka_unit_test_setup_teardown(test_files, setup, teardown),
	};

	return cmocka_run_group_tests_name("server", tests, NULL, NULL);
}
