/* SPDX-License-Identifier: BSD-3-Clause */
/* Queues on two reactors: they come and go, with resets, memory, namespaces, clients. */
#include <errno.h>

#include "spread_fx.h"

/* ---- cases: four queues, of which 2 and 4 are elsewhere ---- */

static void
creates_and_deletes(struct spread *s)
{
	struct nvme_sqe sqe = { .cdw10 = 2 };

	for (unsigned i = 1; i <= 4; i++)
		assert_int_equal(spread_far(s, i), i % 2 == 0);
	spread_check_io(s, 1, 2);
	spread_check_io(s, 4, 3);
	sqe.opcode = nvme_admin_delete_cq;
	assert_int_equal(guest_cmd(&s->g, 0, sqe, NULL),
			 1 << 8 | NVME_SC_INVALID_QUEUE);
	spread_hold(s, 2);
	sqe.opcode = nvme_admin_delete_sq;
	guest_submit(&s->g, 0, sqe);
	guest_submit(&s->g, 0, sqe); /* is being deleted already */
	guest_step(&s->g, 300);
	assert_non_null(spread_where(s, 2));
	spread_release(s);
	for (unsigned i = 0; i < 2; i++) {
		struct nvme_cqe cqe;

		assert_true(guest_wait(&s->g, 0, &cqe));
		assert_int_equal(cqe.status >> 1 & 0x7ff,
				 i ? 0 : 1 << 8 | NVME_SC_QID_INVALID);
	}
	assert_null(spread_where(s, 2));
	sqe.opcode = nvme_admin_delete_cq;
	assert_int_equal(guest_cmd(&s->g, 0, sqe, NULL), 0);
	assert_null(s->g.ctrl->cqt[2].group);
	assert_int_equal(guest_create_q(&s->g, 2, 16, s->efd[1] >= 0), 0);
	assert_true(spread_far(s, 2)); /* the balance again */
	spread_check_io(s, 2, 1);
}

/* Refused at home or where it goes: the list stays as it was. */
static void
refuses(struct spread *s)
{
	struct nvme_sqe sqe = { .opcode = nvme_admin_create_cq,
				.prp1 = GUEST_HOLE,
				.cdw10 = 15 << 16 | 6,
				.cdw11 = 1 };
	struct nvme_cqe cqe;

	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(guest_cmd(&s->g, 0, sqe, NULL),
				 NVME_SC_DATA_XFER_ERROR);
		assert_null(s->g.ctrl->cqt[6].group);
	}
	sqe.prp1 = guest_alloc(&s->g, 4096);
	guest_submit(&s->g, 0, sqe);
	guest_submit(&s->g, 0, sqe); /* while it is being made */
	assert_true(guest_wait(&s->g, 0, &cqe));
	assert_true(guest_wait(&s->g, 0, &cqe));
	assert_non_null(s->g.ctrl->cqt[6].group);
	sqe = (struct nvme_sqe){ .opcode = nvme_admin_create_sq,
				 .prp1 = GUEST_HOLE,
				 .cdw10 = 15 << 16 | 6,
				 .cdw11 = 1 | 2 << 16 };
	assert_int_equal(guest_cmd(&s->g, 0, sqe, NULL),
			 NVME_SC_DATA_XFER_ERROR);
	assert_null(spread_where(s, 6));
	assert_int_equal(s->g.ctrl->cqt[2].users, 1);
	spread_check_io(s, 1, 2);
}

static void
resets(struct spread *s)
{
	spread_hold(s, 1);
	spread_hold(s, 2);
	guest_wr(&s->g, NVME_REG_CC, 0);
	guest_step(&s->g, 300);
	assert_true(guest_rd(&s->g, NVME_REG_CSTS) & 1);
	fake_bdev_hold(s->disk, false);
	fake_bdev_release(s->disk, 1, 0);
	guest_step(&s->g, 300);
	assert_true(guest_rd(&s->g, NVME_REG_CSTS) & 1);
	spread_release(s);
	guest_disable(&s->g);
	assert_int_equal(s->g.ctrl->ngroups, 1); /* kept */
	assert_int_equal(spread_enable(s, 4), 1);
	spread_check_io(s, 2, 1);
}

