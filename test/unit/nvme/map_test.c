/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory that comes and goes under a running controller. */
#include "unit.h"

#include <errno.h>
#include <unistd.h>

#define P 4096u
#define RDY 1u
#define CFS 2u

/* Queue 2 lives in extents of its own, mapped beside the guest's memory. */
#define RING 0x90000000ull
#define OTHER (12u << 20) /* offset in the file */

static void
queue_apart(struct guest *g, uint32_t depth)
{
	struct nvme_sqe sqe = { .opcode = 5,
				.prp1 = RING + 0x10000,
				.cdw10 = (depth - 1) << 16 | 2,
				.cdw11 = 1 | 2 << 1 | 2 << 16 };

	assert_int_equal(guest_map(g, RING, 4 * P, OTHER, 3), 0);
	assert_int_equal(
		guest_map(g, RING + 0x10000, 4 * P, OTHER + 0x10000, 3), 0);
	assert_int_equal(guest_cmd(g, 0, sqe, NULL), 0);
	sqe.opcode = 1;
	sqe.prp1 = RING;
	assert_int_equal(guest_cmd(g, 0, sqe, NULL), 0);
	/* the guest sees them through its file */
	g->q[2] = (struct guest_q){ .qid = 2,
				    .depth = depth,
				    .sq = GUEST_IOVA + OTHER,
				    .cq = GUEST_IOVA + OTHER + 0x10000,
				    .phase = true };
}

static void
test_pause_and_resume(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	iova_t buf = guest_alloc(g, P);
	struct nvme_cqe cqe;
	struct guest_op op;
	unsigned reads;

	queue_apart(g, 64);
	assert_int_equal(guest_cmd(g, 2, guest_rw(g, 2, 0, 1, buf, 512), NULL),
			 0);
	fake_bdev_hold(w->disk, true);
	for (unsigned i = 0; i < 3; i++)
		guest_submit(g, 2, guest_rw(g, 2, i, 1, buf, 512));
	guest_step(g, 5);
	assert_int_equal(fake_bdev_held(w->disk), 3);
	/* ring memory goes at once, whatever is in flight */
	guest_unmap_start(g, RING, 4 * P, &op);
	guest_step(g, 50);
	assert_true(op.done);
	assert_int_equal(op.err, 0);
	guest_unmap_start(g, RING + 0x10000, 4 * P, &op);
	guest_step(g, 50);
	assert_true(op.done);
	fake_bdev_hold(w->disk, false);
	fake_bdev_release(w->disk, 3, 0);
	/* rung meanwhile; not fetched, not posted */
	reads = fake_bdev_count(w->disk, BDEV_READ);
	guest_submit(g, 2, guest_rw(g, 2, 3, 1, buf, 512));
	guest_run_ms(g, 20);
	assert_false(guest_take(g, 2, &cqe));
	assert_int_equal(fake_bdev_count(w->disk, BDEV_READ), reads);
	/* others go on */
	assert_int_equal(guest_cmd(g, 1, guest_rw(g, 2, 0, 1, buf, 512), NULL),
			 0);
	assert_int_equal(guest_map(g, RING, 4 * P, OTHER, 3), 0);
	guest_step(g, 20);
	assert_false(guest_take(g, 2, &cqe)); /* the CQ is still away */
	assert_int_equal(
		guest_map(g, RING + 0x10000, 4 * P, OTHER + 0x10000, 3), 0);
	for (unsigned i = 0; i < 4; i++) {
		assert_true(guest_wait(g, 2, &cqe));
		assert_int_equal(cqe.status >> 1, 0);
	}
	guest_run_ms(g, 5);
	assert_int_equal(guest_rd(g, NVME_REG_CSTS), RDY);
	assert_false(g->ctrl->group.map_lost);
}

