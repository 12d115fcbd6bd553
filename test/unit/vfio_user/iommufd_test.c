/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands 19 to 26, their errors, and that legacy mapping is refused beside them. */
#include <stdlib.h>

#include "unit.h"

#define P(x) &(x), sizeof(x)
#define ID(...) P(((const struct vu_ioas_id){ __VA_ARGS__ }))
#define IM(...) P(((const struct vu_ioas_map){ __VA_ARGS__ }))
#define IU(...) P(((const struct vu_ioas_unmap){ __VA_ARGS__ }))
#define IC(...) P(((const struct vu_ioas_copy){ __VA_ARGS__ }))
#define BI(...) P(((const struct vu_bind){ __VA_ARGS__ }))
#define AT(...) P(((const struct vu_attach){ __VA_ARGS__ }))
#define DT(...) P(((const struct vu_detach){ __VA_ARGS__ }))

/* State before the row: nothing; IOAS 1; and bound; and attached. */
enum setup { BARE, IOAS, BOUND, ATTACHED };

/* clang-format off */
static const struct {
	const char *name;
	enum setup setup;
	unsigned cmd;
	const void *p;
	size_t len;
	int want;
	size_t reply;
	unsigned nfds;
} cases[] = {
	{ "legacy map", BARE, 2, P(((const struct vu_dma_map){ 32, 3, 0, 0, 4096 })), EINVAL, 0, 1 },
	{ "legacy map without fd", BARE, 2, P(((const struct vu_dma_map){ 32, 3, 0, 0, 4096 })), EINVAL },
	{ "legacy unmap", BARE, 3, P(((const struct vu_dma_unmap){ 24, 0, 0, 4096 })), EINVAL },

	{ "alloc", BARE, 19, ID(16), 0, 16 },
	{ "alloc, flags", BARE, 19, ID(16, 1), EINVAL },
	{ "alloc, argsz", BARE, 19, ID(15), EINVAL },
	{ "alloc, argsz 0", BARE, 19, ID(0), EINVAL },
	{ "alloc, cut off", BARE, 19, "\x10\0\0\0", 4, EINVAL },

	{ "destroy", IOAS, 20, ID(16, 0, 1), 0 },
	{ "destroy unknown", IOAS, 20, ID(16, 0, 2), ENOENT },
	{ "destroy 0", IOAS, 20, ID(16, 0, 0), ENOENT },
	{ "destroy -1", IOAS, 20, ID(16, 0, UINT32_MAX), ENOENT },
	{ "destroy attached", ATTACHED, 20, ID(16, 0, 1), EBUSY },
	{ "destroy, flags", IOAS, 20, ID(16, 4, 1), EINVAL },

	{ "map", IOAS, 21, IM(48, 3, 1, 0, 0, 4096), 0, 48, 1 },
	{ "map read-only", IOAS, 21, IM(48, 2, 1, 0, 0, 4096), 0, 48, 1 },
	{ "map, no fd", IOAS, 21, IM(48, 3, 1, 0, 0, 4096), EINVAL },
	{ "map, two fds", IOAS, 21, IM(48, 3, 1, 0, 0, 4096), EINVAL, 0, 2 },
	{ "map, no flags", IOAS, 21, IM(48, 0, 1, 0, 0, 4096), EINVAL, 0, 1 },
	{ "map, unknown flag", IOAS, 21, IM(48, 7, 1, 0, 0, 4096), EINVAL, 0, 1 },
	{ "map, unknown IOAS", IOAS, 21, IM(48, 3, 9, 0, 0, 4096), ENOENT, 0, 1 },
	{ "map, IOAS 0", BARE, 21, IM(48, 3, 0, 0, 0, 4096), ENOENT, 0, 1 },
	{ "map, empty", IOAS, 21, IM(48, 3, 1, 0, 0, 0), EINVAL, 0, 1 },
	{ "map beyond the file", IOAS, 21, IM(48, 3, 1, 0, 0, 4096, 0, GUEST_LEN), EINVAL, 0, 1 },
	{ "map, length wraps", IOAS, 21, IM(48, 3, 1, 0, 0, UINT64_MAX - 4095, 0, 8192), EINVAL, 0, 1 },
	{ "map, argsz", IOAS, 21, IM(47, 3, 1, 0, 0, 4096), EINVAL, 0, 1 },
	{ "map, cut off", IOAS, 21, ID(48, 3, 1), EINVAL, 0, 1 },

	{ "unmap nothing", IOAS, 22, IU(32, 0, 1, 0, 4096, 4096), ENOENT },
	{ "unmap all of nothing", IOAS, 22, IU(32, 1, 1), 0 },
	{ "unmap all, unknown IOAS", IOAS, 22, IU(32, 1, 2), ENOENT },
	{ "unmap, unknown IOAS", IOAS, 22, IU(32, 0, 2, 0, 4096, 4096), ENOENT },
	{ "unmap, unknown flag", IOAS, 22, IU(32, 2, 1, 0, 4096, 4096), EINVAL },
	{ "unmap, empty", IOAS, 22, IU(32, 0, 1, 0, 4096, 0), EINVAL },
	{ "unmap wraps", IOAS, 22, IU(32, 0, 1, 0, UINT64_MAX - 4095, 8192), EINVAL },

	{ "copy nothing", IOAS, 23, IC(40, 3, 1, 1, 4096, 0, 4096), ENOENT },
	{ "copy from unknown", IOAS, 23, IC(40, 3, 2, 1, 4096, 0, 4096), ENOENT },
	{ "copy to unknown", IOAS, 23, IC(40, 3, 1, 2, 4096, 0, 4096), ENOENT },
	{ "copy, no flags", IOAS, 23, IC(40, 0, 1, 1, 4096, 0, 4096), EINVAL },
	{ "copy, unknown flag", IOAS, 23, IC(40, 4, 1, 1, 4096, 0, 4096), EINVAL },
	{ "copy, empty", IOAS, 23, IC(40, 3, 1, 1, 4096, 0, 0), EINVAL },

	{ "bind", IOAS, 24, BI(16, 0, -1), 0, 16 },
	{ "bind twice", BOUND, 24, BI(16, 0, -1), EEXIST },
	{ "bind to an iommufd", IOAS, 24, BI(16, 0, 3), EINVAL },
	{ "bind, flags", IOAS, 24, BI(16, 1, -1), EINVAL },

	{ "attach, not bound", IOAS, 25, AT(16, 0, 1), EINVAL },
	{ "attach", BOUND, 25, AT(16, 0, 1), 0 },
	{ "attach again", ATTACHED, 25, AT(16, 0, 1), 0 },
	{ "attach to unknown", BOUND, 25, AT(16, 0, 7), ENOENT },
	{ "attach, PASID", BOUND, 25, AT(16, 1, 1, 5), ENOTSUP },
	{ "attach, unknown flag", BOUND, 25, AT(16, 2, 1), EINVAL },

	{ "detach, not bound", IOAS, 26, DT(16), EINVAL },
	{ "detach, not attached", BOUND, 26, DT(16), EINVAL },
	{ "detach", ATTACHED, 26, DT(16), 0 },
	{ "detach, PASID", ATTACHED, 26, DT(16, 1), ENOTSUP },
	{ "detach, unknown flag", ATTACHED, 26, DT(16, 4), EINVAL },

	{ "reset", ATTACHED, 13, NULL, 0, 0 },
};
/* clang-format on */

