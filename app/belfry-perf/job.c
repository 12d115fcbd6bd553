/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The load: a worker thread and its queue pairs. Not for what the numbers mean,
 * nor for data (verify.c).
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include "perf.h"

#define OPC_WRITE 1u
#define OPC_READ 2u
#define BATCH 64
#define SLEEP_NS 100000 /* shorter rests are spun */

/* Both clocks at once: of some looks the closest, for others may run in between. */
static uint64_t
both_clocks(uint64_t *ns)
{
	uint64_t least = UINT64_MAX, at = 0;

	for (int i = 0; i < 16; i++) {
		uint64_t a = tick(), now = util_now_ns(), b = tick();

		if (b - a < least) {
			least = b - a;
			at = a + (b - a) / 2;
			*ns = now;
		}
	}
	return at;
}

double
tick_hz(void)
{
	struct timespec pause = { .tv_nsec = 20000000 };
	uint64_t ns0 = 0, ns1 = 0, t0 = both_clocks(&ns0), t1;

	nanosleep(&pause, NULL);
	t1 = both_clocks(&ns1);
	return (double)(t1 - t0) * 1e9 / (double)(ns1 - ns0);
}

static void
fault(struct job *j, enum job_fault f, int err, unsigned cid)
{
	if (j->fault)
		return; /* the first one counts */
	j->fault = f;
	j->err = err;
	if (cid < j->qd) {
		j->fault_lba = j->sqe[cid].dw[10] | (uint64_t)j->sqe[cid].dw[11]
							    << 32;
		j->fault_write = (j->sqe[cid].dw[0] & 0xff) == OPC_WRITE;
	}
}

static void
job_done(void *arg, const struct belfry_cqe *cqe)
{
	struct job *j = arg;
	unsigned cid = cqe->cid;

	if (!j->now)
		j->now = tick();
	if (unlikely(cid >= j->qd || !j->start[cid])) {
		fault(j, JOB_PROTOCOL, cqe->cid, MAX_QD);
		return;
	}
	if (unlikely(cqe->status >> 1)) {
		j->errors++;
		fault(j, JOB_STATUS, cqe->status >> 1 & 0x7ff, cid);
		if (j->verify)
			verify_abort(j, cid);
	} else if (j->verify && !verify_end(j, cid)) {
		fault(j, JOB_MISMATCH, 0, cid);
	}
	if (j->recording) {
		/* The clocks of two cores may differ by a little. */
		uint64_t t = j->now - j->start[cid];

		hist_add(&j->hist, (int64_t)t < 0 ? 0 : t);
		j->recorded++;
	}
	j->start[cid] = 0;
	j->free_cids[j->nfree++] = (uint16_t)cid;
}

/* xorshift64*: good enough to choose blocks, three shifts and a multiplication. */
static inline uint64_t
next_random(struct job *j)
{
	uint64_t x = j->rng;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	j->rng = x;
	return x * 0x2545f4914f6cdd1dull;
}

static inline uint64_t
choose(struct job *j, bool *write)
{
	uint64_t r, piece;

	if (j->random) {
		r = next_random(j);
		piece = (uint64_t)((unsigned __int128)r * j->units >> 64);
	} else {
		piece = j->next;
		j->next = piece + 1 == j->units ? 0 : piece + 1;
	}
	*write = j->write_pct == 100 ||
		 (j->write_pct && next_random(j) % 100 < j->write_pct);
	return piece;
}

/* Push one command with the cid on top of the stack. */
static inline int
submit(struct job *j, uint64_t piece, bool write, unsigned cid)
{
	struct belfry_sqe *sqe = &j->sqe[cid];
	uint64_t lba = (j->first + piece) * j->nlb;
	int err;

	sqe->dw[0] = (write ? OPC_WRITE : OPC_READ) | cid << 16;
	sqe->dw[10] = (uint32_t)lba;
	sqe->dw[11] = (uint32_t)(lba >> 32);
	err = belfry_push(j->q, sqe);
	if (unlikely(err)) {
		fault(j, JOB_DOORBELL, err, cid);
		return err;
	}
	j->start[cid] = j->now;
	j->nfree--;
	j->issued++;
	return 0;
}

