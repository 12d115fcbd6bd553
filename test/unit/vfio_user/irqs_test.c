/* SPDX-License-Identifier: BSD-3-Clause */
/* SET_IRQS: which requests there are, and where the signals go. */
#include <stdlib.h>
#include <sys/eventfd.h>

#include "unit.h"

enum { NONE = 1, BOOL = 2, EVENTFD = 4, MASK = 8, UNMASK = 16, TRIGGER = 32 };
enum { INTX, MSI, MSIX, ERR, REQ };
#define N MSIX_VECTORS

/* clang-format off */
static const struct {
	const char *name;
	uint32_t flags, index, start, count;
	unsigned nfds;
	size_t data;	/* bytes that follow */
	int want;
} cases[] = {
	{ "bind one", EVENTFD | TRIGGER, MSIX, 0, 1, 1, 0, 0 },
	{ "bind 16, as Cloud Hypervisor", EVENTFD | TRIGGER, MSIX, 0, 16, 16, 0, 0 },
	{ "bind the last", EVENTFD | TRIGGER, MSIX, N - 1, 1, 1, 0, 0 },
	{ "bind all", EVENTFD | TRIGGER, MSIX, 0, N, N, 0, 0 },
	{ "bind INTx", EVENTFD | TRIGGER, INTX, 0, 1, 1, 0, 0 },
	{ "bind ERR", EVENTFD | TRIGGER, ERR, 0, 1, 1, 0, 0 },
	{ "bind REQ", EVENTFD | TRIGGER, REQ, 0, 1, 1, 0, 0 },
	{ "unbind one", EVENTFD | TRIGGER, MSIX, 0, 1, 0, 0, 0 },
	{ "unbind all", EVENTFD | TRIGGER, MSIX, 0, N, 0, 0, 0 },
	{ "disable MSI-X", NONE | TRIGGER, MSIX, 0, 0, 0, 0, 0 },
	{ "disable INTx", NONE | TRIGGER, INTX, 0, 0, 0, 0, 0 },
	{ "disable MSI, of which there is none", NONE | TRIGGER, MSI, 0, 0, 0, 0, 0 },
	{ "disable ERR", NONE | TRIGGER, ERR, 0, 0, 0, 0, 0 },
	{ "trigger one", NONE | TRIGGER, MSIX, 3, 1, 0, 0, 0 },
	{ "trigger some", BOOL | TRIGGER, MSIX, 0, 4, 0, 4, 0 },
	{ "mask", NONE | MASK, MSIX, 0, N, 0, 0, 0 },
	{ "mask some", BOOL | MASK, MSIX, 0, 2, 0, 2, 0 },
	{ "unmask INTx", NONE | UNMASK, INTX, 0, 1, 0, 0, 0 },
	{ "unmask some", BOOL | UNMASK, MSIX, 0, 2, 0, 2, 0 },
	{ "no eventfd for unmask", EVENTFD | UNMASK, INTX, 0, 1, 0, 0, 0 },

	{ "eventfd for unmask", EVENTFD | UNMASK, INTX, 0, 1, 1, 0, ENOTSUP },
	{ "eventfd for mask", EVENTFD | MASK, MSIX, 0, 1, 1, 0, ENOTSUP },
	{ "fewer fds than vectors", EVENTFD | TRIGGER, MSIX, 0, 3, 2, 0, EINVAL },
	{ "more fds than vectors", EVENTFD | TRIGGER, MSIX, 0, 2, 3, 0, EINVAL },
	{ "fds for no vector", EVENTFD | TRIGGER, MSIX, 0, 0, 1, 0, EINVAL },
	{ "eventfd, none of none", EVENTFD | TRIGGER, MSIX, 0, 0, 0, 0, EINVAL },
	{ "past the last", EVENTFD | TRIGGER, MSIX, N, 1, 1, 0, EINVAL },
	{ "over the end", EVENTFD | TRIGGER, MSIX, N - 1, 2, 2, 0, EINVAL },
	{ "count wraps", EVENTFD | TRIGGER, MSIX, 1, UINT32_MAX, 0, 0, EINVAL },
	{ "start -1", NONE | TRIGGER, MSIX, UINT32_MAX, 1, 0, 0, EINVAL },
	{ "start + count wraps to 1", NONE | TRIGGER, MSIX, UINT32_MAX, 2, 0, 0, EINVAL },
	{ "two INTx", EVENTFD | TRIGGER, INTX, 0, 2, 2, 0, EINVAL },
	{ "MSI", EVENTFD | TRIGGER, MSI, 0, 1, 1, 0, EINVAL },
	{ "two ERR", EVENTFD | TRIGGER, ERR, 0, 2, 2, 0, EINVAL },
	{ "mask ERR", NONE | MASK, ERR, 0, 1, 0, 0, EINVAL },
	{ "unmask REQ", NONE | UNMASK, REQ, 0, 1, 0, 0, EINVAL },
	{ "index 5", EVENTFD | TRIGGER, 5, 0, 1, 1, 0, EINVAL },
	{ "index -1", NONE | TRIGGER, UINT32_MAX, 0, 0, 0, 0, EINVAL },
	{ "disable from 1", NONE | TRIGGER, MSIX, 1, 0, 0, 0, EINVAL },
	{ "mask nothing", NONE | MASK, MSIX, 0, 0, 0, 0, EINVAL },
	{ "bool of nothing", BOOL | TRIGGER, MSIX, 0, 0, 0, 0, EINVAL },
	{ "a bool too few", BOOL | TRIGGER, MSIX, 0, 4, 0, 3, EINVAL },
	{ "a bool too many", BOOL | TRIGGER, MSIX, 0, 4, 0, 5, EINVAL },
	{ "many bools", BOOL | TRIGGER, MSIX, 0, 4, 0, 100000, EINVAL },
	{ "fds with bools", BOOL | TRIGGER, MSIX, 0, 1, 1, 1, EINVAL },
	{ "fds with none", NONE | TRIGGER, MSIX, 0, 1, 1, 0, EINVAL },
	{ "no data flag", TRIGGER, MSIX, 0, 1, 0, 0, EINVAL },
	{ "no action", NONE, MSIX, 0, 1, 0, 0, EINVAL },
	{ "no flag", 0, MSIX, 0, 1, 0, 0, EINVAL },
	{ "two data flags", NONE | EVENTFD | TRIGGER, MSIX, 0, 1, 1, 0, EINVAL },
	{ "two actions", NONE | MASK | TRIGGER, MSIX, 0, 1, 0, 0, EINVAL },
	{ "all flags", 63, MSIX, 0, 1, 0, 0, EINVAL },
	{ "unknown flag", NONE | TRIGGER | 64, MSIX, 0, 1, 0, 0, EINVAL },
};
/* clang-format on */