/* It comes back at the same IOVA, but is other host memory. */
static void
test_other_memory(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	iova_t buf = guest_alloc(g, P);
	struct nvme_cqe cqe;

	queue_apart(g, 256); /* SQ of 4 pages */
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(guest_cmd(g, 2, guest_rw(g, 2, 0, 1, buf, 512),
					   NULL),
				 0);
	assert_int_equal(guest_unmap(g, RING, 4 * P), 0);
	memcpy(g->mem + OTHER + 0x20000, g->mem + OTHER, 4 * P);
	memset(g->mem + OTHER, 0xff, 4 * P); /* would be refused */
	g->q[2].sq = GUEST_IOVA + OTHER + 0x20000;
	guest_submit(g, 2, guest_rw(g, 2, 0, 1, buf, 512));
	/* page by page, as a virtual IOMMU does */
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(guest_map(g, RING + i * P, P,
					   OTHER + 0x20000 + i * P, 3),
				 0);
	assert_true(guest_wait(g, 2, &cqe));
	assert_int_equal(cqe.status >> 1, 0);
	for (unsigned i = 0; i < 300; i++) /* laps */
		assert_int_equal(guest_cmd(g, 2, guest_rw(g, 2, 0, 1, buf, 512),
					   NULL),
				 0);
}

static void
limit_set(struct bdev_ctl *c, int err)
{
	assert_int_equal(err, 0);
	c->bdev = NULL;
}

static void
set_limit(struct guest *g, uint64_t ios)
{
	const uint64_t limits[BDEV_LIMITS] = { [BDEV_RW_IOS] = ios };
	struct bdev_ctl ctl = { .done = limit_set, .bdev = (void *)1 };

	if (bdev_set_limits("disk", limits, &ctl) == -EINPROGRESS)
		while (ctl.bdev)
			guest_step(g, 1);
	guest_step(g, 50);
}

/* A command is aborted whose completion has to wait; so has the Abort's. */
static void
test_abort_comes_second(void **state)
{
	struct nvme_sqe abort = { .opcode = 8 };
	struct world *w = *state;
	struct guest *g = &w->g;
	iova_t buf = guest_alloc(g, P);
	struct nvme_cqe cqe;
	uint16_t cid;

	queue_apart(g, 64);
	set_limit(g, 1);
	assert_int_equal(guest_cmd(g, 2, guest_rw(g, 2, 0, 1, buf, 512), NULL),
			 0);
	cid = guest_submit(g, 2, guest_rw(g, 2, 1, 1, buf, 512));
	guest_step(g, 5);
	assert_int_equal(guest_unmap(g, RING + 0x10000, 4 * P), 0);
	abort.cdw10 = (uint32_t)cid << 16 | 2;
	cid = guest_submit(g, 0, abort);
	guest_step(g, 50);
	assert_false(guest_take(g, 0, &cqe));
	assert_int_equal(guest_cmd(g, 0, abort, &cqe), 0); /* not again */
	assert_int_equal(cqe.dw0, 1);
	assert_int_equal(
		guest_map(g, RING + 0x10000, 4 * P, OTHER + 0x10000, 3), 0);
	assert_true(guest_wait(g, 0, &cqe));
	assert_int_equal(cqe.cid, cid);
	assert_int_equal(cqe.dw0, 0);
	assert_true(guest_take(g, 2, &cqe));
	assert_int_equal(cqe.status >> 1 & 0x7ff, NVME_SC_ABORT_REQ);
	assert_int_equal(g->ctrl->group.admin_inflight, 0);
	/* nor does one that waits hold up a reset */
	cid = guest_submit(g, 2, guest_rw(g, 2, 1, 1, buf, 512));
	guest_step(g, 5);
	assert_int_equal(guest_unmap(g, RING + 0x10000, 4 * P), 0);
	abort.cdw10 = (uint32_t)cid << 16 | 2;
	guest_submit(g, 0, abort);
	guest_step(g, 50);
	assert_int_equal(g->ctrl->group.admin_inflight, 1);
	guest_disable(g);
	assert_int_equal(g->ctrl->group.admin_inflight, 0);
	assert_int_equal(guest_enable(g, 32), RDY);
	set_limit(g, 0);
}

static void
test_lost_for_good(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;

	queue_apart(g, 64);
	assert_int_equal(guest_unmap(g, RING, 4 * P), 0);
	guest_run_ms(g, 2500); /* no work waits: no harm */
	assert_int_equal(guest_rd(g, NVME_REG_CSTS), RDY);
	guest_submit(g, 2, (struct nvme_sqe){ .opcode = 0, .nsid = 1 });
	guest_run_ms(g, 1500);
	assert_int_equal(guest_rd(g, NVME_REG_CSTS), RDY);
	guest_run_ms(g, 1000);
	assert_int_equal(guest_rd(g, NVME_REG_CSTS), RDY | CFS);
	guest_disable(g); /* a reset heals it */
	assert_int_equal(guest_enable(g, 32), RDY);
	assert_int_equal(g->failed, 0);
}

