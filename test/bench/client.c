/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A light client for the benchmarks, on lib/host: what it does itself per I/O is as little as can be, so that
 * it measures the target. Not a load generator for users: that is belfry-perf.
 *
 *   client load SOCKET MODE OP QD QUEUES MS [GROUP [irq | shadow | RATE]]
 *       prints IOPS and interrupts per I/O. GROUP: commands a doorbell; RATE: I/Os a second at most, as many on each queue;
 *       irq: sleeps until the interrupt; shadow: likewise, and shadow doorbells
 *   client beside SOCKET SOCKET MS     one at QD1 beside another's 8 queues of 128: IOPS of both
 *   client wake SOCKET COUNT plain|shadow   first I/O after 20 ms of rest: median and maximum, microseconds
 *   client hold MODE QUEUES SOCKET...  connects, prints "ready", stays idle until its input ends
 *   client memcpy MIB PAGES MS read|write   pages of 4 KiB copied a second, as a device in memory would: out of
 *       MIB of huge pages into PAGES, or the other way
 */
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "belfry/host.h"
#include "bench.h"

#define PAGE 4096u
#define DEPTH_MIN 64u

struct queue {
	struct belfry_qpair *q;
	struct belfry_sqe *sqes; /* ready to send, but for the LBA */
	uint64_t lbas; /* 4 KiB pieces of the namespace; a power of two */
	unsigned lba_shift;
	uint64_t seed, done;
	unsigned fresh; /* pushed, not rung */
	bool stop;
};

struct conn {
	struct belfry_host *h;
	struct belfry_mem *mem;
	struct queue *queues;
	unsigned n;
};

static void
ok(int err, const char *what)
{
	if (!err)
		return;
	fprintf(stderr, "client: %s: %s\n", what,
		err > 0 ? belfry_status_str(err) : strerror(-err));
	exit(1);
}

static enum belfry_mode
mode_of(const char *s)
{
	must(!strcmp(s, "legacy") || !strcmp(s, "iommufd"), "no such mode");
	return strcmp(s, "legacy") ? BELFRY_IOMMUFD : BELFRY_LEGACY;
}

static struct belfry_host *
attach(const char *path, enum belfry_mode mode, unsigned queues)
{
	struct belfry_opts opts = { .size = sizeof(opts), .mode = mode };
	struct belfry_host *h;
	unsigned got;

	ok(belfry_connect(path, &opts, &h), path);
	ok(belfry_enable(h, 0), "enable");
	ok(belfry_set_queue_count(h, queues, &got), "queue count");
	must(got >= queues, "fewer queues than asked for");
	return h;
}

static void
queue_open(struct conn *c, struct queue *q, unsigned qd, bool write, int iv,
	   const struct belfry_ns *ns, uint64_t data)
{
	unsigned shift = ilog2(PAGE / ns->block_len);

	ok(belfry_qpair_create(c->h, MAX(2 * qd, DEPTH_MIN), iv, &q->q),
	   "queue");
	q->sqes = calloc(qd, sizeof(*q->sqes));
	must(q->sqes, "no memory");
	q->lba_shift = shift;
	q->lbas = 1ull << ilog2(ns->blocks >> shift);
	q->seed = data | 1;
	for (unsigned i = 0; i < qd; i++) {
		belfry_sqe_rw(&q->sqes[i], write, ns->nsid, 0, 1u << shift,
			      (uint16_t)i);
		ok(belfry_sqe_prp(&q->sqes[i], data + i * PAGE, PAGE, NULL, 0),
		   "prp");
	}
}

static void
conn_open(struct conn *c, const char *path, enum belfry_mode mode, unsigned n,
	  unsigned qd, bool write, int iv)
{
	struct belfry_ns ns;

	c->h = attach(path, mode, n);
	c->n = n;
	c->queues = calloc(n, sizeof(*c->queues));
	must(c->queues, "no memory");
	ok(belfry_identify_ns(c->h, 1, &ns), "namespace 1");
	ok(belfry_mem_alloc(c->h, (size_t)n * qd * PAGE,
			    BELFRY_MEM_READ | BELFRY_MEM_WRITE, &c->mem),
	   "memory");
	memset(c->mem->va, 0x5a, c->mem->len);
	for (unsigned i = 0; i < n; i++)
		queue_open(c, &c->queues[i], qd, write, iv, &ns,
			   c->mem->iova + (uint64_t)i * qd * PAGE);
}

static inline void
push(struct queue *q, unsigned cid)
{
	struct belfry_sqe *sqe = &q->sqes[cid];
	uint64_t lba;

	q->seed ^= q->seed << 13;
	q->seed ^= q->seed >> 7;
	q->seed ^= q->seed << 17;
	lba = (q->seed & (q->lbas - 1)) << q->lba_shift;
	sqe->dw[10] = (uint32_t)lba;
	sqe->dw[11] = (uint32_t)(lba >> 32);
	ok(belfry_push(q->q, sqe), "push");
	q->fresh++;
}

