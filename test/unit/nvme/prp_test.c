/* SPDX-License-Identifier: BSD-3-Clause */
/* PRP entries and lists: what becomes of them, and of those that lie. */
#include "unit.h"

#define P NVME_PAGE
#define LIST 8u	 /* page of the list in the arena */
#define LIST2 9u /* and of its continuation */
#define OFFSET NVME_SC_PRP_INVALID_OFFSET
#define XFER NVME_SC_DATA_XFER_ERROR

/* Addresses below are in pages of a fresh arena of 64: A(page, offset). */
#define A(page, off) ((uint64_t)(page) << 32 | (off) | 1ull << 63)
#define LAST_IN_PAGE 4088u

static const struct prp_case {
	const char *name;
	uint64_t prp1, prp2;
	uint32_t len;
	uint64_t list[6], list2[4];
	uint32_t list_at; /* byte in LIST */
	nvme_status_t want;
	unsigned iovcnt;
} cases[] = {
	{ "one page", A(0, 0), 0, P, { 0 }, { 0 }, 0, 0, 1 },
	{ "one block", A(0, 512), 0, 512, { 0 }, { 0 }, 0, 0, 1 },
	{ "dword aligned", A(0, 4), 0, 512, { 0 }, { 0 }, 0, 0, 1 },
	{ "to the page's end", A(0, 3584), 0, 512, { 0 }, { 0 }, 0, 0, 1 },
	{ "prp2 not needed is not looked at",
	  A(0, 0),
	  GUEST_HOLE + 1,
	  P,
	  { 0 },
	  { 0 },
	  0,
	  0,
	  1 },
	{ "spans two pages", A(0, 3072), A(5, 0), P, { 0 }, { 0 }, 0, 0, 2 },
	{ "two adjacent pages are one",
	  A(0, 0),
	  A(1, 0),
	  2 * P,
	  { 0 },
	  { 0 },
	  0,
	  0,
	  1 },
	{ "backwards", A(1, 0), A(0, 0), 2 * P, { 0 }, { 0 }, 0, 0, 2 },
	{ "the same page twice", A(0, 0), A(0, 0), 2 * P, { 0 }, { 0 }, 0, 0, 2 },
	{ "list of two",
	  A(0, 0),
	  A(LIST, 0),
	  3 * P,
	  { A(2, 0), A(4, 0) },
	  { 0 },
	  0,
	  0,
	  3 },
	{ "list at an offset",
	  A(0, 0),
	  A(LIST, 16),
	  3 * P,
	  { A(2, 0), A(4, 0) },
	  { 0 },
	  16,
	  0,
	  3 },
	{ "list from an offset, last page short",
	  A(0, 2048),
	  A(LIST, 0),
	  2 * P + 2048 + 512,
	  { A(2, 0), A(4, 0), A(6, 0) },
	  { 0 },
	  0,
	  0,
	  4 },
	{ "chained lists",
	  A(0, 0),
	  A(LIST, LAST_IN_PAGE),
	  3 * P,
	  { A(LIST2, 0) },
	  { A(2, 0), A(4, 0) },
	  LAST_IN_PAGE,
	  0,
	  3 },
	{ "list fills its page without a chain",
	  A(0, 0),
	  A(LIST, LAST_IN_PAGE - 8),
	  3 * P,
	  { A(2, 0), A(4, 0) },
	  { 0 },
	  LAST_IN_PAGE - 8,
	  0,
	  3 },
	{ "prp1 odd", A(0, 1), 0, 512, { 0 }, { 0 }, 0, OFFSET, 0 },
	{ "prp1 on 2", A(0, 2), 0, 512, { 0 }, { 0 }, 0, OFFSET, 0 },
	{ "prp2 with an offset",
	  A(0, 0),
	  A(1, 512),
	  2 * P,
	  { 0 },
	  { 0 },
	  0,
	  OFFSET,
	  0 },
	{ "list unaligned",
	  A(0, 0),
	  A(LIST, 4),
	  3 * P,
	  { A(2, 0), A(4, 0) },
	  { 0 },
	  0,
	  OFFSET,
	  0 },
	{ "entry with an offset",
	  A(0, 0),
	  A(LIST, 0),
	  3 * P,
	  { A(2, 0), A(4, 8) },
	  { 0 },
	  0,
	  OFFSET,
	  0 },
	{ "first entry with an offset",
	  A(0, 0),
	  A(LIST, 0),
	  3 * P,
	  { A(2, 4), A(4, 0) },
	  { 0 },
	  0,
	  OFFSET,
	  0 },
	{ "chain with an offset",
	  A(0, 0),
	  A(LIST, LAST_IN_PAGE),
	  3 * P,
	  { A(LIST2, 8) },
	  { 0 },
	  LAST_IN_PAGE,
	  OFFSET,
	  0 },
	{ "chain to itself ends",
	  A(0, 0),
	  A(LIST, LAST_IN_PAGE),
	  3 * P,
	  { A(LIST, 0) },
	  { 0 },
	  LAST_IN_PAGE,
	  XFER,
	  0 },
	{ "chain to nowhere",
	  A(0, 0),
	  A(LIST, LAST_IN_PAGE),
	  3 * P,
	  { GUEST_HOLE },
	  { 0 },
	  LAST_IN_PAGE,
	  XFER,
	  0 },
	{ "prp1 zero", 0, 0, 512, { 0 }, { 0 }, 0, XFER, 0 },
	{ "prp1 in a hole", GUEST_HOLE, 0, 512, { 0 }, { 0 }, 0, XFER, 0 },
	{ "prp2 in a hole", A(0, 0), GUEST_HOLE, 2 * P, { 0 }, { 0 }, 0, XFER, 0 },
	{ "prp2 zero", A(0, 0), 0, 2 * P, { 0 }, { 0 }, 0, XFER, 0 },
	{ "list in a hole", A(0, 0), GUEST_HOLE, 3 * P, { 0 }, { 0 }, 0, XFER, 0 },
	{ "entry in a hole",
	  A(0, 0),
	  A(LIST, 0),
	  3 * P,
	  { A(1, 0), GUEST_HOLE },
	  { 0 },
	  0,
	  XFER,
	  0 },
	{ "top of the address space",
	  0xfffffffffffff000,
	  0,
	  P,
	  { 0 },
	  { 0 },
	  0,
	  XFER,
	  0 },
	{ "behind the memory", A(64, 0), 0, 512, { 0 }, { 0 }, 0, XFER, 0 },
};

