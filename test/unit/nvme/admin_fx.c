/* SPDX-License-Identifier: BSD-3-Clause */
#include <sched.h>
#include <sys/mman.h>

#include "admin_fx.h"

#define AQ_DEPTH 64
#define ASQ (FX_IOVA)
#define ACQ (FX_IOVA + 0x1000)
#define PATIENCE 100000		   /* rounds */
#define PATIENCE_NS 10000000000ull /* for workers: the machine may be busy */

struct waiter {
	bool done;
	int err;
	struct nvme_ctrl *ctrl;
	struct nvme_op op;
	struct ioas_op map;
};

void
fx_wait(struct fx *fx, const bool *done)
{
	uint64_t end = util_now_ns() + PATIENCE_NS;

	while (!*done && util_now_ns() < end)
		fx_step(fx, 1);
	assert_true(*done);
}

void
fx_step(struct fx *fx, unsigned n)
{
	while (n--)
		reactor_step(fx->r);
}

static void
mapped(struct ioas_op *op, int err)
{
	struct waiter *w = container_of(op, struct waiter, map);

	w->err = err;
	w->done = true;
}

static void
map_finish(struct fx *fx, struct waiter *w, int err)
{
	if (err == -EINPROGRESS) {
		fx_wait(fx, &w->done);
		err = w->err;
	}
	assert_int_equal(err, 0);
}

static void
add_memory(struct fx *fx)
{
	struct waiter w = { .map.done = mapped };

	fx->memfd = memfd_create("guest", MFD_CLOEXEC);
	assert_true(fx->memfd >= 0);
	assert_int_equal(ftruncate(fx->memfd, FX_MEM), 0);
	fx->mem = mmap(NULL, FX_MEM, PROT_READ | PROT_WRITE, MAP_SHARED,
		       fx->memfd, 0);
	assert_true(fx->mem != MAP_FAILED);
	map_finish(fx, &w,
		   ioas_map(fx->ioas, 1, FX_IOVA, FX_MEM, dup(fx->memfd), 0,
			    IOAS_READ | IOAS_WRITE, &w.map));
}

void
fx_map_extra(struct fx *fx, bool map)
{
	struct waiter w = { .map.done = mapped };
	uint64_t off = FX_DATA - FX_IOVA;
	int err;

	if (map)
		err = ioas_map(fx->ioas, 1, FX_EXTRA, FX_EXTRA_LEN,
			       dup(fx->memfd), off, IOAS_READ | IOAS_WRITE,
			       &w.map);
	else
		err = ioas_unmap(fx->ioas, 1, FX_EXTRA, FX_EXTRA_LEN, &w.map);
	map_finish(fx, &w, err);
}

static void
op_done(struct nvme_op *op, int err)
{
	struct waiter *w = container_of(op, struct waiter, op);

	w->err = err;
	w->done = true;
}

static void
op_finish(struct fx *fx, struct waiter *w, int err)
{
	if (err == -EINPROGRESS) {
		fx_wait(fx, &w->done);
		err = w->err;
	}
	if (err)
		fail_msg("%s", w->op.error);
}

void
fx_add_ns(struct fx *fx, uint32_t nsid, uint32_t block_len)
{
	struct waiter w = { .op.done = op_done };
	struct nvme_ns_config cfg = { .nsid = nsid };
	char name[16];

	snprintf(name, sizeof(name), "disk%u", nsid);
	fx->bdev[nsid] =
		fake_bdev_create(name, block_len, 1024, FAKE_BDEV_ALL_CAPS);
	assert_non_null(fx->bdev[nsid]);
	cfg.bdev_name = name;
	if (nsid == 3) {
		cfg.has_nguid = cfg.has_eui64 = true;
		memset(cfg.nguid, 0x11, sizeof(cfg.nguid));
		memset(cfg.eui64, 0x22, sizeof(cfg.eui64));
	}
	op_finish(fx, &w, nvme_subsys_add_ns(fx->subsys, &cfg, &w.op));
}

void
fx_remove_ns(struct fx *fx, uint32_t nsid)
{
	struct waiter w = { .op.done = op_done };

	op_finish(fx, &w, nvme_subsys_remove_ns(fx->subsys, nsid, &w.op));
}

static void
created(void *arg, struct nvme_ctrl *ctrl, int err)
{
	struct waiter *w = arg;

	w->ctrl = ctrl;
	w->err = err;
	w->done = true;
}