static void
on_done(void *arg, const struct belfry_cqe *cqe)
{
	struct queue *q = arg;

	if (unlikely(cqe->status >> 1))
		ok(cqe->status >> 1 & 0x7ff, "I/O");
	q->done++;
	if (likely(!q->stop))
		push(q, cqe->cid);
}

/* One look at a queue; what came is sent again. */
static inline unsigned
look(struct queue *q, unsigned max, unsigned group)
{
	int n = belfry_poll(q->q, max, on_done, q);

	if (unlikely(n < 0))
		ok(n, "poll");
	if (q->fresh >= group) {
		ok(belfry_ring(q->q), "ring");
		q->fresh = 0;
	}
	return (unsigned)n;
}

static void
start(struct queue *q, unsigned qd)
{
	for (unsigned i = 0; i < qd; i++)
		push(q, i);
	ok(belfry_ring(q->q), "ring");
	q->fresh = 0;
}

/* What was sent before is not ours to wait for: the target has two seconds. */
static void
drain(struct conn *c, unsigned qd, uint64_t sent)
{
	uint64_t end = util_now_ns() + 2000000000, done = 0;

	for (unsigned i = 0; i < c->n; i++)
		c->queues[i].stop = true;
	do {
		done = 0;
		for (unsigned i = 0; i < c->n; i++) {
			look(&c->queues[i], qd, 1);
			done += c->queues[i].done;
		}
	} while (done < sent && util_now_ns() < end);
}

static uint64_t
all_done(const struct conn *c)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < c->n; i++)
		n += c->queues[i].done;
	return n;
}

/* Wait as a driver does: until the interrupt. Gives the eventfd's count. */
static uint64_t
wait_irq(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t n = 0;

	must(poll(&p, 1, 2000) == 1, "an interrupt is missing");
	must(read(fd, &n, sizeof(n)) == sizeof(n), "eventfd");
	return n;
}

/* One look at each queue that is not ahead of its @share of I/Os. */
static unsigned
look_all(struct conn *c, unsigned group, uint64_t share)
{
	unsigned n = 0;

	for (unsigned i = 0; i < c->n; i++)
		if (c->queues[i].done <= share)
			n += look(&c->queues[i], 32, group);
	return n;
}

static void
drive(struct conn *c, unsigned qd, unsigned ms, unsigned group, int irq,
      unsigned rate)
{
	uint64_t begin, now, irqs = 0, turn = 0, base = 0, share = UINT64_MAX;
	struct timespec nap = { 0, 50000 };
	uint64_t span = ms * 1000000ull, warm = MIN(span / 10, 50000000);
	uint64_t first;

	for (unsigned i = 0; i < c->n; i++)
		start(&c->queues[i], qd);
	first = begin = now = util_now_ns();
	do {
		unsigned n;

		if (rate)
			share = (now - first) * rate / c->n / 1000000000;
		n = look_all(c, group, share);
		if (irq >= 0 && !n)
			irqs += wait_irq(irq);
		if (rate && !n)
			nanosleep(&nap, NULL);
		if (irq < 0 && !rate && ++turn % 64)
			continue;
		now = util_now_ns();
		if (warm && now - begin > warm) { /* now it counts */
			base = all_done(c);
			warm = irqs = 0;
			begin = now;
		}
	} while (warm || now - begin < span);
	base = all_done(c) - base;
	printf("%.0f %.4f\n", (double)base * 1e9 / (double)(now - begin),
	       (double)irqs / (double)MAX(base, 1));
	drain(c, qd, all_done(c) + (uint64_t)qd * c->n);
}

static int
load(int argc, char **argv)
{
	unsigned qd, n, ms, group = argc > 8 ? number(argv[8]) : 1;
	bool shadow = argc > 9 && !strcmp(argv[9], "shadow");
	bool irq = shadow || (argc > 9 && !strcmp(argv[9], "irq"));
	unsigned rate = argc > 9 && !irq ? number(argv[9]) : 0;
	struct conn c;
	int fd = -1;

	must(argc >= 8, "load SOCKET MODE OP QD QUEUES MS [GROUP [HOW]]");
	qd = number(argv[5]);
	n = number(argv[6]);
	ms = number(argv[7]);
	conn_open(&c, argv[2], mode_of(argv[3]), n, qd,
		  !strcmp(argv[4], "write"), irq ? 0 : -1);
	if (irq) {
		fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		must(fd >= 0, "eventfd");
		ok(belfry_irq_enable(c.h, &fd, 1), "interrupts");
	}
	if (shadow)
		ok(belfry_shadow_doorbells(c.h), "shadow doorbells");
	drive(&c, qd, ms, MIN(group, qd), fd, rate);
	belfry_disconnect(c.h);
	return 0;
}

/* IOPS of @a while @b has its queues full. */
static double
both(struct conn *a, struct conn *b, unsigned ms)
{
	uint64_t begin = util_now_ns(), now = begin, done = all_done(a);

	for (uint64_t turn = 0; now - begin < ms * 1000000ull; turn++) {
		look(&a->queues[0], 1, 1);
		look(&b->queues[turn % b->n], 8, 8);
		if (turn % 64 == 0)
			now = util_now_ns();
	}
	return (double)(all_done(a) - done) * 1e9 / (double)(now - begin);
}

