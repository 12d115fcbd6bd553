/* SPDX-License-Identifier: BSD-3-Clause */
/* The NVM command set through a whole controller. */
#include "unit.h"

#define SC_MEDIA(sc) (2 << 8 | (sc))
#define BLOCKS 4096u /* of the disk */

static struct nvme_sqe
op(uint8_t opcode, uint32_t nsid, uint64_t slba, uint32_t nlb)
{
	return (struct nvme_sqe){ .opcode = opcode,
				  .nsid = nsid,
				  .cdw10 = (uint32_t)slba,
				  .cdw11 = (uint32_t)(slba >> 32),
				  .cdw12 = nlb - 1 };
}

static const struct status_case {
	const char *name;
	struct nvme_sqe sqe;
	uint16_t want;
} cases[] = {
	{ "read", { .opcode = 2, .nsid = 1 }, 0 },
	{ "write", { .opcode = 1, .nsid = 1 }, 0 },
	{ "flush", { .opcode = 0, .nsid = 1 }, 0 },
	{ "flush of all", { .opcode = 0, .nsid = 0xffffffff }, 0 },
	{ "write zeroes", { .opcode = 8, .nsid = 1 }, 0 },
	{ "verify", { .opcode = 12, .nsid = 1 }, 0 },
	{ "verify of 1 MiB", { .opcode = 12, .nsid = 1, .cdw12 = 2047 }, 0 },
	{ "last block", { .opcode = 2, .nsid = 1, .cdw10 = BLOCKS - 1 }, 0 },
	{ "opcode of nothing", { .opcode = 3, .nsid = 1 }, 1 },
	{ "write uncorrectable", { .opcode = 4, .nsid = 1 }, 1 },
	{ "vendor's opcode", { .opcode = 0xff, .nsid = 1 }, 1 },
	{ "nsid 0", { .opcode = 2, .nsid = 0 }, 0xb },
	{ "nsid 2, inactive", { .opcode = 2, .nsid = 2 }, 2 },
	{ "flush of nsid 2", { .opcode = 0, .nsid = 2 }, 2 },
	{ "nsid NN, inactive", { .opcode = 1, .nsid = 1024 }, 2 },
	{ "nsid 1025", { .opcode = 2, .nsid = 1025 }, 0xb },
	{ "nsid 80000001h", { .opcode = 2, .nsid = 0x80000001 }, 0xb },
	{ "read of all", { .opcode = 2, .nsid = 0xffffffff }, 0xb },
	{ "write of all", { .opcode = 1, .nsid = 0xffffffff }, 0xb },
	{ "flush of 0", { .opcode = 0 }, 0xb },
	{ "flush of fffffffe", { .opcode = 0, .nsid = 0xfffffffe }, 0xb },
	{ "protection that is not there",
	  { .opcode = 2, .nsid = 1, .cdw12 = 15u << 26 },
	  0 },
	{ "limited retry, read",
	  { .opcode = 2, .nsid = 1, .cdw12 = 1u << 31 },
	  0 },
	{ "a metadata pointer", { .opcode = 2, .nsid = 1, .mptr = ~3ull }, 0 },
	{ "zeroes, deallocated, FUA",
	  { .opcode = 8, .nsid = 1, .cdw12 = 1u << 30 | 1u << 25 },
	  0 },
	{ "reservation register", { .opcode = 0x0d, .nsid = 1 }, 1 },
	{ "reservation report", { .opcode = 0x0e, .nsid = 1 }, 1 },
	{ "copy", { .opcode = 0x19, .nsid = 1 }, 1 },
	{ "zone append", { .opcode = 0x7d, .nsid = 1 }, 1 },
	{ "unknown opcode before a bad NSID", { .opcode = 0x7d }, 1 },
	{ "first fused", { .opcode = 2, .nsid = 1, .flags = 1 }, 2 },
	{ "second fused", { .opcode = 5, .nsid = 1, .flags = 2 }, 2 },
	{ "PSDT 2: a metadata SGL",
	  { .opcode = 2, .nsid = 1, .flags = 0x80 },
	  2 },
	{ "PSDT 3", { .opcode = 2, .nsid = 1, .flags = 0xc0 }, 2 },
	{ "one behind", { .opcode = 2, .nsid = 1, .cdw10 = BLOCKS }, 0x80 },
	{ "over the end",
	  { .opcode = 1, .nsid = 1, .cdw10 = BLOCKS - 1, .cdw12 = 1 },
	  0x80 },
	{ "top LBA",
	  { .opcode = 2, .nsid = 1, .cdw10 = ~0u, .cdw11 = ~0u },
	  0x80 },
	{ "wraps",
	  { .opcode = 1, .nsid = 1, .cdw10 = ~0u, .cdw11 = ~0u, .cdw12 = 9 },
	  0x80 },
	{ "over MDTS", { .opcode = 2, .nsid = 1, .cdw12 = 2048 }, 2 },
	{ "over WZSL", { .opcode = 8, .nsid = 1, .cdw12 = 2048 }, 2 },
	{ "over VSL", { .opcode = 12, .nsid = 1, .cdw12 = 2048 }, 2 },
	{ "64 K blocks", { .opcode = 2, .nsid = 1, .cdw12 = 0xffff }, 0x80 },
	{ "zeroes behind", { .opcode = 8, .nsid = 1, .cdw10 = BLOCKS }, 0x80 },
	{ "verify behind", { .opcode = 12, .nsid = 1, .cdw10 = BLOCKS }, 0x80 },
};

