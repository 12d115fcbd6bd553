/* SPDX-License-Identifier: BSD-3-Clause */
/* Clients that come, go, stall and talk rubbish, at a real daemon. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "common.h"

static void
expect_errno(int c, int want)
{
	struct reply r;

	assert_true(vu_recv(c, &r));
	assert_int_equal(r.hdr.error_no, want);
	assert_true(vu_closed_by_peer(c));
	close(c);
}

static void
test_handshakes(void **state)
{
	static const char *const jsons[] = { QEMU_JSON, IOMMUFD_JSON, "", "{}",
					     NULL };
	static const char *const bad[] = {
		"{", "[]", "{\"capabilities\":[]}",
		"{\"capabilities\":{\"max_msg_fds\":\"1\"}}",
		"{\"capabilities\":{\"iommufd\":1}}"
	};

	for (size_t i = 0; i < 5; i++) {
		int c = vu_connect("vm0");
		struct reply r;

		vu_hello(c, jsons[i]);
		assert_true(vu_recv(c, &r));
		assert_int_equal(r.hdr.error_no, 0);
		assert_in_range(r.len, 4,
				jsons[i] ? 4 + strlen(jsons[i]) + 1 : 4096);
		if (r.len > 4)
			assert_int_equal(r.data[r.len - 1], 0);
		close(c);
	}
	for (size_t i = 0; i < 5; i++) {
		int c = vu_connect("vm0");

		vu_hello(c, bad[i]);
		expect_errno(c, EINVAL);
	}
}

static void
test_not_version(void **state)
{
	int c = vu_connect("vm0");

	vu_send(c, VU_DEVICE_RESET, 0, NULL, 0, NULL, 0);
	expect_errno(c, EINVAL);
	c = vu_connect("vm0");
	vu_send(c, VU_VERSION, 0, "\1\0\0\0", 4, NULL, 0);
	expect_errno(c, EINVAL);
}

/* Whatever the bytes: at worst that client is dropped. */
static void
test_garbage(void **state)
{
	unsigned before, seed = 1;
	int other = vu_open("vm1", QEMU_JSON);

	close(vu_open("vm0", NULL));
	before = daemon_fds();
	for (int i = 0; i < 200; i++) {
		uint8_t buf[300];
		int c = i & 1 ? vu_connect("vm0") : vu_open("vm0", QEMU_JSON);
		int fds[3] = { 0, 1, 2 };

		for (size_t k = 0; k < sizeof(buf); k++)
			buf[k] = (uint8_t)(rand_r(&seed) >> 8);
		if (i & 2) /* a size that may be */
			buf[5] = buf[6] = buf[7] = 0;
		vu_send_raw(c, buf, sizeof(buf), fds, 3);
		close(c);
		assert_int_equal(vu_call(other, VU_DEVICE_RESET, NULL, 0, NULL,
					 0, NULL),
				 0);
	}
	daemon_fds_settle(before);
	close(other);
}

/* One client stops in the middle of a message; the other's take no longer. */
static void
test_half_messages(void **state)
{
	struct vu_hdr hdr = { 1, VU_REGION_WRITE, 16 + 16 + 4096 };
	int half = vu_open("vm0", QEMU_JSON), c = vu_open("vm1", QEMU_JSON);
	uint64_t start;

	vu_send_raw(half, &hdr, 9, NULL, 0);
	start = now_ms();
	for (int i = 0; i < 500; i++)
		region_get(c, 0, 0, 8);
	vu_send_raw(half, (char *)&hdr + 9, 7, NULL, 0);
	for (int i = 0; i < 500; i++)
		region_get(c, 0, 0, 8);
	assert_true(now_ms() - start < 5000);
	close(half);
	close(c);
}

static void
test_busy(void **state)
{
	int c = vu_open("vm0", QEMU_JSON);

	for (int i = 0; i < 20; i++) {
		int other = vu_connect("vm0");

		vu_hello(other, NULL);
		expect_errno(other, EBUSY);
	}
	region_get(c, 0, 0, 8);
	close(c);
	close(vu_open("vm0", NULL)); /* waits for the end of the first */
}