/* An unmap waits for the I/O that uses the memory, and for no other. */
static void
test_data_in_flight(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	iova_t a = 0xa0000000, b = 0xa0100000, spare = guest_alloc(g, P);
	struct guest_op op_a, op_b;
	struct nvme_cqe cqe;

	assert_int_equal(guest_map(g, a, 4 * P, OTHER, 3), 0);
	assert_int_equal(guest_map(g, b, 4 * P, OTHER + 4 * P, 3), 0);
	fake_bdev_hold(w->disk, true);
	guest_submit(g, 1, guest_rw(g, 2, 0, 16, a, 8192));
	guest_submit(g, 1, guest_rw(g, 1, 9, 8, a + 3 * P, P));
	guest_submit(g, 1, guest_rw(g, 1, 20, 8, spare, P));
	guest_step(g, 5);
	assert_int_equal(fake_bdev_held(w->disk), 3);
	guest_unmap_start(g, a, 4 * P, &op_a);
	guest_unmap_start(g, b, 4 * P, &op_b);
	guest_run_ms(g, 20);
	assert_true(op_b.done);
	assert_false(op_a.done);
	fake_bdev_release(w->disk, 1, 0);
	guest_run_ms(g, 20);
	assert_false(op_a.done);
	/* new ones that name it: it went just now, they wait, then fail */
	guest_submit(g, 1, guest_rw(g, 2, 0, 1, a, 512));
	fake_bdev_release(w->disk, 1, 0);
	guest_run_ms(g, 5);
	assert_true(op_a.done);
	assert_int_equal(op_a.err, 0);
	fake_bdev_hold(w->disk, false);
	fake_bdev_release(w->disk, 1, 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(guest_wait(g, 1, &cqe));
		assert_int_equal(cqe.status >> 1 & 0x7ff, 0);
	}
	assert_true(guest_wait(g, 1, &cqe));
	assert_int_equal(cqe.status >> 1 & 0x7ff, 4);
	assert_true(list_empty(&g->ctrl->group.unmaps));
}

/* A disk that hangs while others map billions of commands. */
static void
test_old_request(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	iova_t a = 0xa0000000;
	struct guest_op op;

	assert_int_equal(guest_map(g, a, P, OTHER, 3), 0);
	fake_bdev_hold(w->disk, true);
	guest_submit(g, 1, guest_rw(g, 2, 0, 8, a, P));
	guest_step(g, 5);
	g->ctrl->group.seq += (1u << 31) + 7;
	guest_unmap_start(g, a, P, &op);
	guest_step(g, 5);
	assert_false(op.done);
	fake_bdev_hold(w->disk, false);
	fake_bdev_release(w->disk, 1, 0);
	guest_step(g, 5);
	assert_true(op.done);
}

/* Each time that a queue's memory goes has its own two seconds. */
static void
test_lost_twice(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	iova_t buf = guest_alloc(g, P);
	struct nvme_cqe cqe;

	queue_apart(g, 64);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(guest_unmap(g, RING, 4 * P), 0);
		guest_submit(g, 2, guest_rw(g, 2, 0, 1, buf, 512));
		guest_run_ms(g, 300);
		assert_int_equal(guest_rd(g, NVME_REG_CSTS), RDY);
		assert_int_equal(guest_map(g, RING, 4 * P, OTHER, 3), 0);
		assert_true(guest_wait(g, 2, &cqe));
		assert_int_equal(cqe.status >> 1, 0);
		guest_run_ms(g, i ? 0 : 2000);
	}
}

/* More unmaps than there are bits to mark requests with, each of one request's memory; and one of two. */
static void
test_many_unmaps(void **state)
{
	enum { N = 20 };
	struct world *w = *state;
	struct guest *g = &w->g;
	iova_t at = 0xa0000000;
	struct guest_op op[N];

	for (unsigned i = 0; i < N; i++)
		assert_int_equal(guest_map(g, at + i * P, P, OTHER + i * P, 3),
				 0);
	fake_bdev_hold(w->disk, true);
	for (unsigned i = 0; i < N; i++)
		guest_submit(g, 1, guest_rw(g, 2, 0, 1, at + i * P, 512));
	/* two a round, while the controller of the test before counts as beside it */
	guest_step(g, 50);
	assert_int_equal(fake_bdev_held(w->disk), N);
	guest_unmap_start(g, at, 2 * P, &op[1]);
	for (unsigned i = 2; i < N; i++)
		guest_unmap_start(g, at + i * P, P, &op[i]);
	guest_step(g, 50);
	fake_bdev_release(w->disk, 1, 0);
	guest_step(g, 5);
	for (unsigned i = 1; i < N; i++) {
		for (unsigned k = 1; k < N; k++)
			assert_int_equal(op[k].done, k < i);
		fake_bdev_release(w->disk, 1, 0);
		guest_step(g, 20);
	}
	assert_true(op[N - 1].done);
	assert_true(list_empty(&g->ctrl->group.unmaps));
	assert_int_equal(g->ctrl->group.unmap_bits, 0);
}