static void
test_status(void **state)
{
	struct world *w = *state;
	iova_t buf = guest_alloc(&w->g, 4096);

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct nvme_sqe sqe = cases[i].sqe;
		uint16_t st;

		sqe.prp1 = buf;
		st = guest_cmd(&w->g, 1, sqe, NULL);
		if (st != cases[i].want)
			fail_msg("%s: status %x", cases[i].name, st);
	}
	assert_int_equal(w->g.failed, 0);
}

static void
test_data(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	static const uint32_t lens[] = { 512, 4096, 8192, 65536, 1 << 20 };
	iova_t out = guest_alloc(g, (1 << 20) + 8192);
	iova_t in = guest_alloc(g, (1 << 20) + 8192);

	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		for (uint32_t off = 0; off < 4096; off += 1020) {
			uint8_t *p = guest_ptr(g, out + off);
			uint32_t nlb = lens[i] / 512;

			for (uint32_t b = 0; b < lens[i]; b++)
				p[b] = (uint8_t)(b * 7 + b / 512 + i + off);
			assert_int_equal(guest_cmd(g, 1,
						   guest_rw(g, 1, 3, nlb,
							    out + off, lens[i]),
						   NULL),
					 0);
			assert_memory_equal(fake_bdev_data(w->disk) + 3 * 512,
					    p, lens[i]);
			memset(guest_ptr(g, in), 0, (1 << 20) + 8192);
			assert_int_equal(guest_cmd(g, 1,
						   guest_rw(g, 2, 3, nlb,
							    in + off, lens[i]),
						   NULL),
					 0);
			assert_memory_equal(guest_ptr(g, in + off), p, lens[i]);
			assert_int_equal(
				*((uint8_t *)guest_ptr(g, in + off) + lens[i]),
				0);
		}
	}
}

static void
test_compare(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	uint32_t len = 300 * 512;
	iova_t buf = guest_alloc(g, len);
	uint8_t *disk = fake_bdev_data(w->disk);
	struct nvme_sqe sqe = guest_rw(g, 5, 1, 300, buf, len);

	for (uint32_t i = 0; i < len; i++)
		disk[512 + i] = (uint8_t)(i ^ i >> 8);
	memcpy(guest_ptr(g, buf), disk + 512, len);
	assert_int_equal(guest_cmd(g, 1, sqe, NULL), 0);
	disk[512 + len - 1] ^= 1;
	assert_int_equal(guest_cmd(g, 1, sqe, NULL), SC_MEDIA(0x85));
	disk[512 + len - 1] ^= 1;
	disk[512] ^= 0x80;
	assert_int_equal(guest_cmd(g, 1, sqe, NULL), SC_MEDIA(0x85));
	disk[512] ^= 0x80;
	disk[0] ^= 1; /* before it, after it: nothing to it */
	disk[512 + len] ^= 1;
	assert_int_equal(guest_cmd(g, 1, sqe, NULL), 0);
	sqe.prp1 = GUEST_HOLE;
	assert_int_equal(guest_cmd(g, 1, sqe, NULL), 4);
	sqe.cdw12 = 2048;
	assert_int_equal(guest_cmd(g, 1, sqe, NULL), 2);
}

