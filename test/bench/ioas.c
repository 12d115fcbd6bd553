/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Address spaces: ioas [MS]. Checks per second among 1 to 100 000 extents of 4 KiB, mapped in order and
 * scattered, in both modes, and maps and unmaps per second in tables of these sizes.
 *
 *   last    the extent that was hit last, again: two compares
 *   search  another extent each time: what a miss of "last" costs
 *   refuse  an address in a hole each time
 *
 * A line each: MODE ORDER EXTENTS LAST SEARCH REFUSE MAPS UNMAPS; the first three in
 * nanoseconds a check, the others in thousands a second. In iommufd mode each extent is an mmap, which
 * the kernel limits (vm.max_map_count): a table that it refuses is shown with what fitted.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "belfry/ioas.h"
#include "belfry/log.h"
#include "bench.h"

#define PAGE 4096ull
#define MOST 100000u
#define BASE (1ull << 32)
#define STRIDE (2 * PAGE) /* a hole of a page behind each extent */
#define ADDRS 65536u
#define PIPE 64u   /* operations under way */
#define ROOM 1024u /* left below the kernel's limit */
#define RW (IOAS_READ | IOAS_WRITE)

static struct {
	struct ioas_ctx *ctx;
	bool legacy;
	unsigned n;
	iova_t iova[MOST];
	uint32_t order[MOST];
	uint32_t page[MOST];
} t;
static iova_t addrs[ADDRS];
static int memfd;
static uint64_t span_ns; /* of one measurement */
static uint32_t seed;
static volatile uintptr_t sink;

static uint32_t
rnd(uint32_t below)
{
	seed = seed * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)seed * below >> 32);
}

/* ---- maps and unmaps, PIPE at a time ---- */

struct one {
	struct ioas_op op;
	unsigned i; /* which extent */
	int fd;
	bool done;
	int err;
};
static struct one ops[PIPE];
static unsigned under_way;

static void
op_done(struct ioas_op *op, int err)
{
	struct one *o = container_of(op, struct one, op);

	o->err = err;
	under_way--;
}

static void
wait_all(void)
{
	while (under_way)
		reactor_step(reactor_get(0));
}

/* Map extents ops[0..n).i: nanoseconds. How many failed: *failed. */
static uint64_t
map_some(unsigned n, unsigned *failed)
{
	uint64_t begin;

	for (unsigned k = 0; k < n; k++) {
		ops[k].op = (struct ioas_op){ .done = op_done };
		ops[k].fd = dup(memfd); /* as it comes out of a message */
		must(ops[k].fd >= 0, "no descriptor");
	}
	begin = util_now_ns();
	for (unsigned k = 0; k < n; k++) {
		struct one *o = &ops[k];

		under_way++;
		o->err = ioas_map(t.ctx, 1, BASE + o->i * STRIDE, PAGE, o->fd,
				  t.page[o->i] * PAGE, RW, &o->op);
		if (o->err != -EINPROGRESS)
			under_way--;
	}
	wait_all();
	begin = util_now_ns() - begin;
	for (unsigned k = 0; k < n; k++) {
		if (ops[k].err)
			(*failed)++;
		else
			t.iova[ops[k].i] = t.legacy ? BASE + ops[k].i * STRIDE
						    : ops[k].op.iova;
	}
	return begin;
}

/* Until memory that was unmapped has been given back, as in the long run it must be. */
static void
settle(unsigned mapped)
{
	struct ioas_usage u;

	do {
		reactor_step(reactor_get(0));
		ioas_ctx_usage(t.ctx, &u);
	} while (!t.legacy && u.vmas > mapped);
}

/* Unmap ops[0..n).i, so that @left stay: nanoseconds. */
static uint64_t
unmap_some(unsigned n, unsigned left)
{
	uint64_t begin = util_now_ns();

	for (unsigned k = 0; k < n; k++) {
		struct one *o = &ops[k];

		o->op = (struct ioas_op){ .done = op_done };
		under_way++;
		o->err = ioas_unmap(t.ctx, 1, t.iova[o->i], PAGE, &o->op);
		if (o->err != -EINPROGRESS)
			under_way--;
	}
	wait_all();
	settle(left);
	begin = util_now_ns() - begin;
	for (unsigned k = 0; k < n; k++)
		must(!ops[k].err, "an unmap failed");
	return begin;
}

/* Take some out and put them back, again and again; thousands a second. */
static void
churn(double *maps, double *unmaps)
{
	uint64_t map_ns = 0, unmap_ns = 0, count = 0, end;
	unsigned batch = MIN(t.n, PIPE), failed = 0;

	end = util_now_ns() + 2 * span_ns;
	do {
		unsigned first = rnd(t.n);

		/* distinct ones, far apart in the table */
		for (unsigned k = 0; k < batch; k++)
			ops[k].i = t.order[(first + k) % t.n];
		unmap_ns += unmap_some(batch, t.n - batch);
		map_ns += map_some(batch, &failed);
		must(!failed, "a map failed");
		count += batch;
	} while (util_now_ns() < end);
	*maps = (double)count * 1e6 / (double)map_ns;
	*unmaps = (double)count * 1e6 / (double)unmap_ns;
}

/* ---- checks ---- */