static void
test_wait_for_memory(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	iova_t a = 0xa0000000, ident = 0xa0200000;
	struct nvme_sqe id = { .opcode = 6, .prp1 = ident, .cdw10 = 1 };
	struct nvme_cqe cqe;
	uint64_t start;

	/* never mapped: at once */
	start = util_now_ns();
	assert_int_equal(guest_cmd(g, 1, guest_rw(g, 2, 0, 1, a, 512), NULL),
			 4);
	assert_true(util_now_ns() - start < 50000000);
	assert_int_equal(guest_map(g, a, P, OTHER, 3), 0);
	assert_int_equal(guest_map(g, ident, P, OTHER + P, 3), 0);
	assert_int_equal(guest_unmap(g, a, P), 0);
	assert_int_equal(guest_unmap(g, ident, P), 0);
	guest_submit(g, 1, guest_rw(g, 2, 0, 1, a, 512));
	guest_submit(g, 0, id);
	guest_run_ms(g, 20);
	assert_false(guest_take(g, 1, &cqe));
	assert_false(guest_take(g, 0, &cqe));
	/* back: they go on */
	assert_int_equal(guest_map(g, a, P, OTHER + 2 * P, 3), 0);
	assert_int_equal(guest_map(g, ident, P, OTHER + P, 3), 0);
	assert_true(guest_wait(g, 1, &cqe));
	assert_int_equal(cqe.status >> 1 & 0x7ff, 0);
	assert_true(guest_wait(g, 0, &cqe));
	assert_int_equal(cqe.status >> 1 & 0x7ff, 0);
	assert_memory_equal(g->mem + OTHER + P + 4, "S1  ", 4); /* serial */
	/* not back: 100 ms, then an error; no reset is held up by one */
	assert_int_equal(guest_unmap(g, a, P), 0);
	start = util_now_ns();
	assert_int_equal(guest_cmd(g, 1, guest_rw(g, 2, 0, 1, a, 512), NULL),
			 4);
	assert_in_range(util_now_ns() - start, 50000000, 1000000000);
	assert_int_equal(guest_map(g, a, P, OTHER, 3), 0);
	assert_int_equal(guest_unmap(g, a, P), 0);
	guest_submit(g, 1, guest_rw(g, 2, 0, 1, a, 512));
	guest_step(g, 3);
	guest_disable(g);
	assert_int_equal(g->ctrl->group.io_inflight, 0);
}

/* SeaBIOS: all of the memory goes and comes back while queues are live. */
static void
test_all_memory(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	iova_t buf = guest_alloc(g, P);
	struct nvme_cqe cqe;

	for (unsigned round = 0; round < 20; round++) {
		guest_submit(g, 1, guest_rw(g, 2, 0, 1, buf, 512));
		if (round & 1)
			guest_step(g, 1);
		assert_int_equal(guest_unmap(g, GUEST_IOVA, g->opts.mem_len),
				 0);
		guest_submit(g, 1, guest_rw(g, 2, 0, 1, buf, 512));
		guest_submit(g, 0,
			     (struct nvme_sqe){
				     .opcode = 6, .prp1 = buf, .cdw10 = 1 });
		guest_step(g, 10);
		/* in three pieces this time */
		assert_int_equal(guest_map(g, GUEST_IOVA, 8 * P, 0, 3), 0);
		guest_step(g, 3);
		assert_int_equal(guest_map(g, GUEST_IOVA + (1 << 20),
					   g->opts.mem_len - (1 << 20), 1 << 20,
					   3),
				 0);
		assert_int_equal(guest_map(g, GUEST_IOVA + 8 * P,
					   (1 << 20) - 8 * P, 8 * P, 3),
				 0);
		for (unsigned i = 0; i < 2; i++) {
			assert_true(guest_wait(g, 1, &cqe));
			assert_int_equal(cqe.status >> 1, 0);
		}
		assert_true(guest_wait(g, 0, &cqe));
		assert_int_equal(cqe.status >> 1, 0);
	}
	assert_int_equal(guest_rd(g, NVME_REG_CSTS), RDY);
}