static void
resets_function(struct spread *s)
{
	bool done = false;

	spread_hold(s, 4);
	nvme_ctrl_reset(s->g.ctrl, NVME_RESET_FUNCTION, spread_done, &done);
	guest_step(&s->g, 300);
	assert_false(done);
	spread_release(s);
	for (unsigned i = 0; i < 1000 && !done; i++)
		guest_step(&s->g, 1);
	assert_true(done);
	guest_forget_q(&s->g);
	assert_int_equal(spread_enable(s, 4), 1);
	spread_check_io(s, 4, 3);
}

/* The reset comes while a queue is being made elsewhere, or deleted. */
static void
resets_under_commands(struct spread *s)
{
	for (unsigned i = 0; i < 12; i++) {
		struct nvme_sqe sqe = { .opcode = i % 2 ? nvme_admin_create_cq
							: nvme_admin_delete_sq,
					.prp1 = guest_alloc(&s->g, 4096),
					.cdw10 = i % 2 ? 15u << 16 | 5 : 2,
					.cdw11 = 1 };

		guest_submit(&s->g, 0, sqe);
		sqe.opcode = nvme_admin_set_features;
		sqe.cdw10 = 6;
		sqe.cdw11 = 0;
		guest_submit(&s->g, 0, sqe);
		guest_step(&s->g, i * 3);
		guest_disable(&s->g);
		assert_int_equal(spread_enable(s, 4), 1);
		spread_check_io(s, 1, 2);
		assert_int_equal(fake_bdev_last(s->disk).flags, 0);
	}
}

static void
shuts_down(struct spread *s)
{
	unsigned flushes = fake_bdev_count(s->disk, BDEV_FLUSH);

	spread_hold(s, 2);
	guest_wr(&s->g, NVME_REG_CC, 1 | 1 << 14 | 6 << 16 | 4 << 20);
	guest_step(&s->g, 300);
	assert_int_equal(guest_rd(&s->g, NVME_REG_CSTS) >> 2 & 3, 1);
	assert_int_equal(fake_bdev_count(s->disk, BDEV_FLUSH), flushes);
	spread_release(s);
	guest_step(&s->g, 1000);
	assert_int_equal(guest_rd(&s->g, NVME_REG_CSTS) >> 2 & 3, 2);
	assert_int_equal(fake_bdev_count(s->disk, BDEV_FLUSH), flushes + 1);
	guest_disable(&s->g);
	assert_int_equal(spread_enable(s, 2), 1);
	spread_check_io(s, 2, 1);
}

static void
unmaps(struct spread *s)
{
	iova_t far = 0x40000000;
	struct guest_op op;

	assert_int_equal(
		guest_map(&s->g, far, 1 << 20, 0, IOAS_READ | IOAS_WRITE), 0);
	/* at once: the message to the other side may still be under way */
	assert_int_equal(guest_cmd(&s->g, 2,
				   guest_rw(&s->g, SPREAD_READ, 0, 1, far, 512),
				   NULL),
			 0);
	fake_bdev_hold(s->disk, true);
	guest_submit(&s->g, 2, guest_rw(&s->g, SPREAD_READ, 0, 1, far, 512));
	for (unsigned i = 0; i < 500 && !fake_bdev_held(s->disk); i++)
		guest_step(&s->g, 1);
	guest_unmap_start(&s->g, far, 1 << 20, &op);
	guest_step(&s->g, 300);
	assert_false(op.done);
	spread_release(s);
	for (unsigned i = 0; i < 1000 && !op.done; i++)
		guest_step(&s->g, 1);
	assert_true(op.done);
	assert_int_equal(op.err, 0);
	/* it went a moment ago: the command waits for it, then fails */
	assert_int_equal(guest_cmd(&s->g, 2,
				   guest_rw(&s->g, SPREAD_READ, 0, 1, far, 512),
				   NULL),
			 NVME_SC_DATA_XFER_ERROR);
}

static void
never_mapped(struct spread *s)
{
	uint64_t start = util_now_ns();

	assert_int_equal(
		guest_cmd(&s->g, 2,
			  guest_rw(&s->g, SPREAD_READ, 0, 1, GUEST_HOLE, 512),
			  NULL),
		NVME_SC_DATA_XFER_ERROR);
	assert_true(util_now_ns() - start < 90000000);
	spread_check_io(s, 1, 2);
}