static int
set_irqs(int c, uint32_t flags, uint32_t index, uint32_t start, uint32_t count,
	 const int *fds, unsigned nfds, const void *data, size_t len)
{
	struct vfio_irq_set req = { 20, flags, index, start, count };
	uint8_t *buf = calloc(1, sizeof(req) + len);
	int err;

	memcpy(buf, &req, sizeof(req));
	if (data)
		memcpy(buf + sizeof(req), data, len);
	err = client_call(c, VU_DEVICE_SET_IRQS, buf, sizeof(req) + len, fds,
			  nfds, NULL);
	free(buf);
	return err;
}

static void
test_requests(void **state)
{
	int fds[64];

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int c = client_start(LEGACY_JSON);
		unsigned before = fake.irq_changes;
		int err = set_irqs(c, cases[i].flags, cases[i].index,
				   cases[i].start, cases[i].count, fds,
				   cases[i].nfds, NULL, cases[i].data);

		if (err != cases[i].want)
			fail_msg("%s: errno %d", cases[i].name, err);
		if (err)
			assert_int_equal(fake.irq_changes, before);
		close(c);
		until(!fake.opened);
	}
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
}

static uint64_t
drain(int fd)
{
	uint64_t v = 0;

	return read(fd, &v, sizeof(v)) == sizeof(v) ? v : 0;
}

static void
test_signals(void **state)
{
	static const uint8_t some[4] = { 0, 1, 0, 7 };
	int c = client_start(LEGACY_JSON), fds[4];

	for (int i = 0; i < 4; i++)
		fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_int_equal(
		set_irqs(c, EVENTFD | TRIGGER, MSIX, 4, 4, fds, 4, NULL, 0), 0);
	assert_int_equal(fake.irq_changes, 1);
	irq_raise(fake.irqs, 5);
	assert_int_equal(drain(fds[1]), 1);
	assert_int_equal(
		set_irqs(c, BOOL | TRIGGER, MSIX, 4, 4, NULL, 0, some, 4), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(drain(fds[i]), i & 1);
	assert_int_equal(
		set_irqs(c, NONE | TRIGGER, MSIX, 4, 4, NULL, 0, NULL, 0), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(drain(fds[i]), 1);
	/* masked: later */
	assert_int_equal(set_irqs(c, BOOL | MASK, MSIX, 4, 4, NULL, 0, some, 4),
			 0);
	irq_raise(fake.irqs, 5);
	irq_raise(fake.irqs, 6);
	assert_int_equal(drain(fds[1]), 0);
	assert_int_equal(drain(fds[2]), 1);
	assert_int_equal(
		set_irqs(c, NONE | UNMASK, MSIX, 4, 4, NULL, 0, NULL, 0), 0);
	assert_int_equal(drain(fds[1]), 1);
	/* unbound: not at all */
	assert_int_equal(set_irqs(c, EVENTFD | TRIGGER, MSIX, 5, 1, NULL, 0,
				  NULL, 0),
			 0);
	irq_raise(fake.irqs, 5);
	assert_int_equal(drain(fds[1]), 0);
	assert_int_equal(
		set_irqs(c, NONE | TRIGGER, MSIX, 0, 0, NULL, 0, NULL, 0), 0);
	irq_raise(fake.irqs, 6);
	assert_int_equal(drain(fds[2]), 0);
	for (int i = 0; i < 4; i++)
		close(fds[i]);
	close(c);
}

/* Anything that is no eventfd is refused and closed. */
static void
test_no_eventfd(void **state)
{
	unsigned before = count_fds();
	int c = client_start(LEGACY_JSON), fds[2];

	fds[0] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fds[1] = guest_file();
	assert_int_equal(set_irqs(c, EVENTFD | TRIGGER, MSIX, 0, 2, fds, 2,
				  NULL, 0),
			 EINVAL);
	irq_raise(fake.irqs, 0);
	assert_int_equal(drain(fds[0]), 0);
	close(fds[0]);
	close(fds[1]);
	close(c);
	until(count_fds() == before);
}

#define T(f) cmocka_unit_test_setup_teardown(f, unit_setup, unit_teardown)

int
irqs_tests(void)
{
	const struct CMUnitTest tests[] = {
		T(test_requests),
		T(test_signals),
		T(test_no_eventfd),
	};

	return cmocka_run_group_tests_name("irqs", tests, NULL, NULL);
}
