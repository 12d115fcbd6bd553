/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The bare exchange: exchange [MS [DEPTH...]]. Two pinned threads pass 64-byte entries
 * one way and 16-byte completions the other through shared memory. A doorbell word
 * tells of entries, a phase bit of completions. Nothing is decoded, checked or
 * looked up, so no target of any kind can be faster on this machine: the floor.
 *
 * The server takes all that is there, 32 at most, as a target does. The client
 * takes each completion when it comes, or eight at a time, whichever is faster; it rings
 * once a batch. Prints "DEPTH M/s" a line, the better way's. Not a benchmark of Belfry.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "bench.h"

struct entry {
	uint32_t dw[16];
};

struct completion {
	uint32_t dw[3];
	uint16_t id;
	_Atomic uint16_t status; /* bit 0: the phase */
};
_Static_assert(sizeof(struct entry) == 64 && sizeof(struct completion) == 16,
	       "the wire's sizes");

#define ENTRIES 1024u /* a power of two, over twice the greatest depth */
#define TAKE 32u      /* what the server takes at most */
#define GROUP 8u      /* what the client waits for, in its second way */

struct shared {
	cache_aligned struct entry sq[ENTRIES];
	cache_aligned struct completion cq[ENTRIES];
	cache_aligned _Atomic uint32_t tail; /* the doorbell, free-running */
	cache_aligned _Atomic bool stop;
	unsigned core;
};

/* Is there a completion at @head? Its phase tells. */
static inline bool
there(struct shared *s, uint32_t head)
{
	struct completion *c = &s->cq[head % ENTRIES];

	return (atomic_load_explicit(&c->status, memory_order_acquire) & 1) !=
	       (head / ENTRIES & 1);
}

static void *
serve(void *arg)
{
	struct shared *s = arg;
	uint32_t head = 0;

	pin(s->core);
	while (!atomic_load_explicit(&s->stop, memory_order_relaxed)) {
		uint32_t tail =
			atomic_load_explicit(&s->tail, memory_order_acquire);
		uint32_t end = tail - head > TAKE ? head + TAKE : tail;

		for (; head != end; head++) {
			struct completion *c = &s->cq[head % ENTRIES];
			struct entry e;

			memcpy(&e, &s->sq[head % ENTRIES], sizeof(e));
			/* all of it is read, whoever needs it */
			__asm__ volatile("" : : "r"(&e) : "memory");
			c->dw[0] = e.dw[10];
			c->dw[1] = 0;
			c->dw[2] = head;
			c->id = (uint16_t)e.dw[0];
			atomic_store_explicit(&c->status, !(head / ENTRIES & 1),
					      memory_order_release);
		}
	}
	return NULL;
}

/* Take at most @max completions, none unless @group are there; how many. */
static unsigned
take(struct shared *s, uint32_t head, unsigned max, unsigned group)
{
	unsigned n = 0;

	if (!there(s, head + group - 1))
		return 0;
	while (n < max && (n < group || there(s, head + n))) {
		struct completion c;

		memcpy(&c, &s->cq[(head + n) % ENTRIES], sizeof(c));
		__asm__ volatile("" : : "r"(&c) : "memory");
		n++;
	}
	return n;
}

/* Exchanges per second, with @depth entries under way. */
static double
drive(struct shared *s, unsigned depth, unsigned ms, unsigned group)
{
	uint64_t begin = util_now_ns(), now = begin, done = 0;
	uint32_t head = 0, tail = 0, turn = 0;
	unsigned n = depth;

	do {
		for (unsigned i = 0; i < n; i++, tail++) {
			struct entry e = { { tail } };

			e.dw[10] = tail;
			s->sq[tail % ENTRIES] = e;
		}
		if (n)
			atomic_store_explicit(&s->tail, tail,
					      memory_order_release);
		n = take(s, head, depth, group);
		head += n;
		done += n;
		if (++turn % 256 == 0)
			now = util_now_ns();
	} while (now - begin < ms * 1000000ull);
	return (double)done * 1e9 / (double)(now - begin);
}

static double
run(unsigned depth, unsigned ms, unsigned group, const unsigned *cores)
{
	struct shared *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
				MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1,
				0);
	pthread_t thread;
	double rate;

	must(s != MAP_FAILED, "no memory");
	s->core = cores[0]; /* the target's, as in the other benchmarks */
	must(!pthread_create(&thread, NULL, serve, s), "no thread");
	pin(cores[1]);
	rate = drive(s, depth, ms, group);
	atomic_store(&s->stop, true);
	pthread_join(thread, NULL);
	munmap(s, sizeof(*s));
	return rate;
}

int
main(int argc, char **argv)
{
	static const char *const defaults[] = { "1", "32", "128" };
	const char *const *depths = argc > 2 ? (const char *const *)argv + 2
					     : defaults;
	unsigned ms = argc > 1 ? number(argv[1]) : 500;
	unsigned count = argc > 2 ? (unsigned)argc - 2 : 3, cores[2];
	cpu_set_t mine;

	must(!sched_getaffinity(0, sizeof(mine), &mine), "no cores");
	must(CPU_COUNT(&mine) >= 2, "two cores are needed");
	for (unsigned i = 0, c = 0; c < 2; i++)
		if (CPU_ISSET(i, &mine))
			cores[c++] = i;
	for (unsigned i = 0; i < count; i++) {
		unsigned depth = number(depths[i]);
		double one, many = 0;

		must(depth >= 1 && depth <= ENTRIES / 2, "depth: 1 to 512");
		one = run(depth, depth > GROUP ? ms / 2 : ms, 1, cores);
		if (depth > GROUP)
			many = run(depth, ms / 2, GROUP, cores);
		printf("%u %.3f\n", depth, MAX(one, many) / 1e6);
		fflush(stdout);
	}
	return 0;
}
