/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A session cut off after each of its bytes, and while each of its calls runs.
 * Nothing stays: no descriptor, no device, no memory (ASan judges).
 */
#include <stdlib.h>
#include <sys/eventfd.h>

#include "unit.h"

#define P(x) &(x), sizeof(x)

/* One message of the script. */
struct line {
	unsigned cmd;
	const void *p;
	size_t len;
	int nfds; /* 1: the memory file; -1: an eventfd */
};

static const struct vu_device_info info = { .argsz = 16 };
static const struct vfio_region_info region = { .argsz = 64 };
static const struct vfio_irq_set bind = { 20, 4 | 32, 2, 0, 1 };
static const struct vu_region_access get = { 0, 7, 64 };
static const struct {
	struct vu_region_access a;
	uint32_t v;
} __attribute__((packed)) put = { { 0, 0, 4 }, 1 };

static const struct vu_dma_map map = { 32, 3, 0, 0x1000, 0x2000 };
static const struct vu_dma_unmap unmap = { 24, 0, 0, 1 << 20 };
static const struct line legacy[] = {
	{ 4, P(info) },	    { 2, P(map), 1 }, { 5, P(region) },
	{ 8, P(bind), -1 }, { 9, P(get) },    { 10, P(put) },
	{ 3, P(unmap) },    { 2, P(map), 1 }, { 13, NULL, 0 },
};

static const struct vu_ioas_id alloc = { .argsz = 16 };
static const struct vu_ioas_map imap = { 48, 3, 1, 0, 0, 8192 };
static const struct vu_bind idev = { 16, 0, -1, 0 };
static const struct vu_attach attach = { 16, 0, 1, 0 };
static const struct vu_ioas_unmap iunmap = { 32, 1, 1 };
static const struct line iommufd[] = {
	{ 19, P(alloc) },  { 21, P(imap), 1 }, { 24, P(idev) },
	{ 25, P(attach) }, { 21, P(imap), 1 }, { 8, P(bind), -1 },
	{ 10, P(put) },	   { 22, P(iunmap) },  { 21, P(imap), 1 },
	{ 13, NULL, 0 },
};

static int memory, event;

/* Send the first @limit bytes of the script. False: that was all of it. */
static bool
play(int c, const char *json, const struct line *lines, size_t n, size_t limit)
{
	uint8_t buf[1024];
	size_t len = version_msg(buf, json);

	client_send_raw(c, buf, MIN(len, limit), NULL, 0);
	for (size_t i = 0; i < n && limit > len; i++) {
		struct vu_hdr hdr = { .command = (uint16_t)lines[i].cmd };

		limit -= len;
		len = sizeof(hdr) + lines[i].len;
		hdr.msg_size = (uint32_t)len;
		memcpy(buf, &hdr, sizeof(hdr));
		if (lines[i].len)
			memcpy(buf + sizeof(hdr), lines[i].p, lines[i].len);
		client_send_raw(c, buf, MIN(len, limit),
				lines[i].nfds < 0 ? &event : &memory,
				lines[i].nfds ? 1 : 0);
	}
	return limit <= len;
}

static void
vanish_everywhere(const char *json, const struct line *lines, size_t n)
{
	unsigned before;
	int c;

	memory = guest_file();
	event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	before = count_fds();
	/* thrice each: how far the server gets before the client is gone */
	for (size_t limit = 0;; limit++) {
		bool more;

		c = client_open();
		more = play(c, json, lines, n, limit / 3);

		for (size_t i = 0; i < limit % 3 * 10; i++)
			step();
		close(c);
		if (limit % 4 == 0)
			until(count_fds() == before && !fake.opened);
		if (!more)
			break;
	}
	/* And one that stays until all of it has been done, however slow the workers are. */
	c = client_open();
	play(c, json, lines, n, SIZE_MAX);
	until(fake.resets > 0);
	close(c);
	until(count_fds() == before && !fake.opened);
	assert_int_equal(fake.opens, fake.closes);
	assert_true(fake.opens > 10);
	close(memory);
	close(event);
}

static void
test_legacy(void **state)
{
	vanish_everywhere(NULL, legacy, ARRAY_SIZE(legacy));
}