/* More compares than there is scratch for: they wait for each other. */
static void
test_scratch(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	struct nvme_cqe cqe;

	assert_int_equal(guest_create_q(g, 2, 256, false), 0);
	fake_bdev_hold(w->disk, true);
	for (unsigned i = 0; i < 200; i++)
		guest_put(g, 2, op(12, 1, 0, 128));
	guest_ring(g, 2);
	guest_step(g, 50);
	assert_in_range(fake_bdev_held(w->disk), 32, 64);
	assert_false(guest_take(g, 2, &cqe));
	/* reads need none */
	guest_submit(g, 1, guest_rw(g, 2, 0, 1, guest_alloc(g, 512), 512));
	guest_step(g, 5);
	assert_int_equal(
		fake_bdev_held_io(w->disk, fake_bdev_held(w->disk) - 1)->len,
		512);
	fake_bdev_hold(w->disk, false);
	fake_bdev_release(w->disk, 1000, 0);
	for (unsigned i = 0; i < 200; i++) {
		assert_true(guest_wait(g, 2, &cqe));
		assert_int_equal(cqe.status >> 1, 0);
	}
	assert_true(guest_wait(g, 1, &cqe));
	assert_int_equal(w->g.ctrl->group.buf_used, 0);
}

/* Who waits for scratch is asked again when some is free, not at every end. */
static void
test_compares_wait(void **state)
{
	enum { N = 200 };
	struct world *w = *state;
	struct guest *g = &w->g;
	iova_t buf = guest_alloc(g, 65536);
	struct nvme_sqe sqe = guest_rw(g, 5, 0, 128, buf, 65536);
	uint32_t seq = g->ctrl->group.seq;
	struct nvme_cqe cqe;

	assert_int_equal(guest_create_q(g, 2, 256, false), 0);
	fake_bdev_hold(w->disk, true);
	for (unsigned i = 0; i < N; i++)
		guest_put(g, 2, sqe);
	guest_ring(g, 2);
	guest_step(g, 100);
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(fake_bdev_release(w->disk, 1, 0), 1);
		guest_step(g, 3);
		assert_true(guest_take(g, 2, &cqe));
		assert_int_equal(cqe.status >> 1, 0);
	}
	assert_in_range(g->ctrl->group.seq - seq, N, N + 10);
	assert_int_equal(w->g.ctrl->group.buf_used, 0);
	assert_int_equal(w->g.ctrl->group.iov_used, 0);
}

