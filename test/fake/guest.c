/* SPDX-License-Identifier: BSD-3-Clause */
#include "fake/guest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE NVME_PAGE
#define PATIENCE_NS 5000000000ull

static void
must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "fake guest: %s\n", what);
	abort();
}

void
guest_step(struct guest *g, unsigned rounds)
{
	while (rounds--) {
		if (g->opts.round)
			g->opts.round();
		else
			reactor_step(g->r);
	}
}

void
guest_run_ms(struct guest *g, unsigned ms)
{
	uint64_t end = util_now_ns() + ms * 1000000ull;

	while (util_now_ns() < end)
		guest_step(g, 1);
}

static void
wait_for(struct guest *g, const bool *done, const char *what)
{
	uint64_t end = util_now_ns() + PATIENCE_NS;

	while (!*done && util_now_ns() < end)
		guest_step(g, 1);
	must(*done, what);
}

/* ---- memory ---- */

static void
op_done(struct ioas_op *op, int err)
{
	struct guest_op *o = container_of(op, struct guest_op, op);

	o->err = err;
	o->done = true;
}

static int
op_wait(struct guest *g, struct guest_op *o, int err)
{
	if (err != -EINPROGRESS)
		return err;
	wait_for(g, &o->done, "a mapping did not end");
	return o->err;
}

int
guest_map(struct guest *g, iova_t iova, uint64_t len, uint64_t file_off,
	  uint32_t prot)
{
	struct guest_op o = { .op.done = op_done };

	return op_wait(g, &o,
		       ioas_map(g->ioas, 1, iova, len, dup(g->memfd), file_off,
				prot, &o.op));
}

int
guest_map_nohost(struct guest *g, iova_t iova, uint64_t len)
{
	struct guest_op o = { .op.done = op_done };

	return op_wait(g, &o,
		       ioas_map(g->ioas, 1, iova, len, -1, 0,
				IOAS_READ | IOAS_WRITE, &o.op));
}

void
guest_unmap_start(struct guest *g, iova_t iova, uint64_t len,
		  struct guest_op *o)
{
	int err;

	*o = (struct guest_op){ .op.done = op_done };
	err = ioas_unmap(g->ioas, 1, iova, len, &o->op);
	if (err != -EINPROGRESS)
		op_done(&o->op, err);
}

int
guest_unmap(struct guest *g, iova_t iova, uint64_t len)
{
	struct guest_op o;

	guest_unmap_start(g, iova, len, &o);
	wait_for(g, &o.done, "an unmap did not end");
	return o.err;
}

iova_t
guest_alloc(struct guest *g, uint64_t len)
{
	iova_t iova = GUEST_IOVA + g->used;

	len = align_up(len, PAGE);
	must(len <= g->opts.mem_len - g->used, "out of guest memory");
	memset(g->mem + g->used, 0, len);
	g->used += len;
	return iova;
}

void *
guest_ptr(struct guest *g, iova_t iova)
{
	must(iova - GUEST_IOVA < g->opts.mem_len, "no such guest address");
	return g->mem + (iova - GUEST_IOVA);
}

/* ---- life ---- */

struct ctrl_wait {
	struct guest *g;
	bool done;
	int err;
	struct nvme_op op;
};

static void
ns_done(struct nvme_op *op, int err)
{
	struct ctrl_wait *w = container_of(op, struct ctrl_wait, op);

	w->err = err;
	w->done = true;
}

int
guest_add_ns(struct guest *g, const char *bdev, uint32_t nsid)
{
	struct ctrl_wait w = { .op.done = ns_done };
	struct nvme_ns_config cfg = { .bdev_name = bdev, .nsid = nsid };
	int err = nvme_subsys_add_ns(g->subsys, &cfg, &w.op);

	if (err != -EINPROGRESS)
		return err;
	wait_for(g, &w.done, "a namespace was not added");
	return w.err;
}

