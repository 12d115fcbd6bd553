/* SPDX-License-Identifier: BSD-3-Clause */
/* Submission queues: fetching, limits, fairness, deletion, shadow doorbells. */
#include <unistd.h>

#include "unit.h"

#define CMD_SC(sc) (1 << 8 | (sc))

static const struct nvme_sqe flush = { .opcode = 0, .nsid = 1 };

static void
test_laps(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	struct nvme_cqe cqe;

	assert_int_equal(guest_create_q(g, 2, 2, true), 0); /* the smallest */
	assert_int_equal(guest_create_q(g, 3, 1024, true), 0);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(guest_cmd(g, 2, flush, &cqe), 0);
	for (unsigned lap = 0; lap < 4; lap++) {
		uint16_t first = g->cid;

		for (unsigned i = 0; i < 1000; i++)
			guest_put(g, 3, flush);
		guest_ring(g, 3);
		for (unsigned i = 0; i < 1000; i++) {
			assert_true(guest_wait(g, 3, &cqe));
			assert_int_equal(cqe.cid, (uint16_t)(first + i));
			assert_int_equal(cqe.sqid, 3);
		}
		assert_int_equal(g->q[3].sq_head, g->q[3].tail);
	}
}

/* What is in flight is bounded by the CQ, whatever the SQ's depth. */
static void
test_cq_is_the_limit(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	struct nvme_sqe cq = { .opcode = 5,
			       .prp1 = guest_alloc(g, 4096),
			       .cdw10 = 7 << 16 | 2,
			       .cdw11 = 1 };
	struct nvme_sqe sq = { .opcode = 1,
			       .prp1 = guest_alloc(g, 4096),
			       .cdw10 = 63 << 16 | 2,
			       .cdw11 = 1 | 2 << 16 };
	iova_t buf = guest_alloc(g, 4096);
	struct nvme_cqe cqe;

	assert_int_equal(guest_cmd(g, 0, cq, NULL), 0);
	assert_int_equal(guest_cmd(g, 0, sq, NULL), 0);
	g->q[2] = (struct guest_q){ .qid = 2,
				    .depth = 64,
				    .sq = sq.prp1,
				    .cq = cq.prp1,
				    .phase = true };
	fake_bdev_hold(w->disk, true);
	for (unsigned i = 0; i < 60; i++)
		guest_put(g, 2, guest_rw(g, 2, i, 1, buf, 512));
	guest_ring(g, 2);
	guest_step(g, 50);
	assert_int_equal(fake_bdev_held(w->disk), 7);
	fake_bdev_hold(w->disk, false);
	fake_bdev_release(w->disk, 100, 0);
	guest_step(g, 50);
	/* seven are posted, and not one more until the head moves */
	assert_int_equal(fake_bdev_count(w->disk, BDEV_READ), 7);
	g->q[2].depth = 8; /* the CQ's, for taking */
	for (unsigned i = 0; i < 60; i++) {
		assert_true(guest_wait(g, 2, &cqe));
		assert_int_equal(cqe.status >> 1, 0);
	}
	assert_int_equal(fake_bdev_count(w->disk, BDEV_READ), 60);
}

/* Cold queues are not looked at in each round. */
static void
heat_all(struct guest *g)
{
	for (uint16_t q = 1; q < GUEST_QUEUES; q++)
		if (g->ctrl->group.sqs[q] && g->ctrl->group.sqs[q]->cold)
			sq_heat(g->ctrl->group.sqs[q]);
}