/* Fill the queue as far as the rate allows. */
static inline void
fill(struct job *j)
{
	uint64_t room = j->nfree;
	int err;

	if (j->tokens_per_tick > 0) {
		double due = (double)(j->now - j->t0) * j->tokens_per_tick;
		uint64_t n = due > (double)j->issued ? (uint64_t)due - j->issued
						     : 0;

		room = MIN(room, n);
	}
	if (!room)
		return;
	while (room--) {
		unsigned cid = j->free_cids[j->nfree - 1];
		bool write;
		uint64_t piece = choose(j, &write);

		if (j->verify)
			piece = verify_begin(j, cid, piece, write);
		if (submit(j, piece, write, cid))
			return;
	}
	err = belfry_ring(j->q);
	if (unlikely(err))
		fault(j, JOB_DOORBELL, err, MAX_QD);
}

/* The same when all that was written is read once. False: nothing left and nothing in flight. */
static bool
fill_back(struct job *j)
{
	int err;

	while (j->nfree) {
		unsigned cid = j->free_cids[j->nfree - 1];
		uint64_t piece = verify_next(j, cid);

		if (piece == UINT64_MAX)
			break;
		if (submit(j, piece, false, cid))
			return true;
	}
	err = belfry_ring(j->q);
	if (unlikely(err))
		fault(j, JOB_DOORBELL, err, MAX_QD);
	return j->nfree < j->qd;
}

/* Ticks until a token is due; 0: one is, or there is no limit. */
static uint64_t
next_token(const struct job *j, uint64_t now)
{
	double due;

	if (j->tokens_per_tick <= 0 || !j->nfree)
		return j->tokens_per_tick > 0 ? UINT64_MAX : 0;
	due = (double)(j->issued + 1) / j->tokens_per_tick;
	if (due <= (double)(now - j->t0))
		return 0;
	return (uint64_t)due - (now - j->t0);
}

/* Nothing has come: rest until an interrupt, a token, or the end. */
static void
rest(struct worker *w, uint64_t now, uint64_t end)
{
	struct pollfd p[MAX_QUEUES];
	uint64_t wait = now < end ? end - now : 1, inflight = 0, ns;
	unsigned n = 0;
	struct timespec ts;

	for (unsigned i = 0; i < w->njobs; i++) {
		const struct job *j = w->jobs[i];

		inflight += j->qd - j->nfree;
		/* A full queue waits for completions, not for tokens. */
		if (now < end && j->nfree) {
			uint64_t token = next_token(j, now);

			wait = MIN(wait, token);
		}
		p[n].fd = j->eventfd;
		p[n++].events = POLLIN;
	}
	ns = (uint64_t)((double)wait / w->hz * 1e9);
	if (ns < SLEEP_NS / 2 || (!w->irq && (inflight || ns < SLEEP_NS)))
		return;
	ns = MIN(ns, 50000000u); /* to see w->stop */
	ts.tv_sec = 0;
	ts.tv_nsec = (long)(w->irq ? ns : ns - SLEEP_NS / 2);
	if (!w->irq) {
		nanosleep(&ts, NULL);
		return;
	}
	if (ppoll(p, n, &ts, NULL) <= 0)
		return;
	for (unsigned i = 0; i < n; i++) {
		uint64_t count;

		if ((p[i].revents & POLLIN) &&
		    read(p[i].fd, &count, sizeof(count)) < 0)
			continue; /* somebody was quicker: the next poll tells */
	}
}