static uint64_t
address(iova_t arena, uint64_t a)
{
	if (!(a >> 63) || a == 0xfffffffffffff000)
		return a;
	return arena + (a >> 32 & 0xff) * P + (a & 0xffff);
}

static void
test_cases(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	struct nvme_sq *sq = g->ctrl->group.sqs[1];
	/* the arena ends where the memory does */
	iova_t arena = GUEST_IOVA + g->opts.mem_len - 64 * P;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct prp_case *c = &cases[i];
		struct nvme_req *req = take_req(sq);
		uint64_t *list = guest_ptr(g, arena + LIST * P + c->list_at);
		uint64_t *list2 = guest_ptr(g, arena + LIST2 * P);
		struct bad_range bad;
		nvme_status_t st;
		uint64_t sum = 0;

		memset(guest_ptr(g, arena + LIST * P), 0, 2 * P);
		for (unsigned n = 0; n < ARRAY_SIZE(c->list); n++)
			if (c->list[n])
				list[n] = address(arena, c->list[n]);
		for (unsigned n = 0; n < ARRAY_SIZE(c->list2); n++)
			if (c->list2[n])
				list2[n] = address(arena, c->list2[n]);
		st = prp_map(req, address(arena, c->prp1),
			     address(arena, c->prp2), c->len, IOAS_WRITE, &bad);
		for (unsigned n = 0; n < req->iovcnt; n++)
			sum += req->iov[n].iov_len;
		if (st != c->want || (!st && req->iovcnt != c->iovcnt) ||
		    (!st && sum != c->len))
			fail_msg("%s: status %x, %u pieces, %lu bytes", c->name,
				 st, req->iovcnt, (unsigned long)sum);
		if (st == XFER)
			assert_int_not_equal(bad.len, 0);
		req_drop(req);
	}
}

