/* SPDX-License-Identifier: BSD-3-Clause */
/* Vectors: what may be bound, and which signals arrive. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "unit.h"

static unsigned
fd_count(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void
settle(unsigned fds)
{
	for (unsigned i = 0; i < 5000 && fd_count() != fds; i++) {
		reactor_step(reactor_get(0));
		usleep(100);
	}
	assert_int_equal(fd_count(), fds);
	for (unsigned i = 0; i < 20; i++) {
		reactor_step(reactor_get(0));
		usleep(100);
	}
}

static struct irq_set *
set_new(unsigned msix)
{
	struct irq_set *set;

	assert_int_equal(irq_set_create(reactor_get(0), msix, &set), 0);
	return set;
}

static int
event_new(void)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static uint64_t
event_take(int fd)
{
	uint64_t v = 0;

	return read(fd, &v, 8) == 8 ? v : 0;
}

static int
bind1(struct irq_set *set, enum irq_index index, unsigned iv, int fd)
{
	int d = fd < 0 ? fd : dup(fd), err;

	err = irq_bind(set, index, iv, 1, &d);
	if (err && d >= 0)
		assert_int_equal(close(d), 0); /* ours still */
	return err;
}

static void
create(void **state)
{
	static const struct {
		unsigned msix;
		int want;
	} cases[] = { { 1, 0 },
		      { 2048, 0 },
		      { 0, -EINVAL },
		      { 2049, -EINVAL },
		      { UINT32_MAX, -EINVAL } };
	struct irq_set *set;

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(irq_set_create(reactor_get(0), cases[i].msix,
						&set),
				 cases[i].want);
		if (cases[i].want)
			continue;
		assert_int_equal(irq_count(set, IRQ_MSIX), cases[i].msix);
		assert_int_equal(irq_count(set, IRQ_INTX), 1);
		assert_int_equal(irq_count(set, IRQ_MSI), 0);
		assert_int_equal(irq_count(set, IRQ_REQ), 1);
		assert_int_equal(irq_count(set, IRQ_INDEX_COUNT), 0);
		irq_set_destroy(set);
	}
	irq_set_destroy(NULL);
}

enum what { EVENT, UNBOUND, MEMFD, PIPE, TIMER, CLOSED, NEGATIVE, NAMED };

static int
open_what(enum what what)
{
	int p[2], fd;

	switch (what) {
	case EVENT:
		return event_new();
	case MEMFD: /* "/memfd:anon_inode:[eventfd] (deleted)" */
		fd = memfd_create("anon_inode:[eventfd]", 0);
		return fd;
	case PIPE:
		assert_int_equal(pipe(p), 0);
		close(p[0]);
		return p[1];
	case TIMER:
		return timerfd_create(CLOCK_MONOTONIC, 0);
	case NAMED:
		fd = open("/dev/shm/anon_inode:[eventfd]", O_RDWR | O_CREAT,
			  0600);
		if (fd < 0)
			return open("/dev/null", O_RDWR);
		unlink("/dev/shm/anon_inode:[eventfd]");
		return fd;
	case CLOSED:
		return 1000000;
	case NEGATIVE:
		return -7;
	default:
		return -1;
	}
}

/* A set of four MSI-X vectors. */
static const struct bind_case {
	const char *name;
	int index;
	unsigned start, n;
	enum what what; /* the last of the n; the others are eventfds */
	int want;
} binds[] = {
	{ "one", IRQ_MSIX, 0, 1, EVENT, 0 },
	{ "all", IRQ_MSIX, 0, 4, EVENT, 0 },
	{ "the last", IRQ_MSIX, 3, 1, EVENT, 0 },
	{ "some, and one unbound", IRQ_MSIX, 1, 3, UNBOUND, 0 },
	{ "INTx", IRQ_INTX, 0, 1, EVENT, 0 },
	{ "ERR", IRQ_ERR, 0, 1, EVENT, 0 },
	{ "REQ", IRQ_REQ, 0, 1, EVENT, 0 },
	{ "none", IRQ_MSIX, 0, 0, EVENT, -EINVAL },
	{ "past the end", IRQ_MSIX, 4, 1, EVENT, -EINVAL },
	{ "over the end", IRQ_MSIX, 2, 3, EVENT, -EINVAL },
	{ "start wraps", IRQ_MSIX, UINT32_MAX, 2, EVENT, -EINVAL },
	{ "two INTx", IRQ_INTX, 0, 2, EVENT, -EINVAL },
	{ "MSI", IRQ_MSI, 0, 1, EVENT, -EINVAL },
	{ "no such index", IRQ_INDEX_COUNT, 0, 1, EVENT, -EINVAL },
	{ "a memfd of that name", IRQ_MSIX, 0, 2, MEMFD, -EINVAL },
	{ "a file of that name", IRQ_MSIX, 0, 2, NAMED, -EINVAL },
	{ "a pipe", IRQ_MSIX, 0, 4, PIPE, -EINVAL },
	{ "a timer", IRQ_MSIX, 0, 4, TIMER, -EINVAL },
	{ "closed", IRQ_MSIX, 0, 1, CLOSED, -EINVAL },
	{ "negative", IRQ_MSIX, 0, 1, NEGATIVE, -EINVAL },
};