/* The ring of a queue elsewhere goes and comes back. */
static void
pauses(struct spread *s)
{
	struct nvme_cqe cqe;

	assert_int_equal(guest_unmap(&s->g, GUEST_IOVA, s->g.opts.mem_len), 0);
	guest_submit(&s->g, 2, spread_rw(s, SPREAD_READ, 0));
	guest_submit(&s->g, 1, spread_rw(s, SPREAD_READ, 0));
	guest_step(&s->g, 300);
	assert_false(guest_take(&s->g, 2, &cqe));
	assert_int_equal(guest_map(&s->g, GUEST_IOVA, s->g.opts.mem_len, 0,
				   IOAS_READ | IOAS_WRITE),
			 0);
	assert_true(guest_wait(&s->g, 2, &cqe));
	assert_true(guest_wait(&s->g, 1, &cqe));
	assert_int_equal(cqe.status >> 1, 0);
	spread_check_io(s, 2, 1);
}

static void
namespaces(struct spread *s)
{
	struct nvme_op op = { .done = spread_removed };

	spread_hold(s, 2);
	assert_int_equal(nvme_subsys_remove_ns(s->g.subsys, 1, &op),
			 -EINPROGRESS);
	guest_step(&s->g, 300);
	assert_int_equal(op.nsid, 1); /* not yet */
	for (uint16_t q = 1; q <= 4; q++)
		assert_int_equal(spread_cmd(s, q, SPREAD_READ, 0),
				 NVME_SC_INVALID_FIELD);
	spread_release(s);
	for (unsigned i = 0; i < 1000 && op.nsid; i++)
		guest_step(&s->g, 1);
	assert_int_equal(op.nsid, 0);
	assert_int_equal(guest_add_ns(&s->g, "disk", 1), 0);
	spread_check_io(s, 2, 3);
	spread_check_io(s, 1, 4);
	fake_bdev_resize(s->disk, 8);
	guest_step(&s->g, 300);
	assert_int_equal(spread_cmd(s, 2, SPREAD_READ, 8), NVME_SC_LBA_RANGE);
	assert_int_equal(spread_cmd(s, 4, SPREAD_READ, 7), 0);
	fake_bdev_resize(s->disk, SPREAD_BLOCKS);
	guest_step(&s->g, 300);
	assert_int_equal(spread_cmd(s, 2, SPREAD_READ, 8), 0);
}

/* Removal while the client goes too, its I/O on the other side not ended. */
static void
namespace_and_end(struct spread *s)
{
	struct nvme_op op = { .done = spread_removed };
	bool gone = false;

	spread_hold(s, 2);
	spread_hold(s, 1);
	assert_int_equal(nvme_subsys_remove_ns(s->g.subsys, 1, &op),
			 -EINPROGRESS);
	nvme_ctrl_destroy(s->g.ctrl, spread_done, &gone);
	guest_step(&s->g, 300);
	assert_false(gone);
	assert_int_equal(op.nsid, 1);
	spread_release(s);
	for (unsigned i = 0; i < 2000 && (!gone || op.nsid); i++)
		guest_step(&s->g, 1);
	assert_true(gone);
	assert_int_equal(op.nsid, 0);
	s->g.ctrl = NULL;
	assert_int_equal(guest_add_ns(&s->g, "disk", 1), 0);
}

static void
ends_with_io(struct spread *s)
{
	struct guest_op op;
	bool gone = false;

	spread_hold(s, 2);
	spread_hold(s, 3);
	guest_unmap_start(&s->g, GUEST_IOVA, s->g.opts.mem_len, &op);
	nvme_ctrl_destroy(s->g.ctrl, spread_done, &gone);
	guest_step(&s->g, 300);
	assert_false(gone || op.done);
	spread_release(s);
	for (unsigned i = 0; i < 2000 && (!gone || !op.done); i++)
		guest_step(&s->g, 1);
	assert_true(gone && op.done);
	s->g.ctrl = NULL;
}

/* ---- anything, at any moment; what is left works ---- */

struct chaos {
	struct guest_op unmap;
	struct nvme_op ns;
};

