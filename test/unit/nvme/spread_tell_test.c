/* SPDX-License-Identifier: BSD-3-Clause */
/* Queues on two reactors: what each side must know of the other, and interrupts. */
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "spread_fx.h"

/* A fault is seen where the I/O is; home throws the client out. */
static void
fails(struct spread *s)
{
	fake_bdev_fail(s->disk, BDEV_READ, -EFAULT, 1);
	guest_submit(&s->g, 2, spread_rw(s, SPREAD_READ, 0));
	for (unsigned i = 0; i < 1000 && !s->g.failed; i++)
		guest_step(&s->g, 1);
	assert_int_equal(s->g.failed, 1);
	assert_int_equal(guest_rd(&s->g, NVME_REG_CSTS) & 2, 2);
	guest_step(&s->g, 300);
	for (unsigned i = 0; i <= 4; i++)
		assert_true(spread_where(s, i)->hushed == HUSH_MUTE);
}

static void
tells_errors(struct spread *s)
{
	struct nvme_ctrl *ctrl = s->g.ctrl;
	uint64_t before = ctrl->error_count, media = ctrl->media_errors;

	fake_bdev_fail(s->disk, BDEV_READ, -EIO, 100);
	for (unsigned i = 0; i < 100; i++)
		assert_int_not_equal(spread_cmd(s, 2, SPREAD_READ, i), 0);
	fake_bdev_fail(s->disk, BDEV_READ, 0, 0);
	guest_step(&s->g, 300);
	assert_int_equal(ctrl->error_count, before + 100);
	assert_int_equal(ctrl->media_errors, media + 100);
	for (uint64_t n = ctrl->error_count; n > ctrl->error_count - 60; n--) {
		const struct nvme_error_log_page *e =
			&ctrl->errlog[(n - 1) % NVME_ERRLOG_ENTRIES];

		assert_int_equal(e->error_count, n);
		assert_int_equal(e->sqid, 2);
		assert_int_equal(e->lba, n - before - 1);
	}
	assert_int_equal(ctrl->events.queued, 0);
	s->g.db[4] = 9999; /* tail of queue 2 */
	guest_step(&s->g, 300);
	assert_int_equal(ctrl->events.queued, 1);
}

/* What a reset ends did not fail, wherever it was. */
static void
resets_tell_nothing(struct spread *s)
{
	struct nvme_ctrl *ctrl = s->g.ctrl;
	uint64_t before = ctrl->error_count;

	spread_hold(s, 1);
	spread_hold(s, 2);
	guest_wr(&s->g, NVME_REG_CC, 0);
	guest_step(&s->g, 300);
	fake_bdev_hold(s->disk, false);
	fake_bdev_release(s->disk, 100, -EIO);
	guest_step(&s->g, 300);
	assert_int_equal(guest_rd(&s->g, NVME_REG_CSTS), 0);
	assert_int_equal(ctrl->error_count, before);
	guest_forget_q(&s->g);
	assert_int_equal(spread_enable(s, 2), 1);
}

/* More errors while the message is under way than an error log has. */
static void
tells_many_errors(struct spread *s)
{
	struct nvme_ctrl *ctrl = s->g.ctrl;
	struct nvme_group *g = spread_where(s, 2);
	uint64_t before = ctrl->error_count;
	struct nvme_error_log_page e = { .sqid = 2 };

	for (unsigned i = 0; i < 500; i++) {
		e.lba = i;
		group_error(g, &e, false);
	}
	guest_step(&s->g, 600);
	assert_int_equal(ctrl->error_count, before + 500);
	for (unsigned i = 0; i < NVME_ERRLOG_ENTRIES; i++)
		assert_int_equal(
			ctrl->errlog[(before + 499 - i) % NVME_ERRLOG_ENTRIES]
				.lba,
			499 - i);
}