static void
bind(void **state)
{
	unsigned fds = fd_count();

	for (unsigned i = 0; i < ARRAY_SIZE(binds); i++) {
		const struct bind_case *c = &binds[i];
		struct irq_set *set = set_new(4);
		int fd[4], probe = event_new(), err;

		assert_int_equal(bind1(set, IRQ_MSIX, 0, probe), 0);
		for (unsigned j = 0; j < c->n; j++)
			fd[j] = open_what(j + 1 < c->n ? EVENT : c->what);
		err = irq_bind(set, (enum irq_index)c->index, c->start, c->n,
			       fd);
		if (err != c->want)
			print_error("%s: %d\n", c->name, err);
		assert_int_equal(err, c->want);
		if (err) { /* nothing changed */
			irq_raise(set, 0);
			assert_int_equal(event_take(probe), 1);
			for (unsigned j = 0; j < c->n; j++)
				if (fd[j] >= 0) /* still ours, if it is one */
					close(fd[j]);
		}
		irq_set_destroy(set);
		close(probe);
		settle(fds);
	}
}

static void
raise_and_latch(void **state)
{
	struct irq_set *set = set_new(4);
	int a = event_new(), b = event_new(), many[2];

	assert_false(irq_msix_active(set));
	irq_raise(set, 1); /* unbound */
	irq_raise(set, 1);
	irq_raise(set, 4); /* no such */
	irq_raise(set, UINT32_MAX);
	assert_int_equal(irq_signals(set), 0);
	assert_int_equal(bind1(set, IRQ_MSIX, 1, a), 0);
	assert_true(irq_msix_active(set));
	assert_int_equal(event_take(a), 1); /* once */
	irq_raise(set, 1);
	irq_raise(set, 1);
	assert_int_equal(event_take(a), 2);
	assert_int_equal(irq_signals(set), 3);
	/* Another fd: the old one hears no more. */
	assert_int_equal(bind1(set, IRQ_MSIX, 1, b), 0);
	irq_raise(set, 1);
	assert_int_equal(event_take(a), 0);
	assert_int_equal(event_take(b), 1);
	/* Masked: one signal waits. */
	assert_int_equal(irq_mask(set, IRQ_MSIX, 0, 4, true), 0);
	irq_raise(set, 1);
	irq_raise(set, 1);
	assert_int_equal(event_take(b), 0);
	assert_int_equal(irq_mask(set, IRQ_MSIX, 0, 4, false), 0);
	assert_int_equal(event_take(b), 1);
	assert_int_equal(irq_mask(set, IRQ_MSIX, 0, 4, false), 0);
	assert_int_equal(event_take(b), 0);
	/* Unbound while masked and latched, bound again, unmasked. */
	assert_int_equal(irq_mask(set, IRQ_MSIX, 1, 1, true), 0);
	irq_raise(set, 1);
	assert_int_equal(irq_unbind(set, IRQ_MSIX, 1, 1), 0);
	assert_int_equal(bind1(set, IRQ_MSIX, 1, a), 0);
	assert_int_equal(event_take(a), 0);
	assert_int_equal(irq_mask(set, IRQ_MSIX, 1, 1, false), 0);
	assert_int_equal(event_take(a), 1);
	/* Bound to -1: unbound. */
	many[0] = dup(b);
	many[1] = -1;
	assert_int_equal(irq_bind(set, IRQ_MSIX, 0, 2, many), 0);
	irq_raise(set, 0);
	irq_raise(set, 1);
	assert_int_equal(event_take(b), 1);
	assert_int_equal(event_take(a), 0);
	irq_set_destroy(set);
	close(a);
	close(b);
}

static void
disable_and_reset(void **state)
{
	struct irq_set *set = set_new(2);
	int a = event_new();

	assert_int_equal(bind1(set, IRQ_MSIX, 0, a), 0);
	irq_raise(set, 1);
	assert_int_equal(irq_unbind(set, IRQ_MSIX, 0, 0), 0);
	assert_false(irq_msix_active(set));
	irq_raise(set, 0);
	assert_int_equal(event_take(a), 0);
	assert_int_equal(irq_unbind(set, IRQ_MSIX, 0, 0), 0);
	assert_int_equal(bind1(set, IRQ_MSIX, 0, a), 0);
	assert_int_equal(event_take(a), 0); /* forgotten by the disable */
	irq_mask(set, IRQ_MSIX, 0, 1, true);
	irq_raise(set, 0);
	irq_reset(set);
	assert_int_equal(event_take(a), 0);
	irq_raise(set, 0); /* bound still, and not masked */
	assert_int_equal(event_take(a), 1);
	assert_true(irq_msix_active(set));
	assert_int_equal(irq_unbind(set, IRQ_MSIX, 1, 0), -EINVAL);
	assert_int_equal(irq_unbind(set, IRQ_MSIX, 0, 3), -EINVAL);
	assert_int_equal(irq_unbind(set, IRQ_MSIX, UINT32_MAX, 2), -EINVAL);
	assert_int_equal(irq_unbind(set, IRQ_INDEX_COUNT, 0, 0), -EINVAL);
	assert_int_equal(irq_unbind(set, IRQ_MSI, 0, 0), 0);
	assert_int_equal(irq_mask(set, IRQ_MSIX, 1, 2, true), -EINVAL);
	assert_int_equal(irq_mask(set, IRQ_MSIX, UINT32_MAX, 2, true), -EINVAL);
	assert_int_equal(irq_mask(set, IRQ_INDEX_COUNT, 0, 1, true), -EINVAL);
	assert_int_equal(irq_trigger(set, IRQ_MSIX, 2), -EINVAL);
	assert_int_equal(irq_trigger(set, IRQ_MSI, 0), -EINVAL);
	assert_int_equal(irq_trigger(set, IRQ_INDEX_COUNT, 0), -EINVAL);
	assert_int_equal(irq_trigger(set, IRQ_MSIX, 0), 0);
	assert_int_equal(event_take(a), 1);
	irq_set_destroy(set);
	close(a);
}