int
guest_remove_ns(struct guest *g, uint32_t nsid)
{
	struct ctrl_wait w = { .op.done = ns_done };
	int err = nvme_subsys_remove_ns(g->subsys, nsid, &w.op);

	if (err != -EINPROGRESS)
		return err;
	wait_for(g, &w.done, "a namespace was not removed");
	return w.err;
}

static void
ctrl_failed(void *arg, const char *why)
{
	((struct guest *)arg)->failed++;
}

static void
ctrl_created(void *arg, struct nvme_ctrl *ctrl, int err)
{
	struct ctrl_wait *w = arg;

	w->g->ctrl = ctrl;
	w->err = err;
	w->done = true;
}

void
guest_create_ctrl(struct guest *g)
{
	const struct guest_opts *o = &g->opts;
	struct ctrl_wait w = { .g = g };
	struct nvme_ctrl_config cfg = { .subsys = g->subsys,
					.home = g->r,
					.ioas = g->ioas,
					.irqs = g->irqs,
					.io_queues = o->io_queues,
					.max_depth = o->max_depth,
					.max_io_size = o->max_io_size,
					.max_aq_depth = o->max_aq_depth,
					.map_doorbells = !o->trapped,
					.shadow_doorbells = o->shadow,
					.adaptive_irq = !o->plain_irq,
					.vectors = o->vectors,
					.failed = ctrl_failed,
					.arg = g };

	nvme_ctrl_create(&cfg, ctrl_created, &w);
	wait_for(g, &w.done, "no controller");
	must(!w.err, "the controller was refused");
	g->db = NULL;
	if (o->trapped)
		return;
	g->db = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
		     nvme_ctrl_doorbell_fd(g->ctrl), NVME_DB_OFFSET);
	must(g->db != MAP_FAILED, "doorbells cannot be mapped");
}

static void
ctrl_gone(void *arg)
{
	*(bool *)arg = true;
}

void
guest_destroy_ctrl(struct guest *g)
{
	bool gone = false;

	if (!g->ctrl)
		return;
	if (g->db)
		munmap((void *)g->db, PAGE);
	g->db = NULL;
	nvme_ctrl_destroy(g->ctrl, ctrl_gone, &gone);
	wait_for(g, &gone, "the controller does not end");
	g->ctrl = NULL;
	guest_forget_q(g);
}

static void
defaults(struct guest_opts *o)
{
	if (!o->mem_len)
		o->mem_len = 16 << 20;
	if (!o->io_queues)
		o->io_queues = 8;
	if (!o->max_depth)
		o->max_depth = 1024;
	if (!o->max_io_size)
		o->max_io_size = 1 << 20;
	if (!o->vectors)
		o->vectors = 9;
	if (!o->max_aq_depth)
		o->max_aq_depth = 64;
}

void
guest_init(struct guest *g, const struct guest_opts *opts)
{
	struct nvme_subsys_config scfg = { .nqn = "nqn.2026-11.io.belfry:t",
					   .serial = "S1",
					   .model = "fake",
					   .max_namespaces = NVME_MAX_NS,
					   .min_cntlid = 1,
					   .max_cntlid = 0xffef,
					   .enable_nssr = opts->nssr };
	/* ThreadSanitizer leaves 1.5 TiB, or less, to all of them. */
	struct ioas_limits limits = { .arena_len = 32ull << 30 };

	memset(g, 0, sizeof(*g));
	g->opts = *opts;
	defaults(&g->opts);
	g->r = reactor_get(0);
	must(!nvme_core_init(g->r), "nvme_core_init");
	g->memfd = memfd_create("guest", MFD_CLOEXEC);
	must(g->memfd >= 0 && !ftruncate(g->memfd, (off_t)g->opts.mem_len),
	     "no memory");
	g->mem = mmap(NULL, g->opts.mem_len, PROT_READ | PROT_WRITE, MAP_SHARED,
		      g->memfd, 0);
	must(g->mem != MAP_FAILED, "no memory");
	must(!ioas_ctx_create(g->r, IOAS_LEGACY, &limits, &g->ioas), "no ioas");
	must(!irq_set_create(g->r, g->opts.vectors, &g->irqs), "no irqs");
	must(!guest_map(g, GUEST_IOVA, g->opts.mem_len, 0,
			IOAS_READ | IOAS_WRITE),
	     "its memory cannot be mapped");
	must(!nvme_subsys_create(&scfg, &g->subsys), "no subsystem");
	if (opts->bdev)
		must(!guest_add_ns(g, opts->bdev, 1), "no namespace");
	guest_create_ctrl(g);
}