/* One round takes so many commands, or bytes, of a client, from all queues in turn. */
static void
test_budget(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	iova_t buf = guest_alloc(g, 1 << 20);
	struct nvme_sqe big = guest_rw(g, 2, 0, 2048, buf, 1 << 20);
	uint32_t used;

	for (uint16_t q = 2; q <= 8; q++) {
		assert_int_equal(guest_create_q(g, q, 64, false), 0);
		for (unsigned i = 0; i < 60; i++)
			guest_put(g, q, guest_rw(g, 2, i, 1, buf, 512));
	}
	fake_bdev_hold(w->disk, true);
	for (uint16_t q = 2; q <= 8; q++)
		guest_ring(g, q);
	heat_all(g);
	/* the first is thought to be alone; then all have their part */
	guest_step(g, 1);
	assert_int_equal(g->ctrl->group.io_inflight, 32);
	for (unsigned i = 1; i <= 5; i++) {
		guest_step(g, 1);
		assert_int_equal(g->ctrl->group.io_inflight, 32 + 28 * i);
	}
	for (uint16_t q = 2; q <= 8; q++)
		assert_int_equal(g->ctrl->group.sqs[q]->inflight_n,
				 q == 2 ? 52 : 20);
	guest_step(g, 20);
	used = g->ctrl->group.io_inflight;
	assert_int_equal(used, 7 * 60);
	for (unsigned i = 0; i < 5; i++)
		guest_put(g, 1, big);
	guest_ring(g, 1);
	heat_all(g);
	for (unsigned i = 1; i <= 5; i++) {
		guest_step(g, 1);
		assert_int_equal(g->ctrl->group.io_inflight, used + i);
	}
	fake_bdev_hold(w->disk, false);
	fake_bdev_release(w->disk, 1000, 0);
	guest_step(g, 5);
	assert_int_equal(g->ctrl->group.io_inflight, 0);
}

/* A doorbell out of range stops only its queue, until it is right again. */
static void
test_bad_tail(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	static const uint32_t bad[] = { 64, 65, 0x10000, 0xffffffff };
	uint64_t errors = g->ctrl->error_count;
	struct nvme_cqe cqe;

	assert_int_equal(guest_create_q(g, 2, 64, true), 0);
	guest_put(g, 2, flush);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		g->db[4] = bad[i];
		guest_step(g, 20);
		assert_false(guest_take(g, 2, &cqe));
		assert_int_equal(g->ctrl->error_count, ++errors);
		assert_int_equal(g->ctrl->errlog[(errors - 1) % 64].sqid,
				 0xffff);
		assert_int_equal(guest_cmd(g, 1, flush, NULL), 0);
	}
	assert_int_equal(guest_rd(g, NVME_REG_CSTS), 1);
	guest_ring(g, 2);
	assert_true(guest_wait(g, 2, &cqe));
}

static void
test_delete(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	struct nvme_sqe del = { .opcode = 0, .cdw10 = 1 };
	struct nvme_sqe delcq = { .opcode = 4, .cdw10 = 1 };
	iova_t buf = guest_alloc(g, 4096);
	struct nvme_cqe cqe;

	fake_bdev_hold(w->disk, true);
	for (unsigned i = 0; i < 5; i++)
		guest_submit(g, 1, guest_rw(g, 2, i, 1, buf, 512));
	guest_step(g, 5);
	guest_submit(g, 0, del);
	guest_step(g, 20);
	assert_false(guest_take(g, 0, &cqe)); /* it waits for them */
	assert_int_equal(guest_cmd(g, 0, delcq, NULL), CMD_SC(0x0c));
	assert_int_equal(guest_cmd(g, 0, del, NULL), CMD_SC(0x01));
	guest_submit(g, 1, guest_rw(g, 2, 9, 1, buf, 512)); /* too late */
	guest_step(g, 5);
	fake_bdev_hold(w->disk, false);
	fake_bdev_release(w->disk, 5, 0);
	assert_true(guest_wait(g, 0, &cqe));
	assert_int_equal(cqe.status >> 1, 0);
	for (unsigned i = 0; i < 5; i++)
		assert_true(guest_take(g, 1, &cqe));
	assert_false(guest_take(g, 1, &cqe));
	assert_null(g->ctrl->group.sqs[1]);
	assert_int_equal(guest_cmd(g, 0, delcq, NULL), 0);
	assert_int_equal(guest_cmd(g, 0, delcq, NULL), CMD_SC(0x01));
	/* made anew it starts clean */
	assert_int_equal(guest_create_q(g, 1, 64, true), 0);
	assert_int_equal(guest_cmd(g, 1, flush, NULL), 0);
	assert_int_equal(g->ctrl->group.quota, 63);
}

/* One busy queue does not keep another from being served. */
static void
test_fair(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	struct nvme_cqe cqe;

	for (uint16_t q = 2; q <= 8; q++)
		assert_int_equal(guest_create_q(g, q, 1024, false), 0);
	for (uint16_t q = 2; q <= 8; q++) {
		for (unsigned i = 0; i < 1000; i++)
			guest_put(g, q, flush);
		guest_ring(g, q);
	}
	guest_submit(g, 1, flush);
	guest_step(g, 2);
	assert_true(guest_take(g, 1, &cqe));
	for (uint16_t q = 2; q <= 8; q++)
		for (unsigned i = 0; i < 1000; i++)
			assert_true(guest_wait(g, q, &cqe));
}