/* Nanoseconds a check of addrs[]; @found: whether each must be there. */
static double
check(unsigned count, bool found)
{
	struct ioas_view *v = ioas_ctx_view(t.ctx);
	struct ioas_hit hit = { 0 };
	uint64_t begin = util_now_ns(), now, n = 0, good = 0;
	uintptr_t sum = 0;

	do {
		for (unsigned i = 0; i < count; i++) {
			void *host = ioas_translate(v, &hit, addrs[i], 512,
						    IOAS_WRITE);

			good += host != NULL;
			sum += (uintptr_t)host;
		}
		n += count;
		now = util_now_ns();
	} while (now - begin < span_ns);
	sink = sum;
	must(good == (found ? n : 0), "a check was wrong");
	return (double)(now - begin) / (double)n;
}

static void
checks(double *last, double *search, double *refuse)
{
	for (unsigned i = 0; i < ADDRS; i++)
		addrs[i] = t.iova[0] + i % 8 * 512;
	*last = check(ADDRS, true);
	for (unsigned i = 0, x = 0; i < ADDRS; i++) {
		/* never the same twice in a row, but for a table of one */
		x = (x + 1 + rnd(MAX(t.n, 2) - 1)) % t.n;
		addrs[i] = t.iova[x] + i % 8 * 512;
	}
	*search = check(ADDRS, true);
	for (unsigned i = 0; i < ADDRS; i++) /* a hole, or outside of all */
		addrs[i] = t.legacy ? BASE + rnd(t.n) * STRIDE + PAGE
				    : BASE + rnd(MOST) * PAGE;
	*refuse = check(ADDRS, false);
}

/* ---- tables ---- */

static void
gone(void *arg)
{
	*(bool *)arg = true;
}

static void
shuffle(uint32_t *a, unsigned n)
{
	for (unsigned i = n; i > 1; i--) {
		unsigned j = rnd(i);
		uint32_t x = a[i - 1];

		a[i - 1] = a[j];
		a[j] = x;
	}
}

/* Fill the table, until all are in or one is refused. */
static void
fill(unsigned n)
{
	unsigned failed = 0, at, k;

	for (at = 0; at < n && !failed; at += k) {
		for (k = 0; k < PIPE && at + k < n; k++)
			ops[k].i = t.order[at + k];
		map_some(k, &failed);
	}
	t.n = n;
	if (!failed)
		return;
	/* what is in: compact it, leave some room for the process itself */
	t.n = 0;
	for (k = 0; k < at; k++)
		if (t.iova[t.order[k]])
			t.order[t.n++] = t.order[k];
	must(t.n > 2 * ROOM, "hardly anything could be mapped");
	for (at = 0; at < ROOM; at += PIPE) {
		for (k = 0; k < PIPE; k++)
			ops[k].i = t.order[--t.n];
		unmap_some(PIPE, t.n);
	}
	for (k = 0; k < t.n; k++)
		addrs[k % ADDRS] = t.iova[t.order[k]];
	memcpy(t.iova, addrs, t.n * sizeof(t.iova[0]));
	for (k = 0; k < t.n; k++)
		t.order[k] = k;
	shuffle(t.order, t.n);
}

static void
table(enum ioas_mode mode, bool scattered, unsigned n)
{
	struct ioas_limits limits = { .max_extents = MOST + PIPE,
				      .max_vmas = MOST + PIPE };
	double last, search, refuse, maps, unmaps;
	bool end = false;

	seed = 1;
	memset(&t, 0, sizeof(t));
	t.legacy = mode == IOAS_LEGACY;
	for (unsigned i = 0; i < n; i++)
		t.order[i] = t.page[i] = i;
	/* else neighbours in memory would be one mapping to the kernel */
	if (!t.legacy)
		shuffle(t.page, n);
	if (scattered)
		shuffle(t.order, n);
	must(!ioas_ctx_create(reactor_get(0), mode, &limits, &t.ctx),
	     "no context");
	if (!t.legacy) {
		uint32_t id;

		must(!ioas_alloc(t.ctx, &id) && id == 1, "no address space");
		must(!ioas_bind(t.ctx, &id), "not bound");
		ops[0].op = (struct ioas_op){ .done = op_done };
		under_way++;
		if (ioas_attach(t.ctx, 1, &ops[0].op) != -EINPROGRESS)
			under_way--;
		wait_all();
	}
	fill(n);
	if (!scattered)
		shuffle(t.order, t.n); /* for the churn */
	checks(&last, &search, &refuse);
	churn(&maps, &unmaps);
	printf("%s %s %u %.2f %.2f %.2f %.1f %.1f\n",
	       t.legacy ? "legacy" : "iommufd",
	       scattered ? "scattered" : "in-order", t.n, last, search, refuse,
	       maps, unmaps);
	fflush(stdout);
	ioas_ctx_destroy(t.ctx, gone, &end);
	while (!end)
		reactor_step(reactor_get(0));
}

int
main(int argc, char **argv)
{
	static const unsigned sizes[] = { 1, 16, 1000, MOST };
	struct reactor_config cfg = { .cores = (unsigned[]){ 0 },
				      .ncores = 1,
				      .no_pin = true };

	span_ns = (argc > 1 ? number(argv[1]) : 100) * 1000000ull;
	log_set_level(LOG_ERROR);
	must(!reactors_init(&cfg), "no reactor");
	memfd = memfd_create("ioas", MFD_CLOEXEC);
	must(memfd >= 0 && !ftruncate(memfd, MOST * (off_t)PAGE), "no memory");
	for (int mode = IOAS_LEGACY; mode <= IOAS_IOMMUFD; mode++)
		for (int scattered = 0; scattered < 2; scattered++)
			for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
				table(mode, scattered, sizes[i]);
	reactors_fini();
	return 0;
}
