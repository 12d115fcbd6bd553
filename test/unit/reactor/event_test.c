/* SPDX-License-Identifier: BSD-3-Clause */
/* Descriptors: readiness, changes and removals, also in the middle of a batch. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "unit.h"

struct end {
	struct reactor_fd f;
	int peer;
	unsigned calls;
	uint32_t seen;
	struct reactor_fd *removes, *blinds;
};

static void
on_ready(struct reactor_fd *f, uint32_t events)
{
	struct end *e = container_of(f, struct end, f);

	e->calls++;
	e->seen = events;
	if (e->removes) {
		reactor_fd_del(e->removes);
		/* As if it were freed and used for something else. */
		memset(e->removes, 0xff, sizeof(*e->removes));
		e->removes->reactor = NULL;
	}
	if (e->blinds)
		assert_int_equal(reactor_fd_mod(e->blinds, EPOLLOUT), 0);
}

static void
end_open(struct end *e, uint32_t events)
{
	int sv[2];

	memset(e, 0, sizeof(*e));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	e->f = (struct reactor_fd){ .fd = sv[0],
				    .events = events,
				    .ready = on_ready };
	e->peer = sv[1];
	assert_int_equal(reactor_fd_add(reactor_get(0), &e->f), 0);
}

static void
end_close(struct end *e, int fd)
{
	reactor_fd_del(&e->f);
	close(fd);
	if (e->peer >= 0)
		close(e->peer);
}

static void
poke(struct end *e)
{
	assert_int_equal(write(e->peer, "x", 1), 1);
}

static int
setup(void **state)
{
	unit_init(1, REACTOR_IDLE_POLL, 0);
	return 0;
}

static int
teardown(void **state)
{
	reactors_fini();
	return 0;
}

static void
tells_what_is_ready(void **state)
{
	struct reactor *r = reactor_get(0);
	struct end e;
	char c;

	end_open(&e, EPOLLIN);
	assert_int_equal(reactor_step(r), 0);
	poke(&e);
	assert_int_equal(reactor_step(r), 1);
	assert_int_equal(e.seen, EPOLLIN);
	assert_int_equal(reactor_step(r), 1); /* level-triggered */
	assert_int_equal(read(e.f.fd, &c, 1), 1);
	assert_int_equal(reactor_step(r), 0);
	close(e.peer);
	e.peer = -1;
	assert_int_equal(reactor_step(r), 1);
	assert_true(e.seen & EPOLLHUP);
	end_close(&e, e.f.fd);
}

static void
changes_its_mind(void **state)
{
	struct reactor *r = reactor_get(0);
	struct end e;

	end_open(&e, 0);
	poke(&e);
	assert_int_equal(reactor_step(r), 0);
	assert_int_equal(reactor_fd_mod(&e.f, EPOLLIN | EPOLLOUT), 0);
	assert_int_equal(reactor_step(r), 1);
	assert_int_equal(e.seen, EPOLLIN | EPOLLOUT);
	assert_int_equal(reactor_fd_mod(&e.f, 0), 0);
	assert_int_equal(reactor_step(r), 0);
	reactor_fd_del(&e.f);
	reactor_fd_del(&e.f); /* twice is harmless */
	assert_int_equal(reactor_step(r), 0);
	end_close(&e, e.f.fd);
}

static void
refuses_what_cannot_be_watched(void **state)
{
	struct reactor *r = reactor_get(0);
	struct reactor_fd f = { .fd = -1, .events = EPOLLIN };
	struct end e;

	assert_int_equal(reactor_fd_add(r, &f), -EBADF);
	f.fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	assert_true(f.fd >= 0);
	assert_int_equal(reactor_fd_add(r, &f), -EPERM);
	assert_null(f.reactor);
	reactor_fd_del(&f);
	close(f.fd);
	end_open(&e, EPOLLIN);
	f.fd = e.f.fd;
	assert_int_equal(reactor_fd_add(r, &f), -EEXIST);
	end_close(&e, e.f.fd);
}

/* Whichever is served first removes the other and overwrites its struct. */
static void
removes_another_in_the_batch(void **state)
{
	struct reactor *r = reactor_get(0);
	struct end a, b;
	int fda, fdb;

	end_open(&a, EPOLLIN);
	end_open(&b, EPOLLIN);
	fda = a.f.fd;
	fdb = b.f.fd;
	a.removes = &b.f;
	b.removes = &a.f;
	poke(&a);
	poke(&b);
	assert_int_equal(reactor_step(r), 1);
	assert_int_equal(a.calls + b.calls, 1);
	end_close(&a, fda);
	end_close(&b, fdb);
}

static void
removes_itself(void **state)
{
	struct reactor *r = reactor_get(0);
	struct end a;
	int fd;

	end_open(&a, EPOLLIN);
	fd = a.f.fd;
	a.removes = &a.f;
	poke(&a);
	assert_int_equal(reactor_step(r), 1);
	assert_int_equal(reactor_step(r), 0);
	assert_int_equal(a.calls, 1);
	end_close(&a, fd);
}

/* An event of the batch that its owner has just stopped wanting. */
static void
blinds_another_in_the_batch(void **state)
{
	struct reactor *r = reactor_get(0);
	struct end a, b;

	end_open(&a, EPOLLIN);
	end_open(&b, EPOLLIN);
	a.blinds = &b.f;
	b.blinds = &a.f;
	poke(&a);
	poke(&b);
	assert_int_equal(reactor_step(r), 1);
	assert_int_equal(a.calls + b.calls, 1);
	assert_int_equal(a.seen + b.seen, EPOLLIN);
	end_close(&a, a.f.fd);
	end_close(&b, b.f.fd);
}

int
event_tests(void)
{
#define EVENT_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		EVENT_TEST(tells_what_is_ready),
		EVENT_TEST(changes_its_mind),
		EVENT_TEST(refuses_what_cannot_be_watched),
		EVENT_TEST(removes_another_in_the_batch),
		EVENT_TEST(removes_itself),
		EVENT_TEST(blinds_another_in_the_batch),
	};

	return cmocka_run_group_tests_name("event", tests, NULL, NULL);
}
