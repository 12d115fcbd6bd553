/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames: in pieces, glued, with descriptors, with lengths that lie. */
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "unit.h"

static const struct vu_device_info info = { .argsz = 16 };

static size_t
put_msg(uint8_t *buf, unsigned cmd, const void *payload, size_t len)
{
	struct vu_hdr hdr = { .msg_id = 9,
			      .command = (uint16_t)cmd,
			      .msg_size = (uint32_t)(sizeof(hdr) + len) };

	memcpy(buf, &hdr, sizeof(hdr));
	if (len)
		memcpy(buf + sizeof(hdr), payload, len);
	return sizeof(hdr) + len;
}

static void
test_single_bytes(void **state)
{
	uint8_t buf[1024];
	size_t len = version_msg(buf, LEGACY_JSON);
	struct reply r;
	int c = client_open();

	len += put_msg(buf + len, VU_DEVICE_GET_INFO, &info, sizeof(info));
	for (size_t i = 0; i < len; i++) {
		client_send_raw(c, buf + i, 1, NULL, 0);
		step();
	}
	assert_true(client_recv(c, &r));
	assert_int_equal(r.hdr.command, VU_VERSION);
	assert_true(client_recv(c, &r));
	assert_int_equal(r.hdr.command, VU_DEVICE_GET_INFO);
	assert_int_equal(r.len, sizeof(info));
	close(c);
}

/* Pieces that cannot be read together: the session gets to look at the clock between a few of them, and loses none. */
static void
test_pieces(void **state)
{
	struct {
		struct vu_region_access a;
		uint8_t data[24];
	} w = { { 0, 0, sizeof(w.data) }, { 7 } };
	int efd = eventfd(0, 0), c[2];
	size_t bytes = 0, len;
	unsigned calls = 1;
	uint8_t buf[128];
	struct vu_msg m;
	int err;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, c), 0);
	len = put_msg(buf, VU_REGION_WRITE, &w, sizeof(w));
	assert_true(len < VU_MAX_FDS);
	for (size_t i = 0; i < len; i++)
		client_send_raw(c[0], buf + i, 1, &efd, 1);
	vu_msg_init(&m);
	for (; (err = vu_msg_read(&m, c[1], &bytes)) != 1; calls++) {
		assert_int_equal(err, -EINPROGRESS);
		assert_int_equal(bytes, calls * VU_READS);
	}
	assert_int_equal(calls, DIV_ROUND_UP(len, VU_READS));
	assert_int_equal(m.nfds, len);
	assert_memory_equal(m.body, &w, sizeof(w));
	for (unsigned i = 0; i < m.nfds; i++)
		close(m.fds[i]);
	vu_msg_fini(&m);
	close(c[0]);
	close(c[1]);
	close(efd);
}

static void
test_glued(void **state)
{
	uint8_t buf[8192];
	size_t len = version_msg(buf, NULL);
	struct reply r;
	int c = client_open();

	for (int i = 0; i < 200; i++)
		len += put_msg(buf + len, VU_DEVICE_GET_INFO, &info,
			       sizeof(info));
	client_send_raw(c, buf, len, NULL, 0);
	for (int i = 0; i < 201; i++)
		assert_true(client_recv(c, &r));
	assert_true(client_silent(c));
	close(c);
}

/* What is in the socket is applied in one round of the loop, within the budget: a few messages, or more as time allows. */
static void
test_one_round(void **state)
{
	struct {
		struct vu_region_access a;
		uint32_t v;
	} __attribute__((packed)) w = { { 0, 0, 4 }, 1 };
	int c = client_start(NULL);
	unsigned round;

	for (int i = 0; i < 100; i++)
		client_send(c, VU_REGION_WRITE, VU_F_NO_REPLY, &w, sizeof(w),
			    NULL, 0);
	for (round = 0; !fake.writes && round < 20000; round++)
		step();
	assert_in_range(fake.writes, VU_STEPS, 100);
	until(fake.writes == 100);
	close(c);
}