static int
beside(int argc, char **argv)
{
	struct conn a, b;
	uint64_t before;
	double iops;
	unsigned ms;

	must(argc == 5, "beside SOCKET SOCKET MS");
	ms = number(argv[4]);
	conn_open(&a, argv[2], BELFRY_LEGACY, 1, 1, false, -1);
	conn_open(&b, argv[3], BELFRY_LEGACY, 8, 128, false, -1);
	start(&a.queues[0], 1);
	for (unsigned i = 0; i < b.n; i++)
		start(&b.queues[i], 128);
	before = all_done(&b);
	iops = both(&a, &b, ms);
	printf("%.0f %.0f\n", iops, (double)(all_done(&b) - before) * 1e3 / ms);
	drain(&b, 128, all_done(&b) + 8 * 128);
	drain(&a, 1, all_done(&a) + 1);
	belfry_disconnect(b.h);
	belfry_disconnect(a.h);
	return 0;
}

static int
by_value(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static int
wake(int argc, char **argv)
{
	struct timespec rest = { 0, 20000000 };
	struct conn c;
	double *us;
	unsigned n;

	must(argc == 5, "wake SOCKET COUNT plain|shadow");
	n = MAX(number(argv[3]), 1);
	us = calloc(n, sizeof(*us));
	must(us, "no memory");
	conn_open(&c, argv[2], BELFRY_LEGACY, 1, 1, false, -1);
	if (!strcmp(argv[4], "shadow"))
		ok(belfry_shadow_doorbells(c.h), "shadow doorbells");
	c.queues[0].stop = true;
	for (unsigned i = 0; i < n; i++) {
		uint64_t begin;

		nanosleep(&rest, NULL);
		begin = util_now_ns();
		start(&c.queues[0], 1);
		while (!look(&c.queues[0], 1, 1))
			must(util_now_ns() - begin < 2000000000, "no answer");
		us[i] = (double)(util_now_ns() - begin) / 1e3;
	}
	qsort(us, n, sizeof(*us), by_value);
	printf("%.1f %.1f\n", us[n / 2], us[n - 1]);
	belfry_disconnect(c.h);
	return 0;
}

static int
hold(int argc, char **argv)
{
	struct rlimit files;
	unsigned queues;
	char c;

	must(argc >= 5, "hold MODE QUEUES SOCKET...");
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	queues = number(argv[3]);
	for (int i = 4; i < argc; i++) {
		struct belfry_host *h =
			attach(argv[i], mode_of(argv[2]), MAX(queues, 1));
		struct belfry_qpair *q;

		for (unsigned j = 0; j < queues; j++)
			ok(belfry_qpair_create(h, 64, -1, &q), "queue");
	}
	printf("ready\n");
	fflush(stdout);
	while (read(STDIN_FILENO, &c, 1) > 0)
		;
	_exit(0); /* as a client that dies */
}

static int
copy(int argc, char **argv)
{
	uint64_t seed = 88172645463325252ull, begin, now, n = 0;
	char *disk, *mem;
	unsigned pages, ms;
	size_t len;
	bool write;

	must(argc == 6, "memcpy MIB PAGES MS read|write");
	len = (size_t)number(argv[2]) << 20;
	pages = number(argv[3]);
	ms = number(argv[4]);
	write = !strcmp(argv[5], "write");
	must(len && pages, "nothing to copy");
	disk = mmap(NULL, len, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mem = mmap(NULL, (size_t)pages * PAGE, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(disk != MAP_FAILED && mem != MAP_FAILED, "no memory");
	madvise(disk, len, MADV_HUGEPAGE); /* as the malloc device */
	memset(disk, 1, len);
	memset(mem, 2, (size_t)pages * PAGE);
	begin = now = util_now_ns();
	do {
		for (unsigned i = 0; i < 64; i++, n++) {
			char *at, *buf = mem + n % pages * PAGE;

			seed ^= seed << 13;
			seed ^= seed >> 7;
			seed ^= seed << 17;
			at = disk + seed % (len / PAGE) * PAGE;
			memcpy(write ? at : buf, write ? buf : at, PAGE);
			__asm__ volatile("" : : "r"(at), "r"(buf) : "memory");
		}
		now = util_now_ns();
	} while (now - begin < ms * 1000000ull);
	printf("%.0f\n", (double)n * 1e9 / (double)(now - begin));
	return 0;
}

int
main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(int argc, char **argv);
	} what[] = { { "load", load },
		     { "beside", beside },
		     { "wake", wake },
		     { "hold", hold },
		     { "memcpy", copy } };

	for (size_t i = 0; argc > 1 && i < ARRAY_SIZE(what); i++)
		if (!strcmp(argv[1], what[i].name))
			return what[i].run(argc, argv);
	fprintf(stderr, "client: load, beside, wake, hold or memcpy\n");
	return 2;
}