static void
counts(struct spread *s)
{
	struct nvme_sqe sqe = { .opcode = nvme_admin_get_log_page,
				.nsid = 0xffffffff,
				.cdw10 = 127 << 16 | 2 };
	const struct nvme_smart_log *log;
	uint64_t reads;

	sqe.prp1 = guest_alloc(&s->g, 4096);
	log = guest_ptr(&s->g, sqe.prp1);
	for (unsigned i = 0; i < 12; i++)
		assert_int_equal(spread_cmd(s, (uint16_t)(1 + i % 4),
					    SPREAD_READ, i),
				 0);
	assert_int_equal(guest_cmd(&s->g, 0, sqe, NULL), 0);
	memcpy(&reads, log->host_reads, sizeof(reads));
	assert_int_equal(reads, 12);
	sqe.nsid = 1;
	assert_int_equal(guest_cmd(&s->g, 0, sqe, NULL), 0);
	memcpy(&reads, log->host_reads, sizeof(reads));
	assert_int_equal(reads, 12);
}

static void
features(struct spread *s)
{
	struct nvme_sqe sqe = { .opcode = nvme_admin_set_features, .cdw10 = 6 };

	assert_int_equal(spread_cmd(s, 2, SPREAD_WRITE, 0), 0);
	assert_int_equal(fake_bdev_last(s->disk).flags, 0);
	assert_int_equal(guest_cmd(&s->g, 0, sqe, NULL), 0);
	for (uint16_t q = 1; q <= 4; q++) { /* from the answer on */
		assert_int_equal(spread_cmd(s, q, SPREAD_WRITE, 0), 0);
		assert_int_equal(fake_bdev_last(s->disk).flags, BDEV_IO_FUA);
	}
	sqe.cdw10 = 8;
	sqe.cdw11 = 0x0304;
	assert_int_equal(guest_cmd(&s->g, 0, sqe, NULL), 0);
	for (unsigned i = 1; i <= 4; i++)
		assert_int_equal(spread_where(s, i)->cqs[i]->coal, 0x0304);
	assert_int_equal(guest_create_q(&s->g, 5, 16, false), 0);
	assert_int_equal(spread_where(s, 5)->cqs[5]->coal, 0x0304);
	guest_disable(&s->g);
	assert_int_equal(spread_enable(s, 2), 1);
	assert_int_equal(spread_where(s, 2)->cqs[2]->coal, 0);
	assert_int_equal(spread_cmd(s, 2, SPREAD_WRITE, 0), 0);
	assert_int_equal(fake_bdev_last(s->disk).flags, 0);
}

static void
reports(struct spread *s)
{
	struct nvme_qpair_info q[8];
	struct nvme_core_stats stats[2];

	guest_step(&s->g, 300);
	assert_int_equal(nvme_subsys_qpairs(s->g.subsys, q, 8), 5);
	for (unsigned i = 0; i < 5; i++)
		assert_ptr_equal(q[i].reactor,
				 reactor_get(i && i % 2 == 0 ? 1 : 0));
	for (unsigned i = 0; i < 2; i++) {
		nvme_core_get_stats(reactor_get(i), &stats[i]);
		assert_int_equal(stats[i].io_queues, 2);
		assert_int_equal(stats[i].ctrls, !i);
	}
}

/* ---- with interrupts; vectors of their own ---- */

static bool
signalled(int fd)
{
	uint64_t n;

	return read(fd, &n, sizeof(n)) == sizeof(n);
}

static void
vectors(struct spread *s)
{
	struct nvme_sqe sqe = { .opcode = nvme_admin_create_cq, .cdw11 = 3 };

	assert_true(spread_far(s, 2));
	for (unsigned i = 0; i <= 4; i++)
		signalled(s->efd[i]);
	spread_check_io(s, 2, 2);
	assert_true(signalled(s->efd[2]));
	assert_false(signalled(s->efd[1]));
	/* vector 0 is home's, a vector in use its owner's */
	for (uint16_t q = 5; q <= 8; q++) {
		uint32_t iv = q == 5 ? 0 : q == 6 ? 2 : q == 7 ? 1 : 2;

		sqe.prp1 = guest_alloc(&s->g, 4096);
		sqe.cdw10 = 15u << 16 | q;
		sqe.cdw11 = 3 | iv << 16;
		assert_int_equal(guest_cmd(&s->g, 0, sqe, NULL), 0);
		assert_ptr_equal(s->g.ctrl->cqt[q].group,
				 s->g.ctrl->cqt[iv].group);
	}
}

