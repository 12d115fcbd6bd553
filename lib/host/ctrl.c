/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The controller's states: enable, disable, shutdown, reset (NVMe 2.0 §3.5, §3.6).
 * Not for commands.
 */
#include <errno.h>
#include <unistd.h>

#include "internal.h"

#define DEFAULT_ADMIN_DEPTH 32
#define MAX_ADMIN_DEPTH 4096

static int
read32(struct belfry_host *h, uint64_t off, uint32_t *v)
{
	return belfry_reg_read(h, off, v, sizeof(*v));
}

static int
write32(struct belfry_host *h, uint64_t off, uint32_t v)
{
	return belfry_reg_write(h, off, &v, sizeof(v));
}

/* Wait until CSTS & @mask is @want; -EIO: CSTS.CFS, unless @fatal_ok. */
static int
wait_csts(struct belfry_host *h, uint32_t mask, uint32_t want, bool fatal_ok)
{
	uint64_t end = util_now_ns() + timeout_of(h) * 1000000ull;

	for (unsigned us = 20;; us = MIN(us * 2, 2000u)) {
		uint32_t csts;
		int err = read32(h, REG_CSTS, &csts);

		if (err)
			return err;
		if ((csts & mask) == want)
			return 0;
		if ((csts & CSTS_CFS) && !fatal_ok)
			return -EIO;
		if (util_now_ns() >= end)
			return -ETIMEDOUT;
		usleep(us);
	}
}

/* The controller has forgotten its queues; so do we. */
static void
forget_queues(struct belfry_host *h)
{
	struct belfry_qpair *q;

	h->enabled = false;
	shadow_forget(h);
	list_for_each(q, &h->qpairs, node) {
		q->limit = 0;
		q->inflight = 0;
	}
	if (h->admin) {
		struct belfry_mem *mem = h->admin->mem;

		admin_forget(h);
		qpair_free(h->admin);
		h->admin = NULL;
		belfry_mem_free(h, mem);
	}
}

static int
check_cap(const struct belfry_host *h, unsigned depth)
{
	if (h->cap >> 48 & 15) /* CAP.MPSMIN: pages of 4 KiB */
		return -ENOTSUP;
	if (!(h->cap >> 37 & 1)) /* CAP.CSS: the NVM command set */
		return -ENOTSUP;
	return depth < 2 || depth > MAX_ADMIN_DEPTH ? -EINVAL : 0;
}

int
belfry_enable(struct belfry_host *h, unsigned admin_depth)
{
	unsigned depth = admin_depth ? admin_depth : DEFAULT_ADMIN_DEPTH;
	struct belfry_mem *mem;
	uint64_t asq, acq;
	int err;

	err = belfry_reg_read(h, REG_CAP, &h->cap, sizeof(h->cap));
	if (!err)
		err = check_cap(h, depth);
	if (!err)
		err = belfry_disable(h);
	if (!err)
		err = qpair_alloc(h, 0, depth, 0, &h->admin);
	if (err)
		return err;
	mem = h->admin->mem;
	asq = mem->iova;
	acq = mem->iova + (uint64_t)((char *)h->admin->cq - (char *)mem->va);
	err = write32(h, REG_AQA, (depth - 1) << 16 | (depth - 1));
	if (!err)
		err = belfry_reg_write(h, REG_ASQ, &asq, sizeof(asq));
	if (!err)
		err = belfry_reg_write(h, REG_ACQ, &acq, sizeof(acq));
	if (!err)
		err = write32(h, REG_CC, CC_QUEUES | CC_EN);
	if (!err)
		err = wait_csts(h, CSTS_RDY, CSTS_RDY, false);
	if (err) {
		write32(h, REG_CC, 0);
		forget_queues(h);
		return err;
	}
	h->enabled = true;
	return 0;
}

int
belfry_disable(struct belfry_host *h)
{
	uint32_t cc;
	int err = read32(h, REG_CC, &cc);

	if (!err && (cc & CC_EN))
		err = write32(h, REG_CC, cc & ~(CC_EN | CC_SHN_MASK));
	if (!err)
		err = wait_csts(h, CSTS_RDY, 0, true);
	if (!err)
		forget_queues(h);
	return err;
}

/* CC.EN stays 1, as NVMe has it; but the queues take no more. */
int
belfry_shutdown(struct belfry_host *h)
{
	struct belfry_qpair *q;
	uint32_t cc;
	int err = read32(h, REG_CC, &cc);

	if (!err)
		err = write32(h, REG_CC, (cc & ~CC_SHN_MASK) | CC_SHN_NORMAL);
	if (!err)
		err = wait_csts(h, CSTS_SHST_MASK, CSTS_SHST_DONE, false);
	if (err)
		return err;
	h->enabled = false;
	list_for_each(q, &h->qpairs, node) {
		q->limit = 0;
		q->inflight = 0;
	}
	return 0;
}

int
belfry_device_reset(struct belfry_host *h)
{
	int err = vuc_reset(h->vuc);

	if (err)
		return err;
	forget_queues(h);
	return pci_enable(h); /* the command register went, too */
}
