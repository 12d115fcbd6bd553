/* SPDX-License-Identifier: BSD-3-Clause */
/* Who is served, who waits, who is thrown out. */
#include <stdio.h>
#include <stdlib.h>

#include "unit.h"

#include "fake/nofile.h"

/* Send VERSION and do not wait. */
static int
client_hello(const char *json)
{
	uint8_t buf[1024];
	int c = client_open();

	client_send_raw(c, buf, version_msg(buf, json), NULL, 0);
	return c;
}

static void
expect_refused(int c, int err)
{
	struct reply r;

	assert_true(client_recv(c, &r));
	assert_int_equal(r.hdr.command, VU_VERSION);
	assert_int_equal(r.hdr.error_no, err);
	assert_int_equal(r.len, 0);
	assert_true(client_gone(c));
	close(c);
}

static void
expect_served(int c)
{
	struct reply r;

	assert_true(client_recv(c, &r));
	assert_int_equal(r.hdr.flags, VU_F_REPLY);
	assert_int_equal(
		client_call(c, VU_DEVICE_RESET, NULL, 0, NULL, 0, NULL), 0);
}

static void
expect_served_once(void)
{
	int c = client_hello(NULL);

	expect_served(c);
	close(c);
}

/* QEMU's rule: never longer than what it sent; and what its JSON must say. */
static void
test_version_reply(void **state)
{
	static const char *const jsons[] = {
		LEGACY_JSON,
		IOMMUFD_JSON,
		"{}",
		"",
		"{\"capabilities\":{}}",
		"{\"capabilities\":{\"max_msg_fds\":1}}",
		"{\"capabilities\":{},\"padding\":\"0123456789012345678901\"}",
	};

	for (size_t i = 0; i < ARRAY_SIZE(jsons); i++) {
		struct reply r;
		int c = client_hello(jsons[i]);

		assert_true(client_recv(c, &r));
		assert_int_equal(r.hdr.error_no, 0);
		assert_in_range(r.len, 4, 4 + strlen(jsons[i]) + 1);
		if (r.len > 4) {
			assert_int_equal(r.data[r.len - 1], 0);
			assert_int_equal(!!strstr((char *)r.data + 4,
						  "iommufd"),
					 i == 1);
		}
		close(c);
		until(!fake.opened);
	}
}

static void
test_first_message(void **state)
{
	static const uint8_t major1[] = { 1, 0, 0, 0 };
	uint8_t *big = calloc(1, VU_VERSION_MAX + 1);
	struct reply r;
	int c = client_open();

	assert_int_equal(client_call(c, VU_DEVICE_RESET, NULL, 0, NULL, 0, &r),
			 EINVAL);
	assert_true(client_gone(c));
	close(c);
	c = client_open();
	client_send(c, VU_VERSION, 0, major1, 4, NULL, 0);
	expect_refused(c, EINVAL);
	c = client_open();
	client_send(c, VU_VERSION, VU_F_REPLY, "\0\0\0\0", 4, NULL, 0);
	expect_refused(c, EINVAL);
	c = client_open();
	client_send(c, VU_VERSION, 0, "\0\0\0", 3, NULL, 0);
	expect_refused(c, EINVAL);
	c = client_open();
	client_send(c, VU_VERSION, 0, big, VU_VERSION_MAX + 1, NULL, 0);
	expect_refused(c, EINVAL);
	c = client_hello("{\"capabilities\":7}");
	expect_refused(c, EINVAL);
	assert_int_equal(fake.opens, 0);
	free(big);
}

static void
test_busy(void **state)
{
	int first = client_start(NULL);

	for (int i = 0; i < 50; i++)
		expect_refused(client_hello(i & 1 ? IOMMUFD_JSON : NULL),
			       EBUSY);
	assert_int_equal(
		client_call(first, VU_DEVICE_RESET, NULL, 0, NULL, 0, NULL), 0);
	close(first);
	expect_served_once();
	assert_int_equal(fake.opens, 2);
}

/* While the old device drains the next client waits; the first of them gets it. */
static void
test_held(void **state)
{
	int old = client_start(NULL), c[4];
	struct vu_session *s = fake.s;

	fake.later_close = true;
	close(old);
	until(fake.closes == 1);
	for (int i = 0; i < 4; i++) {
		c[i] = client_hello(LEGACY_JSON);
		assert_true(client_silent(c[i]));
	}
	close(c[0]); /* it gave up */
	for (int i = 0; i < 20; i++)
		step();
	assert_int_equal(fake.opens, 1);
	fake.later_close = false;
	vu_closed(s);
	expect_served(c[1]);
	expect_refused(c[2], EBUSY);
	expect_refused(c[3], EBUSY);
	assert_int_equal(fake.opens, 2);
	close(c[1]);
}

/* More connections than may wait: the rest stays in the backlog and is served. */
static void
test_many_waiting(void **state)
{
	int first = client_start(NULL), c[14];

	for (size_t i = 0; i < ARRAY_SIZE(c); i++)
		c[i] = client_open();
	for (int i = 0; i < 50; i++)
		step();
	for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
		uint8_t buf[64];

		client_send_raw(c[i], buf, version_msg(buf, NULL), NULL, 0);
		expect_refused(c[i], EBUSY);
	}
	close(first);
}