/* Completions of one job. How many; the time of the batch is in j->now. */
static inline int
reap(struct job *j)
{
	int n;

	j->now = 0;
	n = belfry_poll(j->q, BATCH, job_done, j);
	if (n > 0)
		atomic_store_explicit(
			&j->done,
			atomic_load_explicit(&j->done, memory_order_relaxed) +
				(unsigned)n,
			memory_order_relaxed);
	else if (n < 0)
		fault(j, JOB_DOORBELL, n, MAX_QD);
	if (!j->now)
		j->now = tick();
	return n;
}

static bool
any_fault(const struct worker *w)
{
	for (unsigned i = 0; i < w->njobs; i++)
		if (w->jobs[i]->fault)
			return true;
	return false;
}

static void
record(struct worker *w, bool on)
{
	for (unsigned i = 0; i < w->njobs; i++)
		w->jobs[i]->recording = on;
}

/* Wait for what is in flight, but for no server that has gone, and no longer than until @last. */
static void
drain(struct worker *w)
{
	for (unsigned i = 0; i < w->njobs; i++) {
		struct job *j = w->jobs[i];
		uint64_t last = tick() + (uint64_t)(GRACE_S * w->hz);

		last = MIN(last, w->p.last);
		while (j->nfree < j->qd && j->fault != JOB_PROTOCOL &&
		       j->fault != JOB_DOORBELL) {
			int n = reap(j);

			if (n > 0)
				continue;
			if (*w->gone)
				break;
			if (j->now > last) {
				fault(j, JOB_STUCK, (int)(j->qd - j->nfree),
				      MAX_QD);
				break;
			}
			if (w->irq)
				usleep(100);
		}
	}
}

static void
load(struct worker *w)
{
	uint64_t now = tick();
	bool warm = now >= w->p.warm;

	record(w, warm);
	while (now < w->p.end && !*w->stop && !any_fault(w)) {
		unsigned n = 0;

		for (unsigned i = 0; i < w->njobs; i++) {
			struct job *j = w->jobs[i];
			int got = reap(j);

			n += got > 0;
			if (j->nfree)
				fill(j);
			now = j->now;
		}
		if (unlikely(!warm && now >= w->p.warm)) {
			warm = true;
			record(w, true);
		}
		if (!n && w->rests)
			rest(w, now, w->p.end);
	}
	record(w, false);
}

/* For so long this thread has waited for a core, seconds; 0: not known. */
static double
core_wait(void)
{
	unsigned long long ns = 0;
	FILE *f = fopen("/proc/thread-self/schedstat", "re");

	if (!f)
		return 0;
	if (fscanf(f, "%*u %llu", &ns) != 1)
		ns = 0;
	fclose(f);
	return (double)ns * 1e-9;
}

static void
load_told(struct worker *w)
{
	double before = core_wait();

	load(w);
	w->core_wait_s = core_wait() - before;
	w->late = 0;
	for (unsigned i = 0; i < w->njobs; i++)
		w->late += w->jobs[i]->qd - w->jobs[i]->nfree;
}

static void
read_back(struct worker *w)
{
	uint64_t grace = (uint64_t)(GRACE_S * w->hz), seen = tick();
	bool busy = true;

	record(w, false);
	for (unsigned i = 0; i < w->njobs; i++)
		verify_read_back(w->jobs[i]);
	while (busy && !*w->stop && !any_fault(w) && tick() - seen < grace) {
		unsigned n = 0;

		busy = false;
		for (unsigned i = 0; i < w->njobs; i++) {
			n += reap(w->jobs[i]) > 0;
			busy |= fill_back(w->jobs[i]);
		}
		if (n)
			seen = tick();
		else if (busy && w->irq)
			usleep(50);
	}
}

void *
worker_main(void *arg)
{
	struct worker *w = arg;

	if (w->cpu >= 0) {
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET((unsigned)w->cpu, &set);
		pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
	}
	for (unsigned i = 0; i < w->njobs; i++) {
		w->jobs[i]->t0 = tick();
		w->jobs[i]->issued = 0;
	}
	if (w->readback)
		read_back(w);
	else
		load_told(w);
	drain(w);
	w->finished = true;
	return NULL;
}
