/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sequences of maps, unmaps and lookups, compared page by page with a plain array.
 * Five bytes an operation: what and which file, where, how long, offset, permission.
 */
#include <errno.h>
#include <sanitizer/lsan_interface.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "belfry/ioas.h"

#define PAGES 64u /* of the IOVA space and of each file */
#define BASE (1ull << 33)
#define PG 4096ull

struct page {
	uint32_t prot; /* 0: nothing here */
	unsigned file, off, map;
};

static int files[2];
static struct page model[PAGES];
static unsigned maps;

struct wait {
	struct ioas_op op;
	int err;
	bool done;
};

static void
must(bool ok)
{
	if (!ok)
		abort();
}

static void
op_done(struct ioas_op *op, int err)
{
	struct wait *w = container_of(op, struct wait, op);

	w->err = err;
	w->done = true;
}

static int
settle(struct wait *w, int ret)
{
	if (ret != -EINPROGRESS)
		return ret;
	while (!w->done)
		reactor_step(reactor_get(0));
	return w->err;
}

static void
init(void)
{
	struct reactor_config cfg = { .cores = (unsigned[]){ 0 },
				      .ncores = 1,
				      .no_pin = true };
	static struct reactor_timer timer;
	uint32_t v;

	must(!reactors_init(&cfg));
	/* The heap of timers hangs on memory that the leak checker cannot see. */
	__lsan_disable();
	must(!reactor_timer_start(reactor_get(0), &timer, 1));
	reactor_timer_stop(&timer);
	__lsan_enable();
	for (unsigned f = 0; f < 2; f++) {
		files[f] = memfd_create("fuzz", MFD_CLOEXEC);
		must(!ftruncate(files[f], PAGES * PG));
		for (unsigned p = 0; p < PAGES; p++) {
			v = f << 16 | p;
			must(pwrite(files[f], &v, 4, (off_t)(p * PG)) == 4);
		}
	}
}

static int
model_map(unsigned at, unsigned n, unsigned file, unsigned off, uint32_t prot)
{
	bool same = true, any = false;

	if (!n || !prot || off + n > PAGES)
		return -EINVAL;
	for (unsigned i = 0; i < n && at + i < PAGES; i++) {
		const struct page *p = &model[at + i];

		any |= p->prot != 0;
		same &= p->prot == prot && p->file == file &&
			p->off == off + i && p->map == model[at].map;
	}
	if (any) { /* a duplicate is one whole map */
		same &= !at || model[at - 1].map != model[at].map ||
			!model[at - 1].prot;
		same &= at + n >= PAGES || model[at + n].map != model[at].map ||
			!model[at + n].prot;
		return same ? 0 : -EEXIST;
	}
	maps++;
	for (unsigned i = 0; i < n; i++)
		model[at + i] = (struct page){ prot, file, off + i, maps };
	return 0;
}

static int
model_unmap(unsigned at, unsigned n)
{
	unsigned end = at + n;

	if (!n)
		return -EINVAL;
	if (at && model[at].prot && model[at - 1].prot &&
	    model[at].map == model[at - 1].map)
		return -EINVAL;
	if (end < PAGES && model[end].prot && model[end - 1].prot &&
	    model[end].map == model[end - 1].map)
		return -EINVAL;
	memset(&model[at], 0, n * sizeof(model[0]));
	return 0;
}

static void
check_page(struct ioas_view *v, struct ioas_hit *hit, unsigned i)
{
	const struct page *p = &model[i];

	for (uint32_t prot = 1; prot < 4; prot++) {
		uint32_t *host =
			ioas_translate(v, hit, BASE + i * PG, PG, prot);

		must(!!host == (p->prot && (p->prot & prot) == prot));
		if (host)
			must(*host == (p->file << 16 | p->off));
	}
}

/* Pieces of [at, at + n) pages hold what the model says. */
static void
check_iov(struct ioas_view *v, struct ioas_hit *hit, unsigned at, unsigned n)
{
	struct iovec iov[PAGES];
	unsigned cnt = 0, page = at;
	bool all = true;
	int err;

	for (unsigned i = at; i < at + n; i++)
		all &= (model[i].prot & IOAS_READ) != 0;
	err = ioas_iov(v, hit, BASE + at * PG, n * PG, IOAS_READ, iov, PAGES,
		       &cnt);
	must(err == (all ? 0 : -EFAULT));
	for (unsigned i = 0; i < cnt; i++)
		for (size_t off = 0; off < iov[i].iov_len; off += PG, page++)
			must(*(uint32_t *)((char *)iov[i].iov_base + off) ==
			     (model[page].file << 16 | model[page].off));
	must(err || page == at + n);
}

static void
one(struct ioas_ctx *ctx, struct ioas_hit *hit, const uint8_t *in)
{
	unsigned at = in[1] % PAGES, n = in[2] % (PAGES - at + 1);
	unsigned off = in[3] % PAGES, file = in[0] >> 7;
	struct ioas_view *v = ioas_ctx_view(ctx);
	struct wait w = { .op.done = op_done };
	uint32_t prot = in[4] & 3;
	int fd, err;

	switch (in[0] & 3) {
	case 0:
	case 1:
		fd = dup(files[file]);
		err = ioas_map(ctx, 1, BASE + at * PG, n * PG, fd, off * PG,
			       prot, &w.op);
		if (err && err != -EINPROGRESS)
			close(fd);
		must(settle(&w, err) == model_map(at, n, file, off, prot));
		break;
	case 2:
		err = ioas_unmap(ctx, 1, BASE + at * PG, n * PG, &w.op);
		must(settle(&w, err) == model_unmap(at, n));
		break;
	default:
		if (n)
			check_iov(v, hit, at, n);
	}
	check_page(v, hit, at);
	check_page(v, hit, in[4] % PAGES);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	/* Small, so that giving back and waiting for it happen too. */
	struct ioas_limits limits = { .arena_len = 3ull << 30, .max_vmas = 3 };
	static struct ioas_ctx *ctx;
	struct ioas_hit hit = { 0 };
	struct wait w = { .op.done = op_done };

	if (!ctx) {
		init();
		must(!ioas_ctx_create(reactor_get(0), IOAS_LEGACY, &limits,
				      &ctx));
	}
	for (unsigned i = 0; i < 64 && len >= 5; i++, data += 5, len -= 5) {
		/* Four views would not fit: file 1 is only ever read. */
		uint8_t in[5];

		memcpy(in, data, 5);
		if (in[0] >> 7)
			in[4] &= (uint8_t)~IOAS_WRITE;
		one(ctx, &hit, in);
	}
	for (unsigned i = 0; i < PAGES; i++)
		check_page(ioas_ctx_view(ctx), &hit, i);
	must(!settle(&w, ioas_unmap_all(ctx, 1, &w.op)));
	memset(model, 0, sizeof(model));
	return 0;
}