/* Commands that @g has started since @seen, which is brought up to date. */
static uint64_t
started(const struct guest *g, uint64_t *seen)
{
	uint64_t n = g->ctrl->group.seq - *seen;

	*seen += n;
	return n;
}

/*
 * Beside a client that sends a command at a time, another with deep queues gets short
 * turns, so that rounds are short; and long ones when it is alone again.
 */
static void
test_beside(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	struct guest_opts opts = { .bdev = NULL }; /* errors come as fast */
	static struct guest one;
	uint64_t n, seen = g->ctrl->group.seq;
	iova_t buf = guest_alloc(g, 4096);
	struct nvme_cqe cqe;

	guest_init(&one, &opts);
	assert_int_equal(guest_enable(&one, 32), 1);
	assert_int_equal(guest_create_q(&one, 1, 64, false), 0);
	assert_int_equal(guest_create_q(g, 2, 1024, false), 0);
	for (unsigned i = 0; i < 1000; i++)
		guest_put(g, 2, guest_rw(g, 2, 0, 1, buf, 512));
	guest_step(g, 65); /* the other has been idle for long */
	guest_ring(g, 2);
	guest_step(g, 1);
	assert_true(started(g, &seen) >= 32);
	for (unsigned i = 0; i < 50; i++) {
		guest_submit(&one, 1, flush);
		guest_step(g, 1);
		assert_true(guest_take(&one, 1, &cqe)); /* in the same round */
		n = started(g, &seen);
		assert_true(n >= 1 && n <= (i ? 3 : 32));
	}
	guest_step(g, 64);
	(void)started(g, &seen);
	guest_step(g, 1);
	assert_int_equal(started(g, &seen), 32);
	while (guest_wait(g, 2, &cqe))
		if (g->q[2].head == 1000)
			break;
	guest_fini(&one);
}

static void
fill(struct guest *g, uint16_t q, iova_t buf)
{
	for (unsigned i = 0; i < 1000; i++)
		guest_put(g, q, guest_rw(g, 2, 0, 1, buf, 512));
	guest_ring(g, q);
}

/* All that have more to do share what one would get beside it, in turn; a burst of one that had little to do, too. */
static void
test_many_beside(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	struct guest_opts opts = { .bdev = NULL };
	static struct guest one, two;
	uint64_t n, m, sum_n = 0, sum_m = 0, seen = 0, seen2 = 0;
	struct nvme_cqe cqe;

	guest_init(&one, &opts);
	guest_init(&two, &opts);
	assert_int_equal(guest_enable(&one, 32), 1);
	assert_int_equal(guest_enable(&two, 32), 1);
	assert_int_equal(guest_create_q(&one, 1, 64, false), 0);
	assert_int_equal(guest_create_q(&two, 2, 1024, false), 0);
	assert_int_equal(guest_create_q(g, 2, 1024, false), 0);
	guest_submit(&one, 1, flush);
	guest_step(g, 1);
	assert_true(guest_take(&one, 1, &cqe));
	fill(g, 2, guest_alloc(g, 4096));
	fill(&two, 2, GUEST_HOLE);
	seen = g->ctrl->group.seq;
	seen2 = two.q[2].head;
	for (unsigned i = 0; i < 100; i++) {
		guest_submit(&one, 1, flush);
		guest_step(g, 1);
		assert_true(guest_take(&one, 1, &cqe));
		n = started(g, &seen);
		while (guest_take(&two, 2, &cqe))
			;
		m = two.q[2].head - seen2;
		seen2 = two.q[2].head;
		assert_true(n + m >= 1 && n + m <= (i ? 2 : 6));
		sum_n += n;
		sum_m += m;
	}
	assert_in_range(sum_n, 85, 115);
	assert_in_range(sum_m, 85, 115);
	guest_fini(&one);
	guest_fini(&two);
}

/* Long enough for queues to cool down. */
static void
rest(struct guest *g)
{
	guest_step(g, 1);
	usleep(3000);
	guest_step(g, 2);
}