static void
make_ctrl(struct fx *fx)
{
	struct waiter w = { 0 };
	struct nvme_ctrl_config cfg = {
		.subsys = fx->subsys,
		.home = fx->r,
		.ioas = fx->ioas,
		.irqs = fx->irqs,
		.io_queues = fx->opts.io_queues,
		.max_depth = 1024,
		.max_io_size = 1 << 20,
		.max_aq_depth = 4096,
		.map_doorbells = fx->opts.map_doorbells,
		.shadow_doorbells = fx->opts.shadow_doorbells,
		.vendor = 0x1234,
		.sub_vendor = 0x5678,
		.vectors = fx->opts.vectors,
	};

	nvme_ctrl_create(&cfg, created, &w);
	fx_wait(fx, &w.done);
	assert_int_equal(w.err, 0);
	fx->ctrl = w.ctrl;
}

struct fx *
fx_new(const struct fx_opts *opts)
{
	unsigned core = (unsigned)sched_getcpu();
	struct reactor_config rc = { .cores = &core,
				     .ncores = 1,
				     .no_pin = true };
	struct nvme_subsys_config sc = {
		.nqn = "nqn.2024-01.io.belfry:unit",
		.serial = "SN123",
		.model = "A model",
		.max_namespaces = FX_NN,
		.min_cntlid = 1,
		.max_cntlid = 0xffef,
	};
	struct fx *fx = calloc(1, sizeof(*fx));

	assert_non_null(fx);
	fx->opts = *opts;
	assert_int_equal(reactors_init(&rc), 0);
	fx->r = reactor_get(0);
	assert_int_equal(bdev_init(), 0);
	assert_int_equal(nvme_core_init(fx->r), 0);
	assert_int_equal(nvme_subsys_create(&sc, &fx->subsys), 0);
	assert_int_equal(ioas_ctx_create(fx->r, IOAS_LEGACY, NULL, &fx->ioas),
			 0);
	assert_int_equal(irq_set_create(fx->r, opts->vectors, &fx->irqs), 0);
	add_memory(fx);
	fx_add_ns(fx, 1, 512);
	fx_add_ns(fx, 3, 512);
	fx_add_ns(fx, 5, 4096);
	make_ctrl(fx);
	fx_enable(fx);
	return fx;
}

static void
ended(void *arg)
{
	*(bool *)arg = true;
}

static void
deleted(struct bdev_ctl *c, int err)
{
}

void
fx_free(struct fx *fx)
{
	struct nvme_ns_info info;
	struct bdev_ctl ctl = { .done = deleted };
	bool done = false;
	uint32_t nsid;

	nvme_ctrl_destroy(fx->ctrl, ended, &done);
	fx_wait(fx, &done);
	while ((nsid = nvme_subsys_next_ns(fx->subsys, 0, &info)))
		fx_remove_ns(fx, nsid);
	nvme_subsys_destroy(fx->subsys);
	while (bdev_first()) {
		struct bdev_info b;

		bdev_info_of(bdev_first(), &b);
		bdev_delete(b.name, NULL, &ctl);
		fx_step(fx, 100);
	}
	done = false;
	ioas_ctx_destroy(fx->ioas, ended, &done);
	fx_wait(fx, &done);
	irq_set_destroy(fx->irqs);
	nvme_core_fini(fx->r);
	bdev_fini();
	reactors_fini();
	munmap(fx->mem, FX_MEM);
	close(fx->memfd);
	free(fx);
}

int
fx_setup(void **state)
{
	const struct fx_opts opts = { .map_doorbells = true,
				      .shadow_doorbells = true,
				      .io_queues = 4,
				      .vectors = 5 };

	*state = fx_new(&opts);
	return 0;
}

int
fx_teardown(void **state)
{
	fx_free(*state);
	return 0;
}

static void
reg_write(struct fx *fx, uint64_t off, uint64_t val, uint32_t len)
{
	assert_int_equal(nvme_ctrl_write(fx->ctrl, off, &val, len), 0);
}

static uint32_t
csts(struct fx *fx)
{
	uint32_t v = 0;

	assert_int_equal(nvme_ctrl_read(fx->ctrl, NVME_REG_CSTS, &v, 4), 0);
	return v;
}

