/* SPDX-License-Identifier: BSD-3-Clause */
/* An eventfd that blocks holds up nobody, and no fd is closed while it is used. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "internal.h"
#include "unit.h"

static struct irq_set *
set_bound(int fd)
{
	struct irq_set *set;
	int d = dup(fd);

	assert_int_equal(irq_set_create(reactor_get(0), 1, &set), 0);
	assert_int_equal(irq_bind(set, IRQ_MSIX, 0, 1, &d), 0);
	return set;
}

static void *
raise_timed(void *arg)
{
	uint64_t t = util_now_ns();

	irq_raise(arg, 0);
	return (void *)(uintptr_t)(util_now_ns() - t);
}

/* The client clears O_NONBLOCK after the bind, and fills the counter. */
static void
stuck(void **state)
{
	for (unsigned i = 0; i < 6; i++) {
		int fd = eventfd(0, EFD_NONBLOCK),
		    good = eventfd(0, EFD_NONBLOCK);
		struct irq_set *set = set_bound(fd), *other = set_bound(good);
		uint64_t most = UINT64_MAX - 1, v;
		pthread_t t;
		void *took;

		if (i & 1) /* the watchdog has parked by then */
			usleep(60000);
		assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
		assert_int_equal(write(fd, &most, 8), 8);
		if (i < 4) {
			assert_int_equal(
				pthread_create(&t, NULL, raise_timed, set), 0);
			assert_int_equal(pthread_join(t, &took), 0);
		} else {
			took = raise_timed(set);
		}
		/* 2 ms, and what a busy machine adds. */
		assert_true((uintptr_t)took < 200000000);
		assert_true(irq_dead(set));
		took = raise_timed(set); /* says nothing more */
		assert_true((uintptr_t)took < 100000000);
		assert_int_equal(irq_signals(set), 0);
		assert_int_equal(irq_mask(set, IRQ_MSIX, 0, 1, true), 0);
		assert_int_equal(irq_mask(set, IRQ_MSIX, 0, 1, false), 0);
		irq_intx(set, true);
		assert_false(irq_dead(other));
		irq_raise(other, 0);
		assert_int_equal(read(good, &v, 8), 8);
		assert_int_equal(v, 1);
		irq_set_destroy(set);
		irq_set_destroy(other);
		close(fd);
		close(good);
	}
}

/* Blocking, but with room: nothing is wrong with that. */
static void
blocking_is_fine(void **state)
{
	int fd = eventfd(0, 0);
	struct irq_set *set = set_bound(fd);

	for (unsigned i = 0; i < 100000; i++)
		irq_raise(set, 0);
	assert_false(irq_dead(set));
	assert_int_equal(irq_signals(set), 100000);
	irq_set_destroy(set);
	close(fd);
}

static bool stop;

static void *
raiser(void *arg)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		irq_raise(arg, 0);
	return NULL;
}

/*
 * Rebound all the time while another thread raises. A pipe that gets the number of a closed
 * eventfd must never see eight bytes of ours.
 */
static void
rebinding(void **state)
{
	int fd = eventfd(0, EFD_NONBLOCK), p[2];
	struct irq_set *set = set_bound(fd);
	unsigned dirty = 0;
	pthread_t t;

	assert_int_equal(pthread_create(&t, NULL, raiser, set), 0);
	for (unsigned i = 0; i < 2000; i++) {
		int d = dup(fd);
		struct pollfd pfd;

		assert_int_equal(irq_bind(set, IRQ_MSIX, 0, 1, &d), 0);
		if (i % 3 == 0)
			assert_int_equal(irq_unbind(set, IRQ_MSIX, 0, 1), 0);
		reactor_step(reactor_get(0));
		assert_int_equal(pipe(p), 0);
		if (i % 16 == 0)
			usleep(200);
		pfd = (struct pollfd){ .fd = p[0], .events = POLLIN };
		dirty += poll(&pfd, 1, 0) > 0;
		close(p[0]);
		close(p[1]);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(t, NULL);
	assert_int_equal(dirty, 0);
	assert_false(irq_dead(set));
	irq_set_destroy(set);
	close(fd);
}

/* No signal is lost between one that masks and one that raises. */
static void *
mask_race(void *arg)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		irq_mask(arg, IRQ_MSIX, 0, 1, true);
		irq_mask(arg, IRQ_MSIX, 0, 1, false);
	}
	return NULL;
}

