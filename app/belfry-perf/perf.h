/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * belfry-perf: what its files share.
 *
 * Thread: a worker owns its jobs (a job is a queue pair) while it runs; the main thread reads their counters meanwhile,
 * and all of them afterwards.
 */
#ifndef PERF_H
#define PERF_H

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#ifdef __x86_64__
#include <x86intrin.h>
#endif

#include "belfry/host.h"
#include "belfry/util.h"

#include "hist.h"

#define MAX_CPUS 256
#define MAX_QUEUES 1024
#define MAX_QD 65535
#define GRACE_S 5 /* for commands in flight at the end */

enum { EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_MISMATCH };

struct options {
	const char *socket;
	enum belfry_mode mode;
	const char *rw; /* its name */
	bool random;
	unsigned write_pct;
	uint32_t bs;
	unsigned qd, queues;
	double time_s, warmup_s;
	uint64_t rate; /* I/Os a second of all queues, 0: no limit */
	uint64_t size; /* bytes of the namespace to use, 0: all */
	uint32_t nsid; /* 0: the first */
	unsigned cpus[MAX_CPUS], ncpus;
	bool verify, json, shadow, irq;
};

/* The first wrong byte that --verify met. */
struct mismatch {
	uint64_t lba;
	uint32_t offset; /* in the block */
	uint8_t want, got;
	const char *what;
	uint64_t other; /* the block found in its place */
};

enum job_fault {
	JOB_GOOD,
	JOB_STATUS,   /* a command failed: status, lba */
	JOB_PROTOCOL, /* a completion that belongs to no command */
	JOB_DOORBELL, /* ringing failed: err */
	JOB_STUCK,    /* commands without an answer */
	JOB_MISMATCH,
};

struct verify_state;

/* A queue pair under load. */
struct job {
	/* The path. */
	cache_aligned struct belfry_qpair *q;
	struct belfry_sqe *sqe; /* by cid, ready but for opcode and LBA */
	uint64_t *start;	/* by cid; 0: not in flight */
	uint16_t *free_cids;
	unsigned nfree, qd;
	uint32_t nlb;
	bool random, recording;
	unsigned write_pct;
	uint64_t now; /* of this batch, 0: not read yet */
	uint64_t rng;
	uint64_t first, units, next; /* in pieces of --bs */
	struct verify_state *verify; /* NULL: data does not matter */
	atomic_uint_fast64_t done;   /* completions, all phases */
	uint64_t recorded, errors;
	double tokens_per_tick; /* 0: no limit */
	uint64_t issued, t0;
	/* Results and configuration. */
	enum job_fault fault;
	int err;
	uint64_t fault_lba;
	bool fault_write;
	struct mismatch mismatch;
	struct belfry_mem *mem;
	uint8_t *data;
	uint32_t stride;
	int eventfd;
	struct hist hist;
};

static inline uint64_t
tick(void)
{
#ifdef __x86_64__
	return __rdtsc();
#else
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
#endif
}

/* Ticks a second, measured. */
double tick_hz(void);

/* When a run begins, begins to count, ends and is given up; ticks. */
struct phases {
	uint64_t start, warm, end, last;
};

/* One pass: read back all that verify knows was written (then there is no @p.end), or the load. */
struct worker {
	struct job **jobs;
	unsigned njobs;
	struct phases p;
	double hz;
	bool irq, readback;
	bool rests; /* with interrupts or a rate; else it spins */
	int cpu;    /* -1: anywhere */
	atomic_bool *stop;
	atomic_bool *gone; /* the server: nothing comes any more */
	atomic_bool finished;
	unsigned late;	    /* commands without an answer at the load's end */
	double core_wait_s; /* of the load: waited for a core; 0: not known */
	pthread_t thread;
};
void *worker_main(void *arg);

/* options.c */
/* 0: go on; else exit code + 1. */
int options_parse(int argc, char **argv, struct options *o);

/* setup.c */
struct perf {
	struct options o;
	struct belfry_host *h;
	struct belfry_ctrl_info info;
	struct belfry_ns ns;
	struct job *jobs;
	int *eventfds;
	unsigned nworkers;
	struct worker *workers;
	struct job **job_ptrs;
	double hz;
	atomic_bool stop, server_gone;
	/* results */
	double seconds, cpu_pct, target_cpu_pct; /* target: < 0 unknown */
	uint64_t checked, written;		 /* by --verify, pieces */
};
int perf_setup(struct perf *p);
void perf_teardown(struct perf *p);

/* verify.c */
int verify_create(struct job *j, uint32_t block_len, struct verify_state **out);
void verify_destroy(struct verify_state *v);
/* Choose a piece that is not in flight; fill it when it is to be written. */
uint64_t verify_begin(struct job *j, unsigned cid, uint64_t piece, bool write);
/* Its command has ended well. False: job->mismatch. */
bool verify_end(struct job *j, unsigned cid);
void verify_abort(struct job *j, unsigned cid);
/* From now on, hand out the pieces that were written, once each; UINT64_MAX: no more. */
void verify_read_back(struct job *j);
uint64_t verify_next(struct job *j, unsigned cid);
void verify_counts(const struct job *j, uint64_t *written, uint64_t *checked);

uint32_t crc32c(uint32_t crc, const void *buf, size_t len);
void block_fill(void *block, uint32_t len, uint64_t lba, uint64_t seq);
/* @seq 0: any. @scratch has room for a block. */
bool block_check(const void *block, uint32_t len, uint64_t lba, uint64_t seq,
		 void *scratch, struct mismatch *out);

/* report.c */
int report(const struct perf *p);

#endif