/* A queue over scattered extents, and one that is not there. */
static void
test_scattered_queue(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	iova_t buf = guest_alloc(g, P);
	struct nvme_sqe cq = {
		.opcode = 5, .prp1 = RING, .cdw10 = 1023 << 16 | 3, .cdw11 = 1
	};
	struct nvme_sqe sq = { .opcode = 1,
			       .prp1 = RING + 0x100000,
			       .cdw10 = 1023 << 16 | 3,
			       .cdw11 = 1 | 3 << 16 };

	assert_int_equal(guest_cmd(g, 0, cq, NULL), 4); /* never mapped */
	assert_int_equal(guest_map_nohost(g, RING, 4 * P), 0);
	assert_int_equal(guest_cmd(g, 0, cq, NULL), 4);
	assert_int_equal(guest_unmap(g, RING, 4 * P), 0);
	guest_run_ms(g, 150);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(guest_map(g, RING + i * P, P,
					   OTHER + (3 - i) * P, IOAS_READ),
				 0);
	assert_int_equal(guest_cmd(g, 0, cq, NULL), 4); /* not writable */
	assert_int_equal(guest_unmap(g, RING, 4 * P), 0);
	guest_run_ms(g, 150);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(guest_map(g, RING + i * P, P,
					   OTHER + (3 - i) * P, 3),
				 0);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(guest_map(g, RING + 0x100000 + i * P, P,
					   OTHER + 0x10000 + (15 - i) * P,
					   IOAS_READ),
				 0);
	assert_int_equal(guest_cmd(g, 0, cq, NULL), 0);
	assert_int_equal(guest_cmd(g, 0, sq, NULL), 0);
	for (unsigned i = 0; i < 3000; i++) {
		uint32_t at = i % 1024, head = i % 1024;
		struct nvme_sqe *sqe =
			(void *)(g->mem + OTHER + 0x10000 + (15 - at / 64) * P +
				 at % 64 * 64);
		struct nvme_cqe *cqe =
			(void *)(g->mem + OTHER + (3 - head / 256) * P +
				 head % 256 * 16);

		*sqe = guest_rw(g, 2, 0, 1, buf, 512);
		sqe->cid = (uint16_t)i;
		g->db[6] = (at + 1) % 1024;
		guest_step(g, 1);
		assert_int_equal(cqe->cid, (uint16_t)i);
		assert_int_equal(cqe->status, 1 - i / 1024 % 2);
		assert_int_equal(cqe->sqid, 3);
		g->db[7] = (head + 1) % 1024;
	}
}

/* The client cuts its file: its controller fails, no made-up zero reaches the disk. */
static void
test_truncated(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	iova_t buf = guest_alloc(g, P);
	uint8_t *disk = fake_bdev_data(w->disk);

	assert_int_equal(sigaction(SIGBUS, &sigbus, NULL), 0);
	memset(disk, 0xab, 1 << 20);
	for (unsigned i = 0; i < 10; i++) /* in the ring, not rung */
		guest_put(g, 1, guest_rw(g, 1, i, 1, buf, 512));
	assert_int_equal(ftruncate(g->memfd, 0), 0);
	g->db[2] = 10;
	guest_run_ms(g, 20);
	assert_int_equal(guest_rd(g, NVME_REG_CSTS) & CFS, CFS);
	assert_int_equal(g->failed, 1);
	for (unsigned i = 0; i < 1 << 20; i++)
		if (disk[i] != 0xab)
			fail_msg("byte %u of the disk is %x", i, disk[i]);
}

int
map_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_pause_and_resume,
						world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_other_memory, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_abort_comes_second,
						world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_lost_for_good, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_data_in_flight,
						world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_old_request, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_lost_twice, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_many_unmaps, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_wait_for_memory,
						world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_all_memory, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_scattered_queue,
						world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_truncated, world_setup,
						world_teardown),
	};

	return cmocka_run_group_tests_name("map", tests, NULL, NULL);
}