static void
test_open_fails(void **state)
{
	fake.open_err = -EACCES;
	expect_refused(client_hello(NULL), EACCES);
	fake.open_err = 0;
	fake.later_open = true;
	int c = client_hello(NULL);

	until(fake.busy);
	assert_true(client_silent(c));
	fake_finish(-ENOSPC);
	expect_refused(c, ENOSPC);
	assert_int_equal(fake.closes, 0);
}

static void
test_open_later(void **state)
{
	int c, again;

	fake.later_open = true;
	c = client_hello(NULL);
	until(fake.busy);
	again = client_hello(NULL);
	expect_refused(again, EBUSY);
	fake_finish(0);
	expect_served(c);
	close(c);
	until(fake.closes == 1);
}

/* It leaves while its device is being opened: closed when there, never before. */
static void
test_gone_while_opening(void **state)
{
	for (int err = 0; err >= -1; err--) {
		int c;

		fake.later_open = true;
		c = client_hello(NULL);
		until(fake.busy);
		close(c);
		for (int i = 0; i < 50; i++)
			step();
		assert_int_equal(fake.closes, err ? 1 : 0);
		fake_finish(err);
		until(!fake.opened);
		for (int i = 0; i < 50; i++)
			step();
		assert_int_equal(fake.closes, 1);
	}
	expect_served_once();
}

/* The device throws its client out from inside a call. */
static void
test_thrown_out(void **state)
{
	struct {
		struct vu_region_access a;
		uint32_t v;
	} __attribute__((packed)) w = { { 0, 0, 4 }, 1 };
	int c = client_start(NULL);

	fake.throw_out = true;
	client_send(c, VU_REGION_WRITE, 0, &w, sizeof(w), NULL, 0);
	client_send(c, VU_REGION_WRITE, 0, &w, sizeof(w), NULL, 0);
	assert_true(client_gone(c));
	close(c);
	until(fake.closes == 1);
	assert_int_equal(fake.writes, 1);
	fake.throw_out = false;
	c = client_start(NULL);
	vu_disconnect(fake.s, "from outside");
	vu_disconnect(fake.s, "and again");
	assert_true(client_gone(c));
	close(c);
	until(fake.closes == 2);
}

/* A file that was cut off under its mapping: that client goes, nobody else. */
static void
test_fault(void **state)
{
	int c = client_start(NULL);

	ioas_set_faulted(fake.ioas);
	assert_true(client_gone(c));
	close(c);
	until(fake.closes == 1);
	expect_served_once();
}

/* Removing the listener: from under clients in every state. */
static void
test_unlisten(void **state)
{
	int served = client_start(NULL), silent = client_open();
	uint8_t buf[64];
	int half = client_open();

	client_send_raw(half, buf, version_msg(buf, NULL) - 1, NULL, 0);
	for (int i = 0; i < 20; i++)
		step();
	unit_unlisten();
	assert_true(client_gone(served));
	assert_true(client_gone(silent));
	assert_true(client_gone(half));
	assert_int_equal(fake.closes, 1);
	close(served);
	close(silent);
	close(half);
}

/* While the device drains, with another client that waits for it. */
static void
test_unlisten_draining(void **state)
{
	int old = client_start(NULL), next;
	struct vu_session *s = fake.s;

	fake.later_close = true;
	close(old);
	until(fake.closes == 1);
	next = client_hello(NULL);
	assert_true(client_silent(next));
	unit_unlisten();
	assert_true(client_gone(next));
	close(next);
	vu_closed(s);
	assert_int_equal(fake.opens, 1);
}

/* And while it is being opened. */
static void
test_unlisten_opening(void **state)
{
	int c;

	fake.later_open = true;
	c = client_hello(NULL);
	until(fake.busy);
	vu_disconnect(fake.s, "early");
	assert_true(client_gone(c));
	fake_finish(0);
	until(fake.closes == 1);
	close(c);
}

/* A device that answers from inside open: as if it had answered later. */
static void
test_open_inside(void **state)
{
	int c;

	fake.open_inside = true;
	expect_served_once();
	until(fake.closes == 1);
	fake.open_err = -EMFILE;
	expect_refused(client_hello(NULL), EMFILE);
	fake.open_err = 0;
	fake.open_inside = false;
	c = client_hello(NULL); /* the listener is not stuck with that one */
	expect_served(c);
	close(c);
}

static void
test_no_descriptors(void **state)
{
	int c = client_hello(NULL);

	fake_no_descriptors(c);
	expect_served(c);
	close(c);
}

#define T(f) cmocka_unit_test_setup_teardown(f, unit_setup, unit_teardown)

int
session_tests(void)
{
	const struct CMUnitTest tests[] = {
		T(test_version_reply),
		T(test_first_message),
		T(test_busy),
		T(test_held),
		T(test_many_waiting),
		T(test_open_fails),
		T(test_open_later),
		T(test_open_inside),
		T(test_no_descriptors),
		T(test_gone_while_opening),
		T(test_thrown_out),
		T(test_fault),
		T(test_unlisten),
		T(test_unlisten_draining),
		T(test_unlisten_opening),
	};

	return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