static void
count_up(void *arg)
{
	++*(unsigned *)arg;
}

/* Who replaces an eventfd learns when the old one has been closed, but for a set that goes. */
static void
closings_are_told(void **state)
{
	struct irq_set *set = set_new(4);
	int a = event_new();
	unsigned told = 0;

	irq_on_closed(set, count_up, &told);
	assert_int_equal(bind1(set, IRQ_MSIX, 0, a), 0);
	assert_false(irq_closing(set)); /* there was none */
	assert_int_equal(bind1(set, IRQ_MSIX, 0, a), 0);
	assert_int_equal(bind1(set, IRQ_MSIX, 0, a), 0);
	assert_true(irq_closing(set));
	assert_int_equal(told, 0);
	while (irq_closing(set))
		reactor_step(reactor_get(0));
	assert_int_equal(told, 1);
	assert_int_equal(irq_unbind(set, IRQ_MSIX, 0, 0), 0);
	while (irq_closing(set))
		reactor_step(reactor_get(0));
	assert_int_equal(told, 2);
	assert_int_equal(bind1(set, IRQ_MSIX, 0, a), 0);
	assert_int_equal(bind1(set, IRQ_MSIX, 0, a), 0);
	irq_set_destroy(set);
	for (unsigned i = 0; i < 100; i++) {
		usleep(200);
		reactor_step(reactor_get(0));
	}
	assert_int_equal(told, 2);
	close(a);
}

static void
intx(void **state)
{
	struct irq_set *set = set_new(1);
	int a = event_new();

	irq_intx(set, true); /* before anybody listens */
	assert_int_equal(bind1(set, IRQ_INTX, 0, a), 0);
	assert_int_equal(event_take(a), 1);
	irq_intx(set, true); /* no edge */
	assert_int_equal(event_take(a), 0);
	irq_mask(set, IRQ_INTX, 0, 1, false); /* end of interrupt, level up */
	assert_int_equal(event_take(a), 1);
	irq_intx(set, false);
	irq_mask(set, IRQ_INTX, 0, 1, false);
	assert_int_equal(event_take(a), 0);
	irq_mask(set, IRQ_INTX, 0, 1, true);
	irq_intx(set, true);
	assert_int_equal(event_take(a), 0);
	irq_mask(set, IRQ_INTX, 0, 1, false);
	assert_int_equal(event_take(a), 1);
	irq_intx(set, false);
	irq_mask(set, IRQ_INTX, 0, 1, true);
	irq_intx(set, true);
	irq_intx(set, false); /* over before the unmask */
	irq_mask(set, IRQ_INTX, 0, 1, false);
	assert_int_equal(event_take(a), 0);
	irq_intx(set, true);
	assert_int_equal(event_take(a), 1);
	irq_reset(set);
	irq_mask(set, IRQ_INTX, 0, 1, false);
	assert_int_equal(event_take(a), 0);
	irq_intx(set, true); /* an edge again */
	assert_int_equal(event_take(a), 1);
	assert_false(irq_msix_active(set));
	irq_set_destroy(set);
	close(a);
}

static void
full_counter(void **state)
{
	struct irq_set *set = set_new(1);
	uint64_t most = UINT64_MAX - 1;
	int a = event_new();

	assert_int_equal(bind1(set, IRQ_MSIX, 0, a), 0);
	assert_int_equal(write(a, &most, 8), 8);
	irq_raise(set, 0); /* EAGAIN: it will be seen anyway */
	assert_false(irq_dead(set));
	assert_int_equal(irq_signals(set), 1);
	assert_int_equal(event_take(a), most);
	irq_raise(set, 0);
	assert_int_equal(event_take(a), 1);
	irq_set_destroy(set);
	close(a);
}

int
irq_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(create),
		cmocka_unit_test(bind),
		cmocka_unit_test(raise_and_latch),
		cmocka_unit_test(disable_and_reset),
		cmocka_unit_test(closings_are_told),
		cmocka_unit_test(intx),
		cmocka_unit_test(full_counter),
	};

	return cmocka_run_group_tests_name("irq", tests, NULL, NULL);
}