static uint32_t
alloc_ioas(int c)
{
	struct vu_ioas_id id = { .argsz = 16 };
	struct reply r;

	assert_int_equal(client_call(c, 19, &id, 16, NULL, 0, &r), 0);
	memcpy(&id, r.data, 16);
	assert_int_equal(id.argsz, 16);
	return id.ioas_id;
}

static void
bind_device(int c)
{
	struct vu_bind bind = { 16, 0, -1, 0 };
	struct reply r;

	assert_int_equal(client_call(c, 24, &bind, 16, NULL, 0, &r), 0);
}

static int
attach(int c, uint32_t id)
{
	struct vu_attach at = { .argsz = 16, .pt_id = id };

	return client_call(c, 25, &at, 16, NULL, 0, NULL);
}

static int
client_setup(enum setup setup)
{
	int c = client_start(IOMMUFD_JSON);

	if (setup >= IOAS)
		assert_int_equal(alloc_ioas(c), 1);
	if (setup >= BOUND)
		bind_device(c);
	if (setup >= ATTACHED)
		assert_int_equal(attach(c, 1), 0);
	return c;
}

static void
test_commands(void **state)
{
	int file = guest_file(), fds[2] = { file, file };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int c = client_setup(cases[i].setup), err;
		struct reply r;

		err = client_call(c, cases[i].cmd, cases[i].p, cases[i].len,
				  fds, cases[i].nfds, &r);
		if (err != cases[i].want || r.len != cases[i].reply)
			fail_msg("%s: errno %d, %zu bytes", cases[i].name, err,
				 r.len);
		close(c);
		until(!fake.opened);
	}
	close(file);
}

/* Map what @fd has at @off; gives the address the server chose. */
static uint64_t
map(int c, uint32_t id, int fd, uint64_t off, uint32_t flags)
{
	struct vu_ioas_map req = { .argsz = 48,
				   .flags = flags,
				   .ioas_id = id,
				   .user_va = 0x1234,
				   .length = 8192,
				   .iova = 42, /* ignored */
				   .offset = off };
	struct reply r;

	assert_int_equal(client_call(c, 21, &req, 48, &fd, 1, &r), 0);
	memcpy(&req, r.data, 48);
	assert_int_equal(req.user_va, 0x1234);
	assert_int_equal(req.length, 8192);
	assert_int_not_equal(req.iova, 42);
	return req.iova;
}