/* A thousand clients, each with mappings, eventfds and the doorbell page. */
static void
test_reconnects(void **state)
{
	struct vu_dma_map map = { 32, 3, 0, 0x100000, 0x10000 };
	struct vfio_region_info region = { .argsz = 64 };
	int memory = memfd_create("guest", MFD_CLOEXEC);
	unsigned before = 0;

	assert_int_equal(ftruncate(memory, 1 << 20), 0);
	for (int i = 0; i < 1000; i++) {
		int c = vu_open("vm0", i & 1 ? QEMU_JSON : NULL);

		if (i == 1)
			before = daemon_fds();
		assert_int_equal(vu_call(c, VU_DMA_MAP, &map, sizeof(map),
					 &memory, 1, NULL),
				 0);
		if (i % 10 == 0)
			vu_call(c, VU_DEVICE_GET_REGION_INFO, &region,
				sizeof(region), NULL, 0, NULL);
		close(c);
	}
	close(vu_open("vm0", NULL));
	daemon_fds_settle(before - 2); /* that client's socket and mapping */
	close(memory);
}

/* Send the first @limit bytes of a session. False: it has no more. */
static bool
play(int c, size_t limit, int memory)
{
	static const struct vu_dma_map map = { 32, 3, 0, 0x1000, 0x2000 };
	static const struct vu_dma_unmap unmap = { 24, 0, 0, 1 << 20 };
	static const struct {
		struct vu_region_access a;
		uint32_t v;
	} __attribute__((packed)) enable = { { 0x14, 0, 4 }, 0x460001 };
	static const struct {
		unsigned cmd;
		const void *p;
		size_t len;
		unsigned nfds;
	} script[] = {
		{ VU_VERSION, "\0\0\0", 4, 0 },
		{ VU_DMA_MAP, &map, sizeof(map), 1 },
		{ VU_REGION_WRITE, &enable, sizeof(enable), 0 },
		{ VU_DMA_UNMAP, &unmap, sizeof(unmap), 0 },
		{ VU_DMA_MAP, &map, sizeof(map), 1 },
		{ VU_DEVICE_RESET, NULL, 0, 0 },
	};

	for (size_t i = 0; i < sizeof(script) / sizeof(script[0]); i++) {
		uint8_t buf[64];
		struct vu_hdr hdr = { .command = (uint16_t)script[i].cmd };
		size_t len = sizeof(hdr) + script[i].len;

		hdr.msg_size = (uint32_t)len;
		memcpy(buf, &hdr, sizeof(hdr));
		if (script[i].len)
			memcpy(buf + sizeof(hdr), script[i].p, script[i].len);
		vu_send_raw(c, buf, len < limit ? len : limit, &memory,
			    script[i].nfds);
		if (limit <= len)
			return true;
		limit -= len;
	}
	return false;
}

static void
test_vanish(void **state)
{
	int memory = memfd_create("guest", MFD_CLOEXEC);
	unsigned before;

	assert_int_equal(ftruncate(memory, 1 << 20), 0);
	close(vu_open("vm0", NULL));
	usleep(100000);
	before = daemon_fds();
	for (size_t limit = 1;; limit++) {
		int c = vu_connect("vm0");
		bool more = play(c, limit, memory);

		if (limit & 1)
			usleep(1000);
		close(c);
		if (!more)
			break;
	}
	daemon_fds_settle(before);
	close(vu_open("vm0", NULL));
	close(memory);
}

/* Ten seconds without VERSION. */
static void
test_silent(void **state)
{
	int c = vu_connect("vm0");
	uint64_t start = now_ms();

	usleep(1000000);
	vu_send_raw(c, "\0\0\1", 3, NULL, 0); /* a beginning is not enough */
	usleep(8500000);
	assert_true(vu_closed_by_peer(c));
	assert_in_range(now_ms() - start, 9900, 11000);
	close(c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_handshakes),
		cmocka_unit_test(test_not_version),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_half_messages),
		cmocka_unit_test(test_busy),
		cmocka_unit_test(test_reconnects),
		cmocka_unit_test(test_vanish),
		cmocka_unit_test(test_silent),
	};

	return cmocka_run_group_tests_name("wire session", tests, daemon_setup,
					   daemon_teardown);
}