void
guest_fini(struct guest *g)
{
	struct nvme_ns_info info;
	uint32_t nsid = 0;
	bool gone = false;

	guest_destroy_ctrl(g);
	while ((nsid = nvme_subsys_next_ns(g->subsys, nsid, &info)))
		must(!guest_remove_ns(g, nsid), "a namespace stays");
	nvme_subsys_destroy(g->subsys);
	irq_set_destroy(g->irqs);
	ioas_ctx_destroy(g->ioas, ctrl_gone, &gone);
	wait_for(g, &gone, "the address space does not end");
	munmap(g->mem, g->opts.mem_len);
	close(g->memfd);
}

/* ---- registers ---- */

uint32_t
guest_rd(struct guest *g, uint32_t off)
{
	uint32_t val = 0;

	must(!nvme_ctrl_read(g->ctrl, off, &val, sizeof(val)), "read");
	return val;
}

void
guest_wr(struct guest *g, uint32_t off, uint32_t val)
{
	must(!nvme_ctrl_write(g->ctrl, off, &val, sizeof(val)), "write");
}

void
guest_wr64(struct guest *g, uint32_t off, uint64_t val)
{
	guest_wr(g, off, (uint32_t)val);
	guest_wr(g, off + 4, (uint32_t)(val >> 32));
}

static void
q_init(struct guest *g, uint16_t qid, uint32_t depth)
{
	g->q[qid] = (struct guest_q){ .qid = qid,
				      .depth = depth,
				      .sq = guest_alloc(g, depth * 64),
				      .cq = guest_alloc(g, depth * 16),
				      .phase = true };
}

uint32_t
guest_enable(struct guest *g, uint32_t depth)
{
	uint64_t end = util_now_ns() + PATIENCE_NS;
	uint32_t csts;

	q_init(g, 0, depth);
	guest_wr(g, NVME_REG_AQA, (depth - 1) << 16 | (depth - 1));
	guest_wr64(g, NVME_REG_ASQ, g->q[0].sq);
	guest_wr64(g, NVME_REG_ACQ, g->q[0].cq);
	guest_wr(g, NVME_REG_CC, 1 | 6 << 16 | 4 << 20);
	do {
		guest_step(g, 1);
		csts = guest_rd(g, NVME_REG_CSTS);
	} while (!(csts & 3) && util_now_ns() < end);
	return csts;
}

void
guest_forget_q(struct guest *g)
{
	memset(g->q, 0, sizeof(g->q));
}

void
guest_disable(struct guest *g)
{
	uint64_t end = util_now_ns() + PATIENCE_NS;

	guest_wr(g, NVME_REG_CC, 0);
	while (guest_rd(g, NVME_REG_CSTS) & 1 && util_now_ns() < end)
		guest_step(g, 1);
	must(!(guest_rd(g, NVME_REG_CSTS) & 1), "CSTS.RDY stays");
	guest_forget_q(g);
}

uint16_t
guest_create_q(struct guest *g, uint16_t qid, uint32_t depth, bool ien)
{
	struct nvme_sqe sqe = { .opcode = 5 };
	uint16_t st;

	q_init(g, qid, depth);
	sqe.prp1 = g->q[qid].cq;
	sqe.cdw10 = (depth - 1) << 16 | qid;
	sqe.cdw11 = 1 | (uint32_t)ien << 1 | (uint32_t)qid << 16;
	st = guest_cmd(g, 0, sqe, NULL);
	if (st)
		return st;
	sqe.opcode = 1;
	sqe.prp1 = g->q[qid].sq;
	sqe.cdw11 = 1 | (uint32_t)qid << 16;
	return guest_cmd(g, 0, sqe, NULL);
}