/* 1 MiB of scattered pages: 257 pieces, which the long array just holds. */
static void
test_longest(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	iova_t buf = guest_alloc(g, 514 * P), list = guest_alloc(g, P);
	struct nvme_req *req = take_req(g->ctrl->group.sqs[1]);
	struct bad_range bad;

	for (unsigned i = 0; i < 256; i++)
		((uint64_t *)guest_ptr(g, list))[i] = buf + 2 * i * P;
	assert_int_equal(prp_map(req, buf + 513 * P + 4, list, 1 << 20,
				 IOAS_READ, &bad),
			 0);
	assert_int_equal(req->iovcnt, 257);
	assert_int_equal(g->ctrl->group.iov_used, 1);
	req_drop(req);
	assert_int_equal(g->ctrl->group.iov_used, 0);
}

/* Scattered commands beyond the long arrays of a controller wait, and all end. */
static void
test_arrays_run_out(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	iova_t buf = guest_alloc(g, 16 * P), list = guest_alloc(g, P);
	struct nvme_sqe sqe = guest_rw(g, 2, 0, 64, buf, P);
	struct nvme_cqe cqe;
	unsigned n = 400;

	for (unsigned i = 0; i < 7; i++)
		((uint64_t *)guest_ptr(g, list))[i] = buf + 2 * i * P;
	sqe.prp2 = list;
	assert_int_equal(guest_create_q(g, 2, 512, false), 0);
	fake_bdev_hold(w->disk, true);
	for (unsigned i = 0; i < n; i++)
		guest_put(g, 2, sqe);
	guest_ring(g, 2);
	guest_step(g, 100);
	assert_int_equal(fake_bdev_held(w->disk), 257);
	fake_bdev_hold(w->disk, false);
	fake_bdev_release(w->disk, n, 0);
	while (n--) {
		assert_true(guest_wait(g, 2, &cqe));
		assert_int_equal(cqe.status >> 1, 0);
	}
	assert_int_equal(g->ctrl->group.iov_used, 0);
}

static void
test_permission(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	iova_t ro = 0x80000000, wo = 0x80010000, nohost = 0x80020000;

	assert_int_equal(guest_map(g, ro, P, 0, IOAS_READ), 0);
	assert_int_equal(guest_map(g, wo, P, 0, IOAS_WRITE), 0);
	assert_int_equal(guest_map_nohost(g, nohost, P), 0);
	assert_int_equal(guest_cmd(g, 1, guest_rw(g, 1, 0, 1, ro, 512), NULL),
			 0);
	assert_int_equal(guest_cmd(g, 1, guest_rw(g, 2, 0, 1, ro, 512), NULL),
			 4);
	assert_int_equal(guest_cmd(g, 1, guest_rw(g, 2, 0, 1, wo, 512), NULL),
			 0);
	assert_int_equal(guest_cmd(g, 1, guest_rw(g, 1, 0, 1, wo, 512), NULL),
			 4);
	assert_int_equal(
		guest_cmd(g, 1, guest_rw(g, 1, 0, 1, nohost, 512), NULL), 4);
	assert_int_equal(
		guest_cmd(g, 1, guest_rw(g, 2, 0, 1, nohost, 512), NULL), 4);
}

int
prp_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_cases, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_longest, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_arrays_run_out,
						world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_permission, world_setup,
						world_teardown),
	};

	return cmocka_run_group_tests_name("prp", tests, NULL, NULL);
}