static int
unmap(int c, uint32_t id, uint64_t iova, uint64_t len)
{
	struct vu_ioas_unmap req = { 32, 0, id, 0, iova, len };

	return client_call(c, 22, &req, 32, NULL, 0, NULL);
}

/* What the device sees at @iova: the first byte, or -1. */
static int
sees(uint64_t iova, uint32_t prot)
{
	struct ioas_hit hit = { 0 };
	const uint8_t *p =
		ioas_translate(ioas_ctx_view(fake.ioas), &hit, iova, 1, prot);

	return p ? *p : -1;
}

static void
test_life(void **state)
{
	int c = client_start(IOMMUFD_JSON), fd = guest_file();
	struct vu_ioas_copy copy = { 40, 2, 1, 2, 0, 99, 4096 };
	struct vu_detach det = { .argsz = 16 };
	struct reply r;
	uint64_t a, b;

	pwrite(fd, "A", 1, 0);
	pwrite(fd, "B", 1, 8192);
	assert_int_equal(alloc_ioas(c), 1);
	assert_int_equal(alloc_ioas(c), 2);
	a = map(c, 1, fd, 0, 3);
	b = map(c, 2, fd, 8192, 2);
	assert_int_equal(sees(a, IOAS_READ), -1); /* not attached */
	bind_device(c);
	assert_int_equal(attach(c, 1), 0);
	assert_int_equal(sees(a, IOAS_READ), 'A');
	assert_int_equal(sees(b, IOAS_READ), -1); /* the other IOAS */
	assert_int_equal(attach(c, 2), 0);
	assert_int_equal(sees(a, IOAS_READ), -1);
	assert_int_equal(sees(b, IOAS_READ), 'B');
	assert_int_equal(sees(b, IOAS_WRITE), -1);
	/* a piece of the first, into the second */
	copy.src_iova = a + 4096;
	assert_int_equal(client_call(c, 23, &copy, 40, NULL, 0, &r), 0);
	memcpy(&copy, r.data, 40);
	assert_int_not_equal(copy.dst_iova, 99);
	assert_true(sees(copy.dst_iova, IOAS_READ) >= 0);
	assert_int_equal(sees(copy.dst_iova, IOAS_WRITE), -1);
	/* more than the source allows */
	copy = (struct vu_ioas_copy){ 40, 3, 2, 1, b, 0, 4096 };
	assert_int_equal(client_call(c, 23, &copy, 40, NULL, 0, NULL), EPERM);
	assert_int_equal(unmap(c, 2, b, 4096), ENOENT); /* splits */
	assert_int_equal(sees(b, IOAS_READ), 'B');
	assert_int_equal(unmap(c, 1, b, 8192), ENOENT);
	assert_int_equal(unmap(c, 2, b, 8192), 0);
	assert_int_equal(sees(b, IOAS_READ), -1);
	assert_int_equal(client_call(c, 26, &det, 16, NULL, 0, NULL), 0);
	assert_int_equal(client_call(c, 26, &det, 16, NULL, 0, NULL), EINVAL);
	assert_int_equal(attach(c, 1), 0); /* mappings survive a detach */
	assert_int_equal(sees(a, IOAS_READ), 'A');
	close(fd);
	close(c);
}

/* Ids run out, and are not used again. */
static void
test_ids(void **state)
{
	struct vu_ioas_id id = { .argsz = 16, .ioas_id = 2 };
	int c = client_start(IOMMUFD_JSON);

	for (uint32_t i = 1; i <= 4; i++)
		assert_int_equal(alloc_ioas(c), i);
	assert_int_equal(client_call(c, 19, &id, 16, NULL, 0, NULL), ENOSPC);
	assert_int_equal(client_call(c, 20, &id, 16, NULL, 0, NULL), 0);
	assert_int_equal(client_call(c, 20, &id, 16, NULL, 0, NULL), ENOENT);
	assert_int_equal(alloc_ioas(c), 5);
	close(c);
}

/* Posted: no reply, not even of what has one, and the effect is there. */
static void
test_no_reply(void **state)
{
	struct vu_ioas_id id = { .argsz = 16 };
	int c = client_start(IOMMUFD_JSON);

	client_send(c, 19, VU_F_NO_REPLY, &id, 16, NULL, 0);
	client_send(c, 2, VU_F_NO_REPLY, &id, 16, NULL, 0);
	assert_true(client_silent(c));
	assert_int_equal(alloc_ioas(c), 2);
	close(c);
}

#define T(f) cmocka_unit_test_setup_teardown(f, unit_setup, unit_teardown)

int
iommufd_tests(void)
{
	const struct CMUnitTest tests[] = {
		T(test_commands),
		T(test_life),
		T(test_ids),
		T(test_no_reply),
	};

	return cmocka_run_group_tests_name("iommufd", tests, NULL, NULL);
}