/* ---- commands ---- */

static void
doorbell(struct guest *g, uint32_t index, uint32_t val)
{
	if (g->db)
		__atomic_store_n(&g->db[index], val, __ATOMIC_RELEASE);
	else
		guest_wr(g, NVME_DB_OFFSET + 4 * index, val);
}

uint16_t
guest_put(struct guest *g, uint16_t qid, struct nvme_sqe sqe)
{
	struct guest_q *q = &g->q[qid];

	sqe.cid = g->cid++ & 0x7fff;
	memcpy((char *)guest_ptr(g, q->sq) + q->tail * sizeof(sqe), &sqe,
	       sizeof(sqe));
	q->tail = q->tail + 1 == q->depth ? 0 : q->tail + 1;
	return sqe.cid;
}

void
guest_ring(struct guest *g, uint16_t qid)
{
	doorbell(g, 2 * qid, g->q[qid].tail);
}

uint16_t
guest_submit(struct guest *g, uint16_t qid, struct nvme_sqe sqe)
{
	uint16_t cid = guest_put(g, qid, sqe);

	guest_ring(g, qid);
	return cid;
}

bool
guest_take(struct guest *g, uint16_t qid, struct nvme_cqe *out)
{
	struct guest_q *q = &g->q[qid];
	struct nvme_cqe *cqe = (struct nvme_cqe *)guest_ptr(g, q->cq) + q->head;

	if ((__atomic_load_n(&cqe->status, __ATOMIC_ACQUIRE) & 1) != q->phase)
		return false;
	*out = *cqe;
	q->sq_head = cqe->sq_head;
	if (++q->head == q->depth) {
		q->head = 0;
		q->phase = !q->phase;
	}
	doorbell(g, 2 * qid + 1, q->head);
	return true;
}

bool
guest_wait(struct guest *g, uint16_t qid, struct nvme_cqe *out)
{
	uint64_t end = util_now_ns() + PATIENCE_NS;

	while (!guest_take(g, qid, out)) {
		if (util_now_ns() > end)
			return false;
		guest_step(g, 1);
	}
	return true;
}

uint16_t
guest_cmd(struct guest *g, uint16_t qid, struct nvme_sqe sqe,
	  struct nvme_cqe *out)
{
	uint16_t cid = guest_submit(g, qid, sqe);
	struct nvme_cqe cqe;

	do {
		if (!guest_wait(g, qid, &cqe))
			return 0xffff;
	} while (cqe.cid != cid);
	if (out)
		*out = cqe;
	return cqe.status >> 1 & 0x7ff;
}

struct nvme_sqe
guest_rw(struct guest *g, uint8_t opcode, uint64_t slba, uint32_t nlb,
	 iova_t iova, uint32_t len)
{
	struct nvme_sqe sqe = { .opcode = opcode,
				.nsid = 1,
				.prp1 = iova,
				.cdw10 = (uint32_t)slba,
				.cdw11 = (uint32_t)(slba >> 32),
				.cdw12 = nlb - 1 };
	uint32_t first = (uint32_t)(PAGE - iova % PAGE);

	if (len <= first)
		return sqe;
	len -= first;
	iova += first;
	sqe.prp2 = iova;
	if (len <= PAGE)
		return sqe;
	sqe.prp2 = guest_alloc(g, DIV_ROUND_UP(len, PAGE) * 8);
	must(len <= 512 * PAGE, "one list page is what this makes");
	for (uint32_t i = 0; i * PAGE < len; i++)
		((uint64_t *)guest_ptr(g, sqe.prp2))[i] = iova + i * PAGE;
	return sqe;
}
