/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Registers in any order and at any moment, with everything else that can be under way:
 * resets of all kinds, shutdowns, commands, memory and namespaces that come and go. Whatever
 * happened, a host that then does as the specification says finds a working controller.
 */
#include <errno.h>

#include "spread_fx.h"

#define RDY 1u
#define SHST(csts) ((csts) >> 2 & 3)
#define CC_GOOD (6u << 16 | 4u << 20)
#define PATIENCE 20000 /* rounds */

struct any {
	struct guest_op unmap;
	struct nvme_op ns;
	unsigned resets; /* under way */
};

static uint32_t rnd = 4711; /* goes on from order to order */

static uint32_t
pick(uint32_t n)
{
	rnd = rnd * 1103515245 + 12345;
	return (rnd >> 16) % n;
}

static void
reset_done(void *arg)
{
	--*(unsigned *)arg;
}

static void
map_all(struct spread *s)
{
	guest_map(&s->g, GUEST_IOVA, s->g.opts.mem_len, 0,
		  IOAS_READ | IOAS_WRITE);
}

static void
any_cc(struct spread *s)
{
	uint32_t cc = CC_GOOD | pick(2) | pick(4) << 14;

	if (!pick(8))
		cc |= pick(8) << 4 | pick(2) << 7 | pick(2) << 11;
	guest_wr(&s->g, NVME_REG_CC, cc);
}

static void
any_admin(struct spread *s)
{
	static const uint8_t opcodes[] = {
		nvme_admin_create_cq,	 nvme_admin_create_sq,
		nvme_admin_delete_sq,	 nvme_admin_delete_cq,
		nvme_admin_set_features, nvme_admin_get_features,
		nvme_admin_async_event,	 nvme_admin_abort_cmd,
		nvme_admin_get_log_page, nvme_admin_identify,
		nvme_admin_dbbuf,	 nvme_admin_keep_alive,
	};
	struct nvme_sqe sqe = { .opcode = opcodes[pick(ARRAY_SIZE(opcodes))] };
	uint16_t qid = (uint16_t)pick(6);

	if (!s->g.q[0].depth)
		return;
	sqe.prp1 = s->data;
	sqe.prp2 = s->data + 4096;
	switch (sqe.opcode) {
	case nvme_admin_create_cq:
		sqe.cdw10 = 31 << 16 | qid;
		sqe.cdw11 = qid << 16 | pick(2) << 1 | 1;
		break;
	case nvme_admin_create_sq:
		sqe.cdw10 = 31 << 16 | qid;
		sqe.cdw11 = qid << 16 | 1;
		break;
	case nvme_admin_set_features:
	case nvme_admin_get_features: /* write cache, coalescing, events, KATO */
		sqe.cdw10 = (const uint32_t[]){ 6, 8, 9, 11, 15 }[pick(5)];
		sqe.cdw11 = pick(2) ? pick(0x400) : 0;
		break;
	case nvme_admin_get_log_page:
		sqe.cdw10 = 127 << 16 | pick(6);
		break;
	default:
		sqe.cdw10 = pick(2) ? qid : 1;
	}
	guest_submit(&s->g, 0, sqe);
}

static void
any_io(struct spread *s)
{
	static const uint8_t opcodes[] = { 0, 1, 2, 5, 8, 9, 12 };
	uint16_t qid = (uint16_t)(1 + pick(4));
	struct nvme_sqe sqe;

	if (!s->g.q[qid].depth)
		return;
	sqe = spread_rw(s, opcodes[pick(ARRAY_SIZE(opcodes))], pick(16));
	if (sqe.opcode == 9)
		sqe.cdw11 = 4;
	if (sqe.opcode == 0 && pick(2))
		sqe.nsid = NVME_NSID_ALL;
	guest_submit(&s->g, qid, sqe);
}

static void
any_ns(struct spread *s, struct any *a)
{
	switch (pick(3)) {
	case 0:
		if (!a->ns.nsid &&
		    nvme_subsys_remove_ns(s->g.subsys, 1, &a->ns) !=
			    -EINPROGRESS)
			a->ns.nsid = 0; /* there is none */
		break;
	case 1:
		if (a->ns.nsid)
			break;
		spread_release(s);
		guest_add_ns(&s->g, "disk", 1);
		break;
	default: /* what is held was checked before */
		if (!fake_bdev_held(s->disk))
			fake_bdev_resize(s->disk, pick(2) ? 8 : SPREAD_BLOCKS);
	}
}