static void
chaos_admin(struct spread *s, uint8_t opcode, uint32_t rnd)
{
	struct nvme_sqe sqe = { .opcode = opcode,
				.prp1 = s->data,
				.cdw10 = 15u << 16 | (1 + (rnd >> 20) % 6),
				.cdw11 = 1 };

	if (opcode == nvme_admin_create_sq)
		sqe.cdw11 |= sqe.cdw10 << 16;
	if (opcode == nvme_admin_set_features) {
		sqe.cdw10 = 6;
		sqe.cdw11 = 0;
	}
	guest_submit(&s->g, 0, sqe);
}

static void
map_all(struct spread *s)
{
	guest_map(&s->g, GUEST_IOVA, s->g.opts.mem_len, 0,
		  IOAS_READ | IOAS_WRITE);
}

static void
begin_again(struct spread *s)
{
	spread_release(s);
	guest_disable(&s->g);
	map_all(s);
	s->g.used = 1 << 20; /* its memory again */
	assert_int_equal(spread_enable(s, 4), 1);
}

static void
chaos_step(struct spread *s, struct chaos *c, uint32_t rnd)
{
	static const uint8_t opcodes[] = { nvme_admin_create_cq,
					   nvme_admin_create_sq,
					   nvme_admin_delete_sq,
					   nvme_admin_delete_cq,
					   nvme_admin_set_features };
	unsigned what = rnd >> 16 & 15;

	if (what < ARRAY_SIZE(opcodes))
		chaos_admin(s, opcodes[what], rnd);
	else if (what == 5)
		guest_wr(&s->g, NVME_REG_CC, 0);
	else if (what == 6)
		begin_again(s);
	else if (what == 7 && c->unmap.done)
		guest_unmap_start(&s->g, GUEST_IOVA, s->g.opts.mem_len,
				  &c->unmap);
	else if (what == 8)
		map_all(s);
	else if (what == 9 && !c->ns.nsid)
		nvme_subsys_remove_ns(s->g.subsys, 1, &c->ns);
	else if (what == 10 && !c->ns.nsid && (spread_release(s), 1))
		guest_add_ns(&s->g, "disk", 1);
	else if (what == 11)
		spread_release(s);
	else if (what == 12)
		fake_bdev_hold(s->disk, true);
	else
		for (uint16_t q = 1; q <= 4; q++)
			if (s->g.q[q].depth)
				guest_submit(&s->g, q,
					     spread_rw(s, SPREAD_WRITE, q));
}

static void
anything(struct spread *s)
{
	static uint32_t rnd = 12345; /* goes on from order to order */
	struct chaos c = { .unmap.done = true, .ns.done = spread_removed };

	for (unsigned i = 0; i < 300; i++) {
		rnd = rnd * 1103515245 + 12345;
		chaos_step(s, &c, rnd);
		guest_step(&s->g, rnd >> 24 & 15);
	}
	spread_release(s);
	guest_step(&s->g, 1000);
	map_all(s);
	guest_add_ns(&s->g, "disk", 1);
	begin_again(s);
	spread_check_io(s, 1, 2);
	spread_check_io(s, 4, 3);
}

static const struct scenario scenarios[] = {
	{ "queues are made and deleted", creates_and_deletes, POLLED },
	{ "queues are refused", refuses, POLLED },
	{ "controller reset waits for both sides", resets, POLLED },
	{ "function level reset", resets_function, POLLED },
	{ "reset under queue commands", resets_under_commands, POLLED },
	{ "shutdown waits for both sides", shuts_down, POLLED },
	{ "unmap waits for the other side; a map is seen at once", unmaps,
	  POLLED },
	{ "an address that was never mapped fails soon", never_mapped, POLLED },
	{ "ring memory goes and comes back", pauses, POLLED },
	{ "namespaces go, come and change size", namespaces, POLLED },
	{ "a namespace and its client go", namespace_and_end, POLLED },
	{ "client and memory go with I/O in flight", ends_with_io, POLLED },
	{ "anything at any moment", anything, POLLED },
	{ "trapped doorbells: made and deleted", creates_and_deletes, TRAPPED },
	{ "MSI-X: reset", resets, MSIX },
};

static void
test_orders(void **state)
{
	spread_run(scenarios, ARRAY_SIZE(scenarios));
}

int
spread_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_orders),
	};

	return cmocka_run_group_tests_name("spread", tests, spread_setup,
					   spread_teardown);
}