static const struct {
	const char *name;
	struct vu_hdr hdr;
	int want; /* 0: dropped without a word; else the errno, then dropped */
} broken_cases[] = {
	{ "size 0", { 1, VU_DEVICE_RESET, 0 }, EINVAL },
	{ "size 15", { 1, VU_DEVICE_RESET, 15 }, EINVAL },
	{ "a byte too big", { 1, VU_REGION_WRITE, VU_MSG_MAX + 1 }, EINVAL },
	{ "4 GiB", { 1, VU_REGION_WRITE, UINT32_MAX }, EINVAL },
	{ "4 GiB, no command", { 1, 999, UINT32_MAX }, EINVAL },
	{ "no reply wanted", { 1, VU_DEVICE_RESET, 3, VU_F_NO_REPLY }, 0 },
};

static void
test_broken(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(broken_cases); i++) {
		int c = client_start(NULL);
		struct reply r;

		client_send_raw(c, &broken_cases[i].hdr, 16, NULL, 0);
		if (broken_cases[i].want) {
			assert_true(client_recv(c, &r));
			assert_int_equal(r.hdr.error_no, broken_cases[i].want);
			assert_int_equal(r.hdr.msg_id, 1);
		}
		if (!client_gone(c))
			fail_msg("%s: not dropped", broken_cases[i].name);
		close(c);
		until(!fake.opened);
	}
}

static const struct {
	const char *name;
	struct vu_hdr hdr;
	int want;
} frame_cases[] = {
	{ "a reply of ours?", { 7, VU_DEVICE_RESET, 16, VU_F_REPLY }, EINVAL },
	{ "type 2", { 7, VU_DEVICE_RESET, 16, 2 }, EINVAL },
	{ "type 15", { 7, VU_DEVICE_RESET, 16, 15 }, EINVAL },
	{ "command 0", { 7, 0, 16 }, EINVAL },
	{ "command 27", { 7, 27, 16 }, EINVAL },
	{ "command 65535", { 7, 65535, 16 }, EINVAL },
	{ "DMA_READ of a client", { 7, VU_DMA_READ, 16 }, EINVAL },
	{ "DMA_WRITE of a client", { 7, VU_DMA_WRITE, 16 }, EINVAL },
	{ "DIRTY_PAGES", { 7, VU_DIRTY_PAGES, 16 }, ENOTSUP },
	{ "MIG_DATA_READ", { 7, VU_MIG_DATA_READ, 16 }, ENOTSUP },
	{ "MIG_DATA_WRITE", { 7, VU_MIG_DATA_WRITE, 16 }, ENOTSUP },
	{ "a second VERSION", { 7, VU_VERSION, 16 }, EINVAL },
	{ "no payload", { 7, VU_REGION_READ, 16 }, EINVAL },
	{ "reset", { 7, VU_DEVICE_RESET, 16 }, 0 },
	{ "error_no in a command",
	  { 7, VU_DEVICE_RESET, 16, VU_F_ERROR, 5 },
	  0 },
};

/* The stream stands: an error each, and the next message is served. */
static void
test_frames(void **state)
{
	int c = client_start(NULL);

	for (size_t i = 0; i < ARRAY_SIZE(frame_cases); i++) {
		struct reply r;

		client_send_raw(c, &frame_cases[i].hdr, 16, NULL, 0);
		assert_true(client_recv(c, &r));
		if ((int)r.hdr.error_no != frame_cases[i].want)
			fail_msg("%s: %u", frame_cases[i].name, r.hdr.error_no);
		assert_int_equal(r.len, 0);
	}
	close(c);
}

/* NO_REPLY: not even an error comes, the order is kept. */
static void
test_no_reply(void **state)
{
	int c = client_start(NULL);
	struct reply r;

	for (size_t i = 0; i < ARRAY_SIZE(frame_cases); i++) {
		struct vu_hdr hdr = frame_cases[i].hdr;

		hdr.flags |= VU_F_NO_REPLY;
		client_send_raw(c, &hdr, 16, NULL, 0);
	}
	client_send(c, VU_DEVICE_GET_INFO, 0, &info, sizeof(info), NULL, 0);
	assert_true(client_recv(c, &r));
	assert_int_equal(r.hdr.command, VU_DEVICE_GET_INFO);
	assert_int_equal(fake.resets, 2);
	assert_true(client_silent(c));
	close(c);
}