static void
any_reset(struct spread *s, struct any *a)
{
	if (a->resets) /* an endpoint has one at a time */
		return;
	a->resets++;
	nvme_ctrl_reset(s->g.ctrl, NVME_RESET_FUNCTION, reset_done, &a->resets);
}

static void
any_step(struct spread *s, struct any *a)
{
	switch (pick(16)) {
	case 0:
	case 1:
	case 2:
		any_cc(s);
		break;
	case 3:
	case 4:
	case 5:
		any_admin(s);
		break;
	case 6:
	case 7:
	case 8:
		any_io(s);
		break;
	case 9:
		any_ns(s, a);
		break;
	case 10:
		any_reset(s, a);
		break;
	case 11:
		if (a->unmap.done)
			guest_unmap_start(&s->g, GUEST_IOVA, s->g.opts.mem_len,
					  &a->unmap);
		break;
	case 12:
		map_all(s);
		break;
	case 13:
		fake_bdev_hold(s->disk, true);
		break;
	case 14:
		if (!pick(4))
			fake_bdev_fail(s->disk, BDEV_FLUSH, -EIO, 1);
		fake_bdev_release(s->disk, pick(4), 0);
		break;
	default:
		spread_release(s);
	}
	guest_step(&s->g, pick(24));
}

static void
wait_csts(struct spread *s, uint32_t mask, uint32_t want)
{
	for (unsigned i = 0; i < PATIENCE; i++) {
		if ((guest_rd(&s->g, NVME_REG_CSTS) & mask) == want)
			return;
		guest_step(&s->g, 1);
	}
	fail_msg("CSTS is %x", guest_rd(&s->g, NVME_REG_CSTS));
}

/* What every host does, with the disk and the memory as they should be. */
static void
as_specified(struct spread *s)
{
	fake_bdev_fail(s->disk, BDEV_FLUSH, 0, 0);
	guest_wr(&s->g, NVME_REG_CC, CC_GOOD);
	wait_csts(s, RDY, 0);
	guest_forget_q(&s->g);
	s->g.used = 1 << 20; /* its memory again */
	assert_int_equal(spread_enable(s, 4), RDY);
	spread_check_io(s, 1, 2);
	spread_check_io(s, 4, 3);
}

static void
registers(struct spread *s)
{
	for (unsigned life = 0; life < 60; life++) {
		struct any a = { .unmap.done = true,
				 .ns.done = spread_removed };

		for (unsigned i = 0; i < 40; i++)
			any_step(s, &a);
		spread_release(s);
		for (unsigned i = 0;
		     i < PATIENCE && (a.resets || a.ns.nsid || !a.unmap.done);
		     i++)
			guest_step(&s->g, 1);
		assert_int_equal(a.resets, 0);
		assert_int_equal(a.ns.nsid, 0);
		assert_true(a.unmap.done);
		map_all(s);
		fake_bdev_resize(s->disk, SPREAD_BLOCKS);
		guest_add_ns(&s->g, "disk", 1);
		as_specified(s);
		if (life % 2)
			continue;
		/* a flush that failed is told on each side once */
		spread_cmd(s, 1, nvme_cmd_flush, 0);
		spread_cmd(s, 2, nvme_cmd_flush, 0);
		guest_wr(&s->g, NVME_REG_CC, RDY | 1 << 14 | CC_GOOD);
		wait_csts(s, 0x3f, RDY | 2 << 2);
		as_specified(s);
	}
}

static const struct scenario scenarios[] = {
	{ "registers in any order", registers, POLLED },
	{ "registers in any order, MSI-X", registers, MSIX },
	{ "registers in any order, trapped", registers, TRAPPED },
};

static void
test_any(void **state)
{
	spread_run(scenarios, ARRAY_SIZE(scenarios));
}

int
spread_any_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_any),
	};

	return cmocka_run_group_tests_name("any order", tests, spread_setup,
					   spread_teardown);
}