void
fx_enable(struct fx *fx)
{
	memset(fx->mem, 0, 0x2000);
	reg_write(fx, NVME_REG_AQA, (AQ_DEPTH - 1) << 16 | (AQ_DEPTH - 1), 4);
	reg_write(fx, NVME_REG_ASQ, ASQ, 8);
	reg_write(fx, NVME_REG_ACQ, ACQ, 8);
	reg_write(fx, NVME_REG_CC, 4 << 20 | 6 << 16 | 1, 4);
	for (unsigned i = 0; !(csts(fx) & 1) && i < PATIENCE; i++)
		fx_step(fx, 1);
	assert_int_equal(csts(fx) & 3, 1);
	fx->tail = fx->head = 0;
	fx->phase = true;
}

void
fx_disable(struct fx *fx)
{
	reg_write(fx, NVME_REG_CC, 4 << 20 | 6 << 16, 4);
	for (unsigned i = 0; csts(fx) & 1 && i < PATIENCE; i++)
		fx_step(fx, 1);
	assert_int_equal(csts(fx) & 3, 0);
}

uint16_t
fx_submit(struct fx *fx, struct nvme_sqe sqe)
{
	sqe.cid = ++fx->cid;
	memcpy(fx->mem + fx->tail * sizeof(sqe), &sqe, sizeof(sqe));
	fx->tail = (fx->tail + 1) % AQ_DEPTH;
	reg_write(fx, 0x1000, fx->tail, 4);
	return sqe.cid;
}

bool
fx_poll(struct fx *fx, struct fx_result *out)
{
	struct nvme_cqe *cqe = (struct nvme_cqe *)(fx->mem + 0x1000) + fx->head;

	for (unsigned i = 0; (cqe->status & 1) != fx->phase; i++) {
		if (i == 1000)
			return false;
		fx_step(fx, 1);
	}
	*out = (struct fx_result){ .status = cqe->status >> 1 & 0x7ff,
				   .more = cqe->status >> 14 & 1,
				   .dnr = cqe->status >> 15,
				   .dw0 = cqe->dw0,
				   .cid = cqe->cid };
	fx->head = (fx->head + 1) % AQ_DEPTH;
	if (!fx->head)
		fx->phase = !fx->phase;
	reg_write(fx, 0x1004, fx->head, 4);
	return true;
}

struct fx_result
fx_run(struct fx *fx, struct nvme_sqe sqe)
{
	uint16_t cid = fx_submit(fx, sqe);
	struct fx_result got = { 0 };

	if (!fx_poll(fx, &got))
		fail_msg("opcode %02x: no completion", sqe.opcode);
	assert_int_equal(got.cid, cid);
	return got;
}

struct fx_result
fx_run_data(struct fx *fx, struct nvme_sqe sqe)
{
	sqe.prp1 = FX_DATA;
	sqe.prp2 = FX_DATA + NVME_PAGE;
	return fx_run(fx, sqe);
}

void *
fx_data(struct fx *fx)
{
	return fx->mem + (FX_DATA - FX_IOVA);
}

void
fx_create_queues(struct fx *fx, unsigned n)
{
	for (unsigned i = 1; i <= n; i++) {
		struct nvme_sqe cq = { .opcode = nvme_admin_create_cq,
				       .prp1 = FX_QUEUES + i * 0x2000,
				       .cdw10 = 15 << 16 | i,
				       .cdw11 = 1 };
		struct nvme_sqe sq = { .opcode = nvme_admin_create_sq,
				       .prp1 = FX_QUEUES + i * 0x2000 + 0x1000,
				       .cdw10 = 15 << 16 | i,
				       .cdw11 = i << 16 | 1 };

		assert_int_equal(fx_run(fx, cq).status, 0);
		assert_int_equal(fx_run(fx, sq).status, 0);
	}
}

struct fx_result
fx_set_feature(struct fx *fx, uint8_t fid, uint32_t val)
{
	struct nvme_sqe sqe = { .opcode = nvme_admin_set_features,
				.cdw10 = fid,
				.cdw11 = val };

	return fx_run_data(fx, sqe);
}

struct fx_result
fx_get_feature(struct fx *fx, uint8_t fid, unsigned sel)
{
	struct nvme_sqe sqe = { .opcode = nvme_admin_get_features,
				.cdw10 = sel << 8 | fid };

	return fx_run_data(fx, sqe);
}