/* Payloads longer than the command needs are read and dropped. */
static void
test_over_long(void **state)
{
	static const size_t lens[] = { 17, 4096, 65536, VU_DEFAULT_DATA_XFER };
	int c = client_start(NULL);

	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		uint8_t *buf = calloc(1, lens[i]);

		memcpy(buf, &info, sizeof(info));
		assert_int_equal(client_call(c, VU_DEVICE_GET_INFO, buf,
					     lens[i], NULL, 0, NULL),
				 0);
		assert_int_equal(client_call(c, VU_DEVICE_RESET, buf, lens[i],
					     NULL, 0, NULL),
				 0);
		assert_int_equal(client_call(c, 77, buf, lens[i], NULL, 0,
					     NULL),
				 EINVAL);
		free(buf);
	}
	close(c);
}

/* Descriptors that nobody asked for are closed, and the command goes on. */
static void
test_surplus_fds(void **state)
{
	int c = client_start(NULL), fds[VU_MAX_FDS];
	unsigned before = count_fds();

	for (size_t i = 0; i < VU_MAX_FDS; i++)
		fds[i] = STDERR_FILENO;
	for (unsigned n = 1; n <= VU_MAX_FDS; n += 21) {
		client_call(c, VU_DEVICE_GET_INFO, &info, sizeof(info), fds, n,
			    NULL);
		client_call(c, VU_DMA_MAP, "", 1, fds, n, NULL);
		client_call(c, 99, NULL, 0, fds, n, NULL);
		client_call(c, VU_DEVICE_SET_IRQS, &info, sizeof(info), fds, n,
			    NULL);
	}
	until(count_fds() == before);
	close(c);
}

static void
test_version_with_fds(void **state)
{
	uint8_t buf[1024];
	unsigned before = count_fds();
	int c = client_open(), fds[3] = { 0, 1, 2 };
	struct reply r;

	client_send_raw(c, buf, version_msg(buf, NULL), fds, 3);
	assert_true(client_recv(c, &r));
	assert_int_equal(r.hdr.flags, VU_F_REPLY);
	close(c);
	until(count_fds() == before);
}

/* More than there is room for: the client is dropped, none of them stays. */
static void
test_too_many_fds(void **state)
{
	static const unsigned counts[] = { VU_MAX_FDS + 1, 128, 253 };
	unsigned before = count_fds();
	int fds[253] = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		int c = client_start(NULL);

		client_send(c, VU_DEVICE_GET_INFO, 0, &info, sizeof(info), fds,
			    counts[i]);
		assert_true(client_gone(c));
		close(c);
		until(count_fds() == before);
	}
}

/* The same in two halves of one message, each of which has room. */
static void
test_too_many_fds_in_pieces(void **state)
{
	unsigned before = count_fds();
	int c = client_start(NULL), fds[40] = { 0 };
	uint8_t buf[64];
	size_t len = put_msg(buf, VU_DEVICE_GET_INFO, &info, sizeof(info));
	struct reply r;

	client_send_raw(c, buf, 16, fds, 40);
	client_send_raw(c, buf + 16, len - 16, fds, 40);
	assert_true(client_recv(c, &r));
	assert_int_equal(r.hdr.error_no, EINVAL);
	assert_true(client_gone(c));
	close(c);
	until(count_fds() == before);
}

