/* SPDX-License-Identifier: BSD-3-Clause */
/* Scatter gather lists: all shapes, and those that lie. */
#include "unit.h"

#define P NVME_PAGE
#define TYPE NVME_SC_SGL_INVALID_TYPE
#define LAST NVME_SC_SGL_INVALID_LAST
#define LEN NVME_SC_SGL_INVALID_DATA
#define COUNT NVME_SC_SGL_INVALID_COUNT
#define XFER NVME_SC_DATA_XFER_ERROR

/* Pages of the arena. */
#define A(page, off) (0x8000000000000000ull | (uint64_t)(page) << 32 | (off))
#define DATA(a, l)                                    \
	{                                             \
		.addr = (a), .len = (l), .type = 0x00 \
	}
#define BUCKET(l)                        \
	{                                \
		.len = (l), .type = 0x10 \
	}
#define SEG(a, n)                                        \
	{                                                \
		.addr = (a), .len = (n)*16, .type = 0x20 \
	}
#define LASTSEG(a, n)                                    \
	{                                                \
		.addr = (a), .len = (n)*16, .type = 0x30 \
	}
#define S1 A(8, 0)
#define S2 A(10, 0)

static const struct sgl_case {
	const char *name;
	struct nvme_sgl first;
	struct nvme_sgl s1[4], s2[3];
	uint32_t len;
	bool to_disk;
	nvme_status_t want;
	unsigned iovcnt;
} cases[] = {
	{ "a block", DATA(A(0, 0), P), {}, {}, P, 0, 0, 1 },
	{ "unaligned", DATA(A(0, 3), 512), {}, {}, 512, 0, 0, 1 },
	{ "over pages", DATA(A(0, 100), 3 * P), {}, {}, 3 * P, 0, 0, 1 },
	{ "longer than the transfer", DATA(A(0, 0), 3 * P), {}, {}, P, 0, 0, 1 },
	{ "last segment",
	  LASTSEG(S1, 2),
	  { DATA(A(0, 0), 512), DATA(A(2, 0), 512) },
	  {},
	  1024,
	  0,
	  0,
	  2 },
	{ "joins",
	  LASTSEG(S1, 2),
	  { DATA(A(0, 0), 512), DATA(A(0, 512), 512) },
	  {},
	  1024,
	  0,
	  0,
	  1 },
	{ "segments",
	  SEG(S1, 2),
	  { DATA(A(0, 0), 512), LASTSEG(S2, 1) },
	  { DATA(A(2, 0), 512) },
	  1024,
	  0,
	  0,
	  2 },
	{ "segment, then segment",
	  SEG(S1, 2),
	  { DATA(A(0, 0), 512), SEG(S2, 1) },
	  { DATA(A(2, 0), 512) },
	  1024,
	  0,
	  0,
	  2 },
	{ "empty blocks",
	  LASTSEG(S1, 3),
	  { DATA(0, 0), DATA(A(0, 0), 512), DATA(0, 0) },
	  {},
	  512,
	  0,
	  0,
	  1 },
	{ "what is not needed is not looked at",
	  LASTSEG(S1, 2),
	  { DATA(A(0, 0), 512), DATA(GUEST_HOLE, 512) },
	  {},
	  512,
	  0,
	  0,
	  1 },
	{ "bit bucket in a read",
	  LASTSEG(S1, 3),
	  { DATA(A(0, 0), 512), BUCKET(1024), DATA(A(2, 0), 512) },
	  {},
	  2048,
	  0,
	  0,
	  3 },
	{ "bit bucket of 256 KiB",
	  BUCKET(256 << 10),
	  {},
	  {},
	  256 << 10,
	  0,
	  0,
	  4 },
	{ "bit bucket in a write has no effect",
	  LASTSEG(S1, 3),
	  { DATA(A(0, 0), 512), BUCKET(1024), DATA(A(2, 0), 512) },
	  {},
	  1024,
	  1,
	  0,
	  2 },
	{ "write of a bit bucket only", BUCKET(512), {}, {}, 512, 1, LEN, 0 },
	{ "too short", DATA(A(0, 0), 511), {}, {}, 512, 0, LEN, 0 },
	{ "empty", DATA(A(0, 0), 0), {}, {}, 512, 0, LEN, 0 },
	{ "list too short",
	  LASTSEG(S1, 2),
	  { DATA(A(0, 0), 512), DATA(A(2, 0), 511) },
	  {},
	  1024,
	  0,
	  LEN,
	  0 },
	{ "segment of nothing", SEG(S1, 0), {}, {}, 512, 0, LAST, 0 },
	{ "segment of 24 bytes",
	  { .addr = S1, .len = 24, .type = 0x30 },
	  { DATA(A(0, 0), 512) },
	  {},
	  512,
	  0,
	  LAST,
	  0 },
	{ "segment in the middle",
	  SEG(S1, 2),
	  { SEG(S2, 1), DATA(A(0, 0), 512) },
	  {},
	  512,
	  0,
	  LAST,
	  0 },
	{ "segment in a last one",
	  LASTSEG(S1, 2),
	  { DATA(A(0, 0), 512), SEG(S2, 1) },
	  { DATA(A(2, 0), 512) },
	  1024,
	  0,
	  LAST,
	  0 },
	{ "last in a last one",
	  LASTSEG(S1, 2),
	  { DATA(A(0, 0), 512), LASTSEG(S2, 1) },
	  { DATA(A(2, 0), 512) },
	  1024,
	  0,
	  LAST,
	  0 },
	{ "ring of segments ends",
	  SEG(S1, 1),
	  { SEG(S1, 1) },
	  {},
	  512,
	  0,
	  COUNT,
	  0 },
	{ "ring with empty blocks ends",
	  SEG(S1, 2),
	  { DATA(0, 0), SEG(S1, 2) },
	  {},
	  512,
	  0,
	  COUNT,
	  0 },
	{ "keyed block",
	  { .addr = A(0, 0), .len = 512, .type = 0x40 },
	  {},
	  {},
	  512,
	  0,
	  TYPE,
	  0 },
	{ "transport block",
	  { .addr = A(0, 0), .len = 512, .type = 0x5a },
	  {},
	  {},
	  512,
	  0,
	  TYPE,
	  0 },
	{ "vendor's type",
	  { .addr = A(0, 0), .len = 512, .type = 0xf0 },
	  {},
	  {},
	  512,
	  0,
	  TYPE,
	  0 },
	{ "offset subtype",
	  { .addr = A(0, 0), .len = 512, .type = 0x01 },
	  {},
	  {},
	  512,
	  0,
	  TYPE,
	  0 },
	{ "subtype of a segment",
	  { .addr = S1, .len = 16, .type = 0x31 },
	  { DATA(A(0, 0), 512) },
	  {},
	  512,
	  0,
	  TYPE,
	  0 },
	{ "bad type in a list",
	  LASTSEG(S1, 2),
	  { DATA(A(0, 0), 512), { .addr = A(1, 0), .len = 512, .type = 0x60 } },
	  {},
	  1024,
	  0,
	  TYPE,
	  0 },
	{ "hole", DATA(GUEST_HOLE, 512), {}, {}, 512, 0, XFER, 0 },
	{ "address zero", DATA(0, 512), {}, {}, 512, 0, XFER, 0 },
	{ "wraps", DATA(0xffffffffffffff00, 512), {}, {}, 512, 0, XFER, 0 },
	{ "over the end of memory", DATA(A(63, 2048), P), {}, {}, P, 0, XFER, 0 },
	{ "segment in a hole", LASTSEG(GUEST_HOLE, 1), {}, {}, 512, 0, XFER, 0 },
	{ "segment wraps",
	  LASTSEG(0xfffffffffffffff8, 1),
	  {},
	  {},
	  512,
	  0,
	  XFER,
	  0 },
	{ "4 GiB of segment",
	  { .addr = S1, .len = 0xfffffff0, .type = 0x30 },
	  { DATA(0, 0) },
	  {},
	  512,
	  0,
	  COUNT,
	  0 },
};