/* Queues without work cool down, and are found again. */
static void
test_cold(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	struct nvme_core *core = g->ctrl->group.core;
	struct nvme_sqe del = { .opcode = 0, .cdw10 = 4 };

	for (uint16_t q = 2; q <= 8; q++)
		assert_int_equal(guest_create_q(g, q, 16, false), 0);
	rest(g);
	assert_int_equal(core->nhot + core->ncold, 9);
	assert_true(core->ncold > 0);
	for (uint16_t q = 1; q <= 8; q++)
		assert_int_equal(guest_cmd(g, q, flush, NULL), 0);
	rest(g);
	/* one of them goes; what takes its place is found too */
	assert_int_equal(core->ncold, 9);
	assert_int_equal(guest_cmd(g, 0, del, NULL), 0);
	rest(g);
	assert_int_equal(core->nhot + core->ncold, 8);
	for (uint16_t q = 8; q; q--)
		if (q != 4)
			assert_int_equal(guest_cmd(g, q, flush, NULL), 0);
	rest(g);
	guest_disable(g);
	assert_int_equal(core->nhot + core->ncold, 0);
}

/* ---- shadow doorbells ---- */

static void
shadow_goes_and_comes(struct guest *g, volatile uint32_t *db)
{
	struct nvme_cqe cqe;

	/* the page goes: what was seen last stands; registers, then it is back */
	db[2] = g->q[1].tail;
	guest_step(g, 2);
	assert_int_equal(guest_unmap(g, GUEST_IOVA, g->opts.mem_len), 0);
	guest_step(g, 10);
	assert_null(g->ctrl->group.shadow);
	assert_int_equal(guest_map(g, GUEST_IOVA, g->opts.mem_len, 0, 3), 0);
	guest_step(g, 10);
	assert_false(guest_take(g, 1, &cqe));
	guest_put(g, 1, flush);
	db[2] = g->q[1].tail;
	assert_true(guest_wait(g, 1, &cqe));
	db[3] = g->q[1].head;
}

static void
test_shadow(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	iova_t page = guest_alloc(g, 4096), ei = guest_alloc(g, 4096);
	struct nvme_sqe cfg = { .opcode = 0x7c, .prp1 = page, .prp2 = ei };
	volatile uint32_t *db = guest_ptr(g, page), *event = guest_ptr(g, ei);
	struct nvme_sqe bad = cfg;
	struct nvme_cqe cqe;

	bad.prp1 = page + 8;
	assert_int_equal(guest_cmd(g, 0, bad, NULL), 0x13);
	bad.prp1 = GUEST_HOLE;
	assert_int_equal(guest_cmd(g, 0, bad, NULL), 4);
	assert_int_equal(guest_cmd(g, 1, flush, NULL), 0);
	assert_int_equal(guest_cmd(g, 0, cfg, NULL), 0);
	assert_int_equal(db[2], 1); /* carried over from the register */
	/* no register is written any more */
	for (unsigned i = 0; i < 200; i++) {
		guest_put(g, 1, flush);
		db[2] = g->q[1].tail;
		while (!guest_take(g, 1, &cqe))
			guest_step(g, 1);
		db[3] = g->q[1].head;
	}
	/* a sleep that is refused leaves nothing armed */
	guest_put(g, 1, flush);
	db[2] = g->q[1].tail;
	assert_int_equal(w->g.ctrl->group.core->poller.sleep(
				 &w->g.ctrl->group.core->poller),
			 0);
	assert_int_equal(event[2], g->q[1].tail - 2);
	assert_true(guest_wait(g, 1, &cqe));
	db[3] = g->q[1].head;
	/* the admin queue: its register, as Linux does */
	assert_int_equal(
		guest_cmd(g, 0, (struct nvme_sqe){ .opcode = 0xa, .cdw10 = 7 },
			  NULL),
		0);
	/* or its entry */
	guest_put(g, 0, (struct nvme_sqe){ .opcode = 0xa, .cdw10 = 7 });
	db[0] = g->q[0].tail;
	assert_true(guest_wait(g, 0, &cqe));
	/* values out of range are not followed */
	db[2] = 64;
	guest_step(g, 10);
	db[2] = 0xffffffff;
	guest_step(g, 10);
	assert_false(guest_take(g, 1, &cqe));
	shadow_goes_and_comes(g, db);
	/* forgotten at a reset */
	guest_disable(g);
	assert_false(g->ctrl->group.shadow_on);
	assert_int_equal(guest_enable(g, 32), 1);
	assert_int_equal(guest_create_q(g, 1, 16, true), 0);
	assert_int_equal(guest_cmd(g, 1, flush, NULL), 0);
}