/* MSI-X is taken away while queues are elsewhere: the pin tells of them too. */
static void
pin_after_all(struct spread *s)
{
	int fd = eventfd(0, EFD_NONBLOCK), own = dup(fd);
	struct nvme_cqe cqe;

	assert_int_equal(irq_unbind(s->g.irqs, IRQ_MSIX, 0, 0), 0);
	assert_int_equal(irq_bind(s->g.irqs, IRQ_INTX, 0, 1, &own), 0);
	guest_submit(&s->g, 2, spread_rw(s, SPREAD_READ, 0));
	for (unsigned i = 0; i < 1000 && !s->g.ctrl->intx_level; i++)
		guest_step(&s->g, 1);
	assert_true(signalled(fd));
	assert_true(guest_wait(&s->g, 2, &cqe));
	guest_step(&s->g, 500);
	assert_false(s->g.ctrl->intx_level);
	guest_submit(&s->g, 2, spread_rw(s, SPREAD_READ, 0));
	for (unsigned i = 0; i < 1000 && !s->g.ctrl->intx_level; i++)
		guest_step(&s->g, 1);
	assert_true(s->g.ctrl->intx_level);
	guest_disable(&s->g);
	assert_false(s->g.ctrl->intx_level);
	close(fd);
}

/* ---- trapped doorbells ---- */

static void
shadows(struct spread *s)
{
	struct nvme_sqe sqe = { .opcode = nvme_admin_dbbuf };
	volatile uint32_t *shadow;
	struct nvme_cqe cqe;

	spread_check_io(s, 2, 1);
	sqe.prp1 = guest_alloc(&s->g, 4096);
	sqe.prp2 = guest_alloc(&s->g, 4096);
	assert_int_equal(guest_cmd(&s->g, 0, sqe, NULL), 0);
	shadow = guest_ptr(&s->g, sqe.prp1);
	assert_int_equal(shadow[4], s->g.q[2].tail);
	for (unsigned i = 0; i < 3; i++) {
		guest_put(&s->g, 2, spread_rw(s, SPREAD_READ, 0));
		shadow[4] = s->g.q[2].tail; /* no register */
		assert_true(guest_wait(&s->g, 2, &cqe));
		shadow[5] = s->g.q[2].head;
	}
	/* made later: with the shadow too */
	assert_int_equal(guest_create_q(&s->g, 5, 16, false), 0);
	assert_int_equal(guest_create_q(&s->g, 6, 16, false), 0);
	for (uint16_t q = 5; q <= 6; q++) {
		assert_int_equal(spread_far(s, q), q == 6);
		guest_put(&s->g, q, spread_rw(s, SPREAD_READ, 0));
		shadow[2 * q] = s->g.q[q].tail;
		assert_true(guest_wait(&s->g, q, &cqe));
	}
	guest_disable(&s->g);
	assert_int_equal(spread_enable(s, 2), 1);
	spread_check_io(s, 2, 1);
}

static const struct scenario scenarios[] = {
	{ "a failure elsewhere is the controller's", fails, POLLED },
	{ "errors reach the log", tells_errors, POLLED },
	{ "more errors than the log has", tells_many_errors, POLLED },
	{ "what a reset ends is no error", resets_tell_nothing, POLLED },
	{ "SMART counts all", counts, POLLED },
	{ "features hold everywhere", features, POLLED },
	{ "reports are true", reports, POLLED },
	{ "a vector has one owner", vectors, MSIX },
	{ "the pin, when MSI-X goes", pin_after_all, MSIX },
	{ "shadow doorbells", shadows, TRAPPED },
};

static void
test_orders(void **state)
{
	spread_run(scenarios, ARRAY_SIZE(scenarios));
}

int
spread_tell_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_orders),
	};

	return cmocka_run_group_tests_name("spread_tell", tests, spread_setup,
					   spread_teardown);
}