static void
test_flags(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	iova_t buf = guest_alloc(g, 4096);
	struct nvme_sqe sqe = guest_rw(g, 1, 0, 1, buf, 512);
	struct nvme_cqe cqe;

	assert_int_equal(guest_cmd(g, 1, sqe, NULL), 0);
	assert_int_equal(fake_bdev_last(w->disk).flags, 0);
	sqe.cdw12 |= 1u << 30; /* FUA */
	assert_int_equal(guest_cmd(g, 1, sqe, NULL), 0);
	assert_int_equal(fake_bdev_last(w->disk).flags, BDEV_IO_FUA);
	sqe.opcode = 2;
	assert_int_equal(guest_cmd(g, 1, sqe, NULL), 0);
	sqe = op(8, 1, 5, 7);
	assert_int_equal(guest_cmd(g, 1, sqe, NULL), 0);
	assert_int_equal(fake_bdev_last(w->disk).flags, 0);
	assert_int_equal(fake_bdev_last(w->disk).off, 5 * 512);
	assert_int_equal(fake_bdev_last(w->disk).len, 7 * 512);
	sqe.cdw12 |= 1u << 25; /* DEAC */
	assert_int_equal(guest_cmd(g, 1, sqe, NULL), 0);
	assert_int_equal(fake_bdev_last(w->disk).flags, BDEV_IO_UNMAP);
	/* Feature 06 off: it is done when what was cached is safe */
	fake_bdev_hold(w->disk, true);
	guest_submit(g, 0, (struct nvme_sqe){ .opcode = 9, .cdw10 = 6 });
	guest_step(g, 20);
	assert_int_equal(fake_bdev_held(w->disk), 1);
	assert_int_equal(fake_bdev_held_io(w->disk, 0)->op, BDEV_FLUSH);
	assert_false(guest_take(g, 0, &cqe));
	fake_bdev_hold(w->disk, false);
	fake_bdev_release(w->disk, 1, 0);
	assert_true(guest_wait(g, 0, &cqe));
	assert_int_equal(cqe.status >> 1, 0);
	sqe = guest_rw(g, 1, 0, 1, buf, 512);
	assert_int_equal(guest_cmd(g, 1, sqe, NULL), 0);
	assert_int_equal(fake_bdev_last(w->disk).flags, BDEV_IO_FUA);
}

/* FUA of what reads: the cache is flushed first. */
static void
test_fua_reads(void **state)
{
	static const uint8_t opcodes[] = { 2, 5, 12 };
	struct world *w = *state;
	struct guest *g = &w->g;
	iova_t buf = guest_alloc(g, 4096);
	struct nvme_sqe sqe = guest_rw(g, 2, 1, 8, buf, 4096);
	struct nvme_cqe cqe;

	memset(fake_bdev_data(w->disk), 0x5a, 8192);
	sqe.cdw12 |= 1u << 30;
	for (size_t i = 0; i < ARRAY_SIZE(opcodes); i++) {
		sqe.opcode = opcodes[i];
		fake_bdev_hold(w->disk, true);
		guest_submit(g, 1, sqe);
		guest_step(g, 5);
		assert_int_equal(fake_bdev_held(w->disk), 1);
		assert_int_equal(fake_bdev_held_io(w->disk, 0)->op, BDEV_FLUSH);
		fake_bdev_release(w->disk, 1, 0);
		guest_step(g, 5);
		assert_int_equal(fake_bdev_held(w->disk), 1);
		assert_int_equal(fake_bdev_held_io(w->disk, 0)->op, BDEV_READ);
		assert_false(guest_take(g, 1, &cqe));
		fake_bdev_hold(w->disk, false);
		fake_bdev_release(w->disk, 1, 0);
		assert_true(guest_wait(g, 1, &cqe));
		assert_int_equal(cqe.status >> 1, 0);
		assert_memory_equal(guest_ptr(g, buf),
				    fake_bdev_data(w->disk) + 512, 4096);
	}
	/* data was lost: it fails, and the host's next flush tells so as well */
	for (size_t i = 0; i < ARRAY_SIZE(opcodes); i++) {
		sqe.opcode = opcodes[i];
		fake_bdev_fail(w->disk, BDEV_FLUSH, -EIO, 1);
		assert_int_equal(guest_cmd(g, 1, sqe, NULL), 6);
		assert_int_equal(guest_cmd(g, 1, op(0, 1, 0, 1), NULL), 6);
		assert_int_equal(guest_cmd(g, 1, op(0, 1, 0, 1), NULL), 0);
		assert_int_equal(guest_cmd(g, 1, sqe, NULL), 0);
	}
	sqe = guest_rw(g, 2, BLOCKS, 1, buf, 512);
	sqe.cdw12 |= 1u << 30;
	assert_int_equal(guest_cmd(g, 1, sqe, NULL), 0x80);
	assert_int_equal(g->ctrl->group.io_inflight, 0);
	assert_int_equal(g->ctrl->group.buf_used, 0);
}