/* Descriptors belong to the message whose bytes they came with. */
static void
test_fds_stay_with_their_message(void **state)
{
	struct vu_dma_map map = { .argsz = 32, .flags = 3, .size = 4096 };
	uint8_t buf[64];
	int c = client_start(NULL), fd = guest_file();
	struct reply r;
	size_t len;

	/* a message without one, glued to the one that has it */
	client_send(c, VU_DEVICE_GET_INFO, 0, &info, sizeof(info), &fd, 0);
	map.flags |= VU_DMA_MAP_MMAP;
	client_send(c, VU_DMA_MAP, 0, &map, sizeof(map), &fd, 1);
	assert_true(client_recv(c, &r));
	assert_true(client_recv(c, &r));
	assert_int_equal(r.hdr.error_no, 0);
	/* with the payload instead of the header */
	map.address = 4096;
	len = put_msg(buf, VU_DMA_MAP, &map, sizeof(map));
	client_send_raw(c, buf, 16, NULL, 0);
	step();
	client_send_raw(c, buf + 16, len - 16, &fd, 1);
	assert_true(client_recv(c, &r));
	assert_int_equal(r.hdr.error_no, 0);
	/* one that another message brought does not count */
	client_send(c, VU_DEVICE_GET_INFO, 0, &info, sizeof(info), &fd, 1);
	map.address = 8192;
	client_send(c, VU_DMA_MAP, 0, &map, sizeof(map), NULL, 0);
	assert_true(client_recv(c, &r));
	assert_true(client_recv(c, &r));
	assert_int_equal(r.hdr.error_no, EINVAL);
	close(fd);
	close(c);
}

/* A client that reads no replies: requests stay in the socket, none is lost. */
static void
test_backpressure(void **state)
{
	struct vu_region_access a = { 0, VU_REGION_CONFIG, 4096 };
	int c = client_start(NULL), small = 4096, sent = 0;
	struct vu_hdr hdr = { .command = VU_REGION_READ, .msg_size = 32 };
	uint8_t buf[32];
	struct reply r;

	memset(fake.config, 0x5a, sizeof(fake.config));
	assert_int_equal(
		setsockopt(c, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
	memcpy(buf + 16, &a, sizeof(a));
	for (;;) {
		hdr.msg_id = (uint16_t)sent;
		memcpy(buf, &hdr, sizeof(hdr));
		if (send(c, buf, 32, MSG_DONTWAIT) != 32)
			break;
		sent++;
		step();
	}
	assert_true(sent > 100);
	for (int i = 0; i < 100; i++)
		step();
	assert_true(fake.reads < (unsigned)sent); /* it stopped reading */
	for (int i = 0; i < sent; i++) {
		assert_true(client_recv(c, &r));
		assert_int_equal(r.hdr.msg_id, (uint16_t)i);
		assert_int_equal(r.len, 16 + 4096);
		assert_int_equal(r.data[16 + 4095], 0x5a);
	}
	assert_int_equal(fake.reads, sent);
	close(c);
}

/* It vanishes while a reply waits for room. */
static void
test_backpressure_gone(void **state)
{
	struct vu_region_access a = { 0, VU_REGION_CONFIG, 4096 };
	int c = client_start(NULL);

	for (int i = 0; i < 100; i++) {
		client_send(c, VU_REGION_READ, 0, &a, sizeof(a), NULL, 0);
		step();
	}
	close(c);
	until(!fake.opened);
}

/* Half a message of one client does not matter to others. */
static void
test_half_message(void **state)
{
	uint8_t buf[1024];
	int half = client_open(), c;

	client_send_raw(half, buf, version_msg(buf, NULL) - 1, NULL, 0);
	step();
	c = client_start(NULL);
	client_send_raw(c, "\1\0\4", 3, NULL, 0);
	assert_true(client_silent(c));
	close(half);
	close(c);
}

#define T(f) cmocka_unit_test_setup_teardown(f, unit_setup, unit_teardown)

int
frame_tests(void)
{
	const struct CMUnitTest tests[] = {
		T(test_single_bytes),
		T(test_pieces),
		T(test_glued),
		T(test_one_round),
		T(test_broken),
		T(test_frames),
		T(test_no_reply),
		T(test_over_long),
		T(test_surplus_fds),
		T(test_version_with_fds),
		T(test_too_many_fds),
		T(test_too_many_fds_in_pieces),
		T(test_fds_stay_with_their_message),
		T(test_backpressure),
		T(test_backpressure_gone),
		T(test_half_message),
	};

	return cmocka_run_group_tests_name("frame", tests, NULL, NULL);
}