static struct nvme_sgl
fix(iova_t arena, struct nvme_sgl d)
{
	if (d.addr >> 48 == 0x8000)
		d.addr = arena + (d.addr >> 32 & 0xff) * P + (d.addr & 0xffff);
	return d;
}

static void
test_cases(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	struct nvme_sq *sq = g->ctrl->group.sqs[1];
	iova_t arena = GUEST_IOVA + g->opts.mem_len - 64 * P;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct sgl_case *c = &cases[i];
		struct nvme_req *req = take_req(sq);
		struct nvme_sgl *s1 = guest_ptr(g, arena + 8 * P);
		struct nvme_sgl *s2 = guest_ptr(g, arena + 10 * P);
		struct nvme_sgl first = fix(arena, c->first);
		struct bad_range bad;
		nvme_status_t st;
		uint64_t sum = 0;

		for (unsigned n = 0; n < ARRAY_SIZE(c->s1); n++)
			s1[n] = fix(arena, c->s1[n]);
		for (unsigned n = 0; n < ARRAY_SIZE(c->s2); n++)
			s2[n] = fix(arena, c->s2[n]);
		st = sgl_map(req, &first, c->len,
			     c->to_disk ? IOAS_READ : IOAS_WRITE, &bad);
		for (unsigned n = 0; n < req->iovcnt; n++)
			sum += req->iov[n].iov_len;
		if (st != c->want || (!st && req->iovcnt != c->iovcnt) ||
		    (!st && sum != c->len))
			fail_msg("%s: status %x, %u pieces, %lu bytes", c->name,
				 st, req->iovcnt, (unsigned long)sum);
		req_drop(req);
	}
}