static const struct dsm_case {
	const char *name;
	struct nvme_dsm_range r[3];
	uint32_t nr, ad, discards;
	uint16_t want;
} dsm_cases[] = {
	{ "one", { { 0, 8, 16 } }, 1, 4, 1, 0 },
	{ "three", { { 0, 8, 16 }, { 0, 1, 0 }, { 0, 4096, 0 } }, 3, 4, 3, 0 },
	{ "empty ones", { { 0, 0, 16 }, { 0, 1, 0 }, { 0, 0, 0 } }, 3, 4, 1, 0 },
	{ "only hints", { { 0, 8, 16 } }, 1, 3, 0, 0 },
	{ "behind the end", { { 0, 1, 4096 } }, 1, 4, 0, 0x80 },
	{ "over the end", { { 0, 2, 4095 } }, 1, 4, 0, 0x80 },
	{ "second is bad: none is done",
	  { { 0, 1, 0 }, { 0, ~0u, 1 } },
	  2,
	  4,
	  0,
	  0x80 },
	{ "wraps", { { 0, 2, ~0ull } }, 1, 4, 0, 0x80 },
	{ "top", { { 0, ~0u, ~0ull } }, 1, 4, 0, 0x80 },
};

static void
test_dsm(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	iova_t buf = guest_alloc(g, 4096);

	for (size_t i = 0; i < ARRAY_SIZE(dsm_cases); i++) {
		const struct dsm_case *c = &dsm_cases[i];
		unsigned before = fake_bdev_count(w->disk, BDEV_DISCARD);
		struct nvme_sqe sqe = { .opcode = 9,
					.nsid = 1,
					.prp1 = buf,
					.cdw10 = c->nr - 1,
					.cdw11 = c->ad };
		uint16_t st;

		memcpy(guest_ptr(g, buf), c->r, sizeof(c->r));
		st = guest_cmd(g, 1, sqe, NULL);
		if (st != c->want ||
		    fake_bdev_count(w->disk, BDEV_DISCARD) - before !=
			    c->discards)
			fail_msg("%s: status %x, %u discards", c->name, st,
				 fake_bdev_count(w->disk, BDEV_DISCARD) -
					 before);
	}
	struct nvme_sqe sqe = { .opcode = 9,
				.nsid = 1,
				.prp1 = GUEST_HOLE,
				.cdw10 = 255,
				.cdw11 = 4 };
	assert_int_equal(guest_cmd(g, 1, sqe, NULL), 4);
	/* What cannot be deallocated stays: no failure. One that fails is. */
	sqe.prp1 = buf;
	sqe.cdw10 = 2;
	memcpy(guest_ptr(g, buf), dsm_cases[1].r, sizeof(dsm_cases[1].r));
	fake_bdev_fail(w->disk, BDEV_DISCARD, -EOPNOTSUPP, 3);
	assert_int_equal(guest_cmd(g, 1, sqe, NULL), 0);
	fake_bdev_fail(w->disk, BDEV_DISCARD, -EIO, 1);
	assert_int_equal(guest_cmd(g, 1, sqe, NULL), SC_MEDIA(0x80));
	assert_int_equal(guest_cmd(g, 1, sqe, NULL), 0);
}

static const struct errno_case {
	unsigned op;
	uint8_t opcode;
	int err;
	uint16_t want;
} errno_cases[] = {
	{ BDEV_READ, 2, -EIO, SC_MEDIA(0x81) },
	{ BDEV_WRITE, 1, -EIO, SC_MEDIA(0x80) },
	{ BDEV_WRITE, 1, -ENOSPC, 0x81 },
	{ BDEV_WRITE, 1, -EROFS, 0x20 },
	{ BDEV_FLUSH, 0, -EIO, 0x06 },
	{ BDEV_READ, 2, -ENODEV, 0x0b },
	{ BDEV_READ, 2, -ENOMEM, 0x06 },
	{ BDEV_READ, 12, -EIO, SC_MEDIA(0x81) },
	{ BDEV_READ, 5, -EIO, SC_MEDIA(0x81) },
	{ BDEV_WRITE_ZEROES, 8, -EIO, SC_MEDIA(0x80) },
};