static void
test_iommufd(void **state)
{
	vanish_everywhere(IOMMUFD_JSON, iommufd, ARRAY_SIZE(iommufd));
}

/* The device's call runs, the client goes; the device drains later or at once. */
static void
test_during_calls(void **state)
{
	static const struct line calls[] = {
		{ 9, P(get) },
		{ 10, P(put) },
		{ 13, NULL, 0 },
	};

	for (size_t i = 0; i < 2 * ARRAY_SIZE(calls); i++) {
		const struct line *l = &calls[i / 2];
		int c = client_start(NULL);
		struct vu_session *s = fake.s;
		unsigned closes = fake.closes;

		fake.later_io = fake.later_reset = true;
		fake.later_close = i & 1;
		client_send(c, l->cmd, 0, l->p, l->len, NULL, 0);
		client_send(c, l->cmd, 0, l->p, l->len, NULL, 0);
		until(fake.busy);
		close(c);
		until(fake.closes == closes + 1);
		if (fake.later_close) {
			for (int k = 0; k < 20; k++)
				step();
			/* it may still answer what it was asked */
			vu_complete(s, 0);
			for (int k = 0; k < 20; k++)
				step();
			fake.busy = false;
			vu_closed(s);
		}
		fake.later_close = false;
	}
}

/* An unmap whose I/O does not end: the client goes, then the listener. */
static struct ioas_unmap *held_unmap;

static void
hold_map(struct ioas_listener *l, const struct ioas_extent *e)
{
}

static void
hold_unmap(struct ioas_listener *l, const struct ioas_extent *e, uint32_t n,
	   struct ioas_unmap *u)
{
	held_unmap = u;
}

static void
test_during_unmap(void **state)
{
	struct ioas_listener l = { .map = hold_map, .unmap = hold_unmap };
	int c = client_start(LEGACY_JSON);
	struct vu_session *s = fake.s;

	memory = guest_file();
	fake.later_close = true;
	held_unmap = NULL;
	ioas_listen(fake.ioas, &l);
	assert_int_equal(client_call(c, 2, &map, sizeof(map), &memory, 1, NULL),
			 0);
	client_send(c, 3, 0, &unmap, sizeof(unmap), NULL, 0);
	until(held_unmap);
	assert_true(client_silent(c)); /* never before the I/O has ended */
	close(c);
	until(fake.closes == 1);
	unit_unlisten();
	for (int i = 0; i < 20; i++)
		step();
	ioas_unmap_ack(held_unmap);
	ioas_unlisten(fake.ioas, &l);
	vu_closed(s);
	close(memory);
}

/* The reply to an unmap waits for its I/O, and comes then. */
static void
test_unmap_waits(void **state)
{
	struct ioas_listener l = { .map = hold_map, .unmap = hold_unmap };
	int c = client_start(LEGACY_JSON);
	struct reply r;

	memory = guest_file();
	held_unmap = NULL;
	ioas_listen(fake.ioas, &l);
	assert_int_equal(client_call(c, 2, &map, sizeof(map), &memory, 1, NULL),
			 0);
	client_send(c, 3, 0, &unmap, sizeof(unmap), NULL, 0);
	client_send(c, 4, 0, &info, sizeof(info), NULL, 0);
	until(held_unmap);
	assert_true(client_silent(c));
	ioas_unmap_ack(held_unmap);
	assert_true(client_recv(c, &r));
	assert_int_equal(r.hdr.command, VU_DMA_UNMAP);
	assert_int_equal(r.hdr.error_no, 0);
	assert_true(client_recv(c, &r));
	assert_int_equal(r.hdr.command, VU_DEVICE_GET_INFO);
	ioas_unlisten(fake.ioas, &l);
	close(memory);
	close(c);
}

#define T(f) cmocka_unit_test_setup_teardown(f, unit_setup, unit_teardown)

int
vanish_tests(void)
{
	const struct CMUnitTest tests[] = {
		T(test_legacy),	      T(test_iommufd),	   T(test_during_calls),
		T(test_during_unmap), T(test_unmap_waits),
	};

	return cmocka_run_group_tests_name("vanish", tests, NULL, NULL);
}