static void
none_lost(void **state)
{
	int fd = eventfd(0, EFD_NONBLOCK);
	struct irq_set *set = set_bound(fd);
	pthread_t t;

	stop = false;
	assert_int_equal(pthread_create(&t, NULL, mask_race, set), 0);
	for (unsigned i = 0; i < 20000; i++) {
		struct pollfd pfd = { .fd = fd, .events = POLLIN };
		uint64_t v;

		irq_raise(set, 0);
		assert_int_equal(poll(&pfd, 1, 5000), 1);
		assert_int_equal(read(fd, &v, 8), 8);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(t, NULL);
	irq_set_destroy(set);
	close(fd);
}

static void
quiesce_waits(void **state)
{
	watch_quiesce(); /* nobody inside */
	watch_enter();
	watch_quiesce(); /* oneself does not count */
	watch_leave();
	assert_int_equal(watch_self.seq & 1, 0);
}

/* How often the watchdog has slept so far. */
static unsigned long
naps(void)
{
	char path[300], line[100], name[32];
	DIR *d = opendir("/proc/self/task");
	unsigned long n = 0;
	struct dirent *e;

	assert_non_null(d);
	while ((e = readdir(d))) {
		bool found = false;
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/task/%s/status",
			 e->d_name);
		f = fopen(path, "re");
		while (f && fgets(line, sizeof(line), f)) {
			if (sscanf(line, "Name: %31s", name) == 1)
				found = !strcmp(name, "irq_watchdog");
			if (found)
				sscanf(line, "voluntary_ctxt_switches: %lu",
				       &n);
		}
		if (f)
			fclose(f);
	}
	closedir(d);
	return n;
}

/* Where nobody raises it costs nothing; who does finds it awake again. */
static void
parks_for_good(void **state)
{
	int fd = eventfd(0, EFD_NONBLOCK);
	struct irq_set *set = set_bound(fd);
	unsigned long before;

	for (unsigned i = 0; i < 3; i++) {
		irq_raise(set, 0);
		usleep(100000);
		before = naps();
		assert_true(before > 0);
		usleep(200000);
		assert_in_range(naps() - before, 0, 1);
	}
	irq_set_destroy(set);
	close(fd);
}

/* Stuck in the very moments in which the watchdog parks: between its flag, its last look and its sleep. */
static void
stuck_as_it_parks(void **state)
{
	int fd = eventfd(0, 0);
	uint64_t most = UINT64_MAX - 1, took, end, worst = 0;

	assert_int_equal(write(fd, &most, 8), 8);
	for (unsigned i = 0; i < 60; i++) {
		struct irq_set *set = set_bound(fd);

		/* All at once is quiet for 20 ms; then there is one moment. */
		end = util_now_ns() + 2000000000;
		while (!__atomic_load_n(&watch_parked, __ATOMIC_RELAXED))
			assert_true(util_now_ns() < end);
		end = util_now_ns() + i * 300;
		while (util_now_ns() < end)
			;
		took = (uintptr_t)raise_timed(set);
		worst = took > worst ? took : worst;
		assert_true(irq_dead(set));
		irq_set_destroy(set);
	}
	assert_true(worst < 200000000);
	close(fd);
}

int
watch_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stuck),
		cmocka_unit_test(blocking_is_fine),
		cmocka_unit_test(rebinding),
		cmocka_unit_test(none_lost),
		cmocka_unit_test(quiesce_waits),
		cmocka_unit_test(parks_for_good),
		cmocka_unit_test(stuck_as_it_parks),
	};

	return cmocka_run_group_tests_name("watch", tests, NULL, NULL);
}