static void
test_errors(void **state)
{
	struct world *w = *state;
	iova_t buf = guest_alloc(&w->g, 4096);
	uint64_t before = w->g.ctrl->error_count;

	for (size_t i = 0; i < ARRAY_SIZE(errno_cases); i++) {
		const struct errno_case *c = &errno_cases[i];
		struct nvme_sqe sqe = { .opcode = c->opcode,
					.nsid = 1,
					.prp1 = buf };
		uint16_t st;

		fake_bdev_fail(w->disk, c->op, c->err, 1);
		st = guest_cmd(&w->g, 1, sqe, NULL);
		if (st != c->want)
			fail_msg("opcode %u, %d: status %x", c->opcode, c->err,
				 st);
		if (c->op != BDEV_FLUSH) /* that one is told to all */
			assert_int_equal(guest_cmd(&w->g, 1, sqe, NULL), 0);
	}
	assert_int_equal(w->g.ctrl->error_count - before,
			 ARRAY_SIZE(errno_cases));
}

static void
test_read_only(void **state)
{
	struct world *w = *state;
	iova_t buf = guest_alloc(&w->g, 4096);
	static const uint8_t writes[] = { 1, 8, 9 };

	w->g.ctrl->group.ns[0]->read_only = true;
	for (size_t i = 0; i < ARRAY_SIZE(writes); i++) {
		struct nvme_sqe sqe = op(writes[i], 1, 0, 1);

		sqe.prp1 = buf;
		assert_int_equal(guest_cmd(&w->g, 1, sqe, NULL), 0x20);
	}
	assert_int_equal(guest_cmd(&w->g, 1, guest_rw(&w->g, 2, 0, 1, buf, 512),
				   NULL),
			 0);
}

static void
test_counters(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	iova_t buf = guest_alloc(g, 8192);
	struct nvme_nsref *ns = g->ctrl->group.ns[0];
	struct nvme_core_stats before, after;

	nvme_core_get_stats(g->r, &before);
	for (unsigned i = 0; i < 10; i++) {
		guest_cmd(g, 1, guest_rw(g, 2, 0, 16, buf, 8192), NULL);
		guest_cmd(g, 1, guest_rw(g, 1, 0, 2, buf, 1024), NULL);
	}
	nvme_core_get_stats(g->r, &after);
	assert_int_equal(ns->read_cmds, 10);
	assert_int_equal(ns->read_units, 160);
	assert_int_equal(ns->write_cmds, 10);
	assert_int_equal(ns->write_units, 20);
	assert_int_equal(after.commands - before.commands, 20);
	assert_int_equal(after.admin_commands, before.admin_commands);
	assert_int_equal(after.io_queues, 1);
	assert_int_equal(after.ctrls, 1);
	assert_int_equal(ns->inflight, 0);
	assert_int_equal(g->ctrl->group.io_inflight, 0);
	/* Compare is a host read command, Verify only reads data units; Write Zeroes is neither */
	guest_cmd(g, 1, guest_rw(g, 5, 0, 8, buf, 4096), NULL);
	assert_int_equal(ns->read_cmds, 11);
	assert_int_equal(ns->read_units, 168);
	guest_cmd(g, 1, op(12, 1, 0, 32), NULL);
	guest_cmd(g, 1, op(8, 1, 0, 32), NULL);
	assert_int_equal(ns->read_cmds, 11);
	assert_int_equal(ns->read_units, 200);
	assert_int_equal(ns->write_cmds, 10);
	assert_int_equal(ns->write_units, 20);
}

int
io_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_status, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_data, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_compares_wait, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_compare, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_scratch, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_flags, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_fua_reads, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_dsm, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_errors, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_read_only, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_counters, world_setup,
						world_teardown),
	};

	return cmocka_run_group_tests_name("io", tests, NULL, NULL);
}