/* A cold admin queue, rung by its shadow entry, has all cold queues looked at elsewhere. */
static void
test_shadow_of_the_cold(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	iova_t page = guest_alloc(g, 8192);
	uint32_t *db = guest_ptr(g, page);
	struct nvme_sqe cfg = { .opcode = 0x7c,
				.prp1 = page,
				.prp2 = page + 4096 };
	struct nvme_core *core = g->ctrl->group.core;
	struct nvme_cqe cqe;

	for (uint16_t q = 2; q <= 8; q++)
		assert_int_equal(guest_create_q(g, q, 16, false), 0);
	assert_int_equal(guest_cmd(g, 0, cfg, NULL), 0);
	for (unsigned i = 0; i < 3; i++) {
		for (uint16_t q = 0; q <= 8; q++)
			if (!g->ctrl->group.sqs[q]->cold)
				sq_cool(g->ctrl->group.sqs[q]);
		guest_put(g, 0, cfg);
		db[0] = g->q[0].tail;
		assert_true(guest_wait(g, 0, &cqe));
		assert_int_equal(core->nhot + core->ncold, 9);
	}
	guest_disable(g);
	assert_int_equal(core->nhot + core->ncold, 0);
}

static void
test_shadow_refused(void **state)
{
	struct world *w = *state;
	struct guest *g = &w->g;
	iova_t page = guest_alloc(g, 8192);
	struct nvme_sqe cfg = { .opcode = 0x7c,
				.prp1 = page,
				.prp2 = page + 4096 };

	assert_int_equal(guest_cmd(g, 0, cfg, NULL), 1);
}

/* Event requests that wait keep no slot of the admin queues from the commands that do not. */
static void
few_slots(struct guest *g, uint32_t depth)
{
	struct nvme_sqe aer = { .opcode = 0xc };
	struct nvme_sqe get = { .opcode = 0xa, .cdw10 = 7 };
	struct nvme_sqe abort = { .opcode = 8 };
	struct nvme_cqe cqe;
	uint16_t cid = 0;

	assert_int_equal(guest_enable(g, depth), 1);
	for (unsigned i = 0; i < NVME_AER_MAX; i++) {
		cid = guest_submit(g, 0, aer);
		guest_step(g, 4); /* nothing else says that it was fetched */
		assert_int_equal(guest_cmd(g, 0, get, NULL), 0);
		assert_int_equal(guest_cmd(g, 0, get, NULL), 0);
	}
	assert_int_equal(guest_cmd(g, 0, aer, NULL), CMD_SC(5));
	/* one is aborted: where there is a slot for its completion */
	abort.cdw10 = (uint32_t)cid << 16;
	assert_int_equal(guest_cmd(g, 0, abort, &cqe), 0);
	assert_int_equal(cqe.dw0, depth == 2);
	/* an event waits until the host has taken what is there */
	for (unsigned i = 0; i < depth - 1; i++)
		guest_submit(g, 0, get);
	guest_run_ms(g, 5);
	aer_event(g->ctrl, 0, 1, 1);
	guest_run_ms(g, 20);
	for (unsigned i = 0; i < depth - 1; i++) {
		assert_true(guest_take(g, 0, &cqe));
		assert_int_not_equal(cqe.cid, cid);
		assert_int_equal(cqe.status >> 1, 0);
	}
	assert_false(guest_take(g, 0, &cqe));
	assert_true(guest_wait(g, 0, &cqe));
	assert_int_equal(cqe.dw0, 1 << 16 | 1 << 8);
	/* and the room is all there again */
	for (unsigned i = 0; i < 3 * depth; i++)
		assert_int_equal(guest_cmd(g, 0, get, NULL), 0);
	guest_disable(g);
}

static void
test_events_keep_no_slots(void **state)
{
	struct world *w = *state;

	few_slots(&w->g, 2);
	few_slots(&w->g, 3);
	few_slots(&w->g, 4);
	few_slots(&w->g, 64);
}

int
sq_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_laps, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_cq_is_the_limit,
						world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_budget, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_bad_tail, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_delete, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_fair, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_beside, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_many_beside, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_cold, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(
			test_shadow, world_setup_trapped, world_teardown),
		cmocka_unit_test_setup_teardown(test_shadow_of_the_cold,
						world_setup_trapped,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_events_keep_no_slots,
						world_setup_disabled,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_shadow_refused,
						world_setup, world_teardown),
	};

	return cmocka_run_group_tests_name("sq", tests, NULL, NULL);
}