/* A list over two extents that are apart in the host, and more pieces than fit. */
static void
test_pieces(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	struct nvme_sq *sq = g->ctrl->group.sqs[1];
	iova_t base = 0x80000000;
	struct nvme_sgl seg = { .addr = base + P - 16,
				.len = 300 * 16,
				.type = 0x30 };
	struct nvme_sgl d = { .addr = GUEST_IOVA + (8 << 20), .len = 4 };
	struct nvme_req *req = take_req(sq);
	struct bad_range bad;

	for (unsigned i = 0; i < 4; i++) /* backwards */
		assert_int_equal(guest_map(g, base + i * P, P,
					   (4 << 20) - i * P, IOAS_READ),
				 0);
	for (unsigned i = 0; i < 300; i++) {
		uint64_t at = P - 16 + i * 16;

		memcpy(g->mem + (4 << 20) - at / P * P + at % P, &d, 16);
		d.addr += 8;
	}
	assert_int_equal(sgl_map(req, &seg, 257 * 4, IOAS_WRITE, &bad), 0);
	assert_int_equal(req->iovcnt, 257);
	req->iovcnt = 0;
	assert_int_equal(sgl_map(req, &seg, 258 * 4, IOAS_WRITE, &bad), COUNT);
	req_drop(req);
}

static void
test_commands(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	iova_t buf = guest_alloc(g, 2 * P);
	struct nvme_sqe sqe = { .opcode = 1, .nsid = 1, .flags = 1 << 6 };
	struct nvme_sqe admin = { .opcode = 6, .flags = 1 << 6, .cdw10 = 1 };

	memset(guest_ptr(g, buf), 0x5a, 1024);
	sqe.sgl = (struct nvme_sgl)DATA(buf, 512);
	assert_int_equal(guest_cmd(g, 1, sqe, NULL), 0);
	assert_int_equal(fake_bdev_data(w->disk)[511], 0x5a);
	sqe.flags = 2 << 6; /* a metadata SGL: SGLS does not offer it */
	sqe.opcode = 2;
	assert_int_equal(guest_cmd(g, 1, sqe, NULL), 2);
	admin.sgl = (struct nvme_sgl)DATA(buf, P);
	assert_int_equal(guest_cmd(g, 0, admin, NULL), 2);
	admin.flags = 0;
	admin.prp1 = buf;
	admin.prp2 = 0;
	assert_int_equal(guest_cmd(g, 0, admin, NULL), 0);
}

int
sgl_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_cases, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_pieces, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_commands, world_setup,
						world_teardown),
	};

	return cmocka_run_group_tests_name("sgl", tests, NULL, NULL);
}
