/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From options to queue pairs that are ready for load. Not for the load.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "perf.h"

#define REG_CAP 0
#define NVME_PAGE 4096u
#define MAX_NLB 65536
#define VERIFY_SIZE (1ull << 30) /* unless --size says more */

/* Our functions give exit codes. */
#define failed(...) (util_complain(__VA_ARGS__), EXIT_FAILED)

/* An error of libbelfry-host in words: -errno or an NVMe status. */
static const char *
words(int err)
{
	return err > 0 ? belfry_status_str(err) : strerror(-err);
}

static const char *
hint(int err)
{
	switch (-err) {
	case ENOENT:
		return "; is belfryd running, and a listener there? (belfryctl list)";
	case ECONNREFUSED:
		return "; the daemon that made this socket has gone";
	case EBUSY:
		return "; another client is connected";
	case EPROTONOSUPPORT:
		return "; the server does not offer iommufd, use --mode legacy";
	case EACCES:
		return "; you may not open it, try as its owner";
	}
	return "";
}

/* The socket, or the folder that it is in. */
static int
open_host(struct perf *p)
{
	struct belfry_opts opts = { .size = sizeof(opts), .mode = p->o.mode };
	const char *path = p->o.socket;
	char in_folder[4096];
	struct stat st;
	int err;

	if (!stat(path, &st) && S_ISDIR(st.st_mode)) {
		snprintf(in_folder, sizeof(in_folder), "%s/cntrl", path);
		path = in_folder;
	}
	err = belfry_connect(path, &opts, &p->h);
	if (err)
		return failed("%s: %s%s", path, words(err), hint(err));
	err = belfry_enable(p->h, 0);
	if (err)
		return failed("%s: the controller cannot be enabled: %s", path,
			      words(err));
	err = belfry_identify(p->h, &p->info);
	return err ? failed("%s: Identify: %s", path, words(err)) : 0;
}

static int
open_namespace(struct perf *p)
{
	int64_t first = p->o.nsid;
	int err;

	if (!first)
		first = belfry_next_ns(p->h, 0);
	if (first < 0)
		return failed("namespace list: %s", words((int)first));
	if (!first)
		return failed(
			"the controller has no namespace; add one with belfryctl ns add");
	err = belfry_identify_ns(p->h, (uint32_t)first, &p->ns);
	if (err == -ENOENT)
		return failed("--nsid %lld: no such namespace",
			      (long long)first);
	return err ? failed("namespace %lld: %s", (long long)first, words(err))
		   : 0;
}

/* The region of each queue, in pieces of --bs. */
static int
check_sizes(const struct perf *p, uint64_t *pieces)
{
	const struct options *o = &p->o;
	uint64_t bytes = p->ns.blocks * p->ns.block_len, cap;

	if (o->bs % p->ns.block_len || o->bs / p->ns.block_len > MAX_NLB)
		return failed("--bs %u: not a multiple of the block size, %u",
			      o->bs, p->ns.block_len);
	if (o->bs > p->info.max_transfer)
		return failed("--bs %u: the controller takes at most %u", o->bs,
			      p->info.max_transfer);
	if (o->size > bytes)
		return failed("--size %llu: the namespace has only %llu bytes",
			      (unsigned long long)o->size,
			      (unsigned long long)bytes);
	if (o->size)
		bytes = o->size;
	else if (o->verify)
		bytes = MIN(bytes, VERIFY_SIZE);
	*pieces = bytes / o->bs;
	/* Sequential and verified load has a region for each queue. */
	if (!o->random || o->verify)
		*pieces /= o->queues;
	if (!*pieces || (o->verify && *pieces <= o->qd))
		return failed(
			"%llu bytes are too few for %u queues of %u commands of %u bytes; less --qd or --queues",
			(unsigned long long)bytes, o->queues, o->qd, o->bs);
	if (belfry_reg_read(p->h, REG_CAP, &cap, sizeof(cap)))
		return failed("the server has gone");
	if (o->qd > (cap & 0xffff))
		return failed(
			"--qd %u: the controller's queues hold at most %llu commands",
			o->qd, (unsigned long long)(cap & 0xffff));
	return 0;
}

static int
open_irqs(struct perf *p)
{
	int err, count = belfry_irq_count(p->h);

	p->eventfds = calloc(p->o.queues, sizeof(int));
	if (!p->eventfds)
		return failed("%s", strerror(ENOMEM));
	for (unsigned i = 0; i < p->o.queues; i++)
		p->eventfds[i] = -1;
	if (!p->o.irq)
		return 0;
	/* Vector 0 is the admin queue's. */
	if (count < (int)p->o.queues)
		return failed(
			"--irq: %u queues, but the controller has %d interrupts",
			p->o.queues, count);
	for (unsigned i = 0; i < p->o.queues; i++) {
		p->eventfds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (p->eventfds[i] < 0)
			return failed("eventfd: %s; see ulimit -n",
				      strerror(errno));
	}
	err = belfry_irq_enable(p->h, p->eventfds, p->o.queues);
	return err ? failed("interrupts: %s", words(err)) : 0;
}

static uint32_t
pow2_up(uint32_t v)
{
	return v <= 1 ? 1 : 1u << (32 - __builtin_clz(v - 1));
}

/* Entries that want nothing but opcode and LBA: lists first, then data. */
static int
job_buffers(struct perf *p, struct job *j)
{
	uint32_t list = MIN(pow2_up((p->o.bs / NVME_PAGE + 1) * 8), NVME_PAGE);
	size_t lists = align_up((size_t)j->qd * list, NVME_PAGE);
	int err;

	j->stride = MAX(pow2_up(p->o.bs), p->ns.block_len);
	err = belfry_mem_alloc(p->h, lists + (size_t)j->qd * j->stride,
			       BELFRY_MEM_READ | BELFRY_MEM_WRITE, &j->mem);
	if (err)
		return failed("%zu bytes for buffers: %s; less --qd or --bs",
			      lists + (size_t)j->qd * j->stride, words(err));
	j->data = (uint8_t *)j->mem->va + lists;
	for (unsigned cid = 0; cid < j->qd; cid++) {
		size_t at = lists + (size_t)cid * j->stride;

		belfry_sqe_rw(&j->sqe[cid], false, p->ns.nsid, 0, j->nlb,
			      (uint16_t)cid);
		err = belfry_sqe_prp(
			&j->sqe[cid], j->mem->iova + at, p->o.bs,
			(uint64_t *)((char *)j->mem->va + (size_t)cid * list),
			j->mem->iova + (size_t)cid * list);
		if (err)
			return failed("--bs %u: %s", p->o.bs, words(err));
	}
	return 0;
}

static int
job_open(struct perf *p, unsigned i, uint64_t pieces)
{
	struct job *j = &p->jobs[i];
	const struct options *o = &p->o;
	int err;

	j->qd = o->qd;
	j->nlb = o->bs / p->ns.block_len;
	j->random = o->random;
	j->write_pct = o->write_pct;
	j->units = pieces;
	j->first = !o->random || o->verify ? i * pieces : 0;
	j->eventfd = p->eventfds[i];
	if (o->rate)
		j->tokens_per_tick = (double)o->rate / o->queues / p->hz;
	j->sqe = aligned_alloc(64, j->qd * sizeof(*j->sqe));
	j->start = calloc(j->qd, sizeof(*j->start));
	j->free_cids = calloc(j->qd, sizeof(*j->free_cids));
	if (!j->sqe || !j->start || !j->free_cids ||
	    util_random(&j->rng, sizeof(j->rng)))
		return failed("%s", strerror(ENOMEM));
	j->rng |= 1;
	while (j->nfree < j->qd) {
		j->free_cids[j->nfree] = (uint16_t)(j->qd - 1 - j->nfree);
		j->nfree++;
	}
	if (o->verify && verify_create(j, p->ns.block_len, &j->verify))
		return failed("--verify of %llu blocks: %s; less --size",
			      (unsigned long long)pieces, strerror(ENOMEM));
	err = job_buffers(p, j);
	if (err)
		return err;
	err = belfry_qpair_create(p->h, j->qd + 1, o->irq ? (int)i : -1, &j->q);
	return err ? failed("queue %u: %s", i + 1, words(err)) : 0;
}

static int
open_queues(struct perf *p, uint64_t pieces)
{
	unsigned got;
	int err = belfry_set_queue_count(p->h, p->o.queues, &got);

	if (err)
		return failed("number of queues: %s", words(err));
	if (got < p->o.queues)
		return failed("--queues %u: the controller gives %u",
			      p->o.queues, got);
	err = open_irqs(p);
	if (err)
		return err;
	if (p->o.shadow) {
		err = belfry_shadow_doorbells(p->h);
		if (err == -ENOTSUP)
			return failed(
				"--shadow: the controller does not announce Doorbell Buffer Config (transports made with disable_mappable_bar0 do)");
		if (err)
			return failed("--shadow: %s", words(err));
	}
	if (posix_memalign((void **)&p->jobs, CACHE_LINE,
			   p->o.queues * sizeof(*p->jobs)))
		return failed("%s", strerror(ENOMEM));
	memset(p->jobs, 0, p->o.queues * sizeof(*p->jobs));
	for (unsigned i = 0; !err && i < p->o.queues; i++)
		err = job_open(p, i, pieces);
	return err;
}

/* Queues go round the CPUs. */
static int
make_workers(struct perf *p)
{
	unsigned n = p->o.ncpus ? MIN(p->o.ncpus, p->o.queues) : 1;
	unsigned each = DIV_ROUND_UP(p->o.queues, n);

	p->workers = calloc(n, sizeof(*p->workers));
	p->job_ptrs = calloc((size_t)n * each, sizeof(*p->job_ptrs));
	if (!p->workers || !p->job_ptrs)
		return failed("%s", strerror(ENOMEM));
	p->nworkers = n;
	for (unsigned i = 0; i < n; i++) {
		p->workers[i].jobs = p->job_ptrs + (size_t)i * each;
		p->workers[i].cpu = p->o.ncpus ? (int)p->o.cpus[i] : -1;
		p->workers[i].irq = p->o.irq;
		p->workers[i].rests = p->o.irq || p->o.rate;
		p->workers[i].hz = p->hz;
		p->workers[i].stop = &p->stop;
		p->workers[i].gone = &p->server_gone;
	}
	for (unsigned i = 0; i < p->o.queues; i++) {
		struct worker *w = &p->workers[i % n];

		w->jobs[w->njobs++] = &p->jobs[i];
	}
	return 0;
}

int
perf_setup(struct perf *p)
{
	uint64_t pieces = 0;
	int err = open_host(p);

	p->hz = tick_hz();
	if (!err)
		err = open_namespace(p);
	if (!err)
		err = check_sizes(p, &pieces);
	if (!err)
		err = open_queues(p, pieces);
	return err ? err : make_workers(p);
}

/* The daemon is left with a controller that is off, when it still answers. */
void
perf_teardown(struct perf *p)
{
	if (p->h && !p->server_gone)
		belfry_disable(p->h);
	belfry_disconnect(p->h);
	for (unsigned i = 0; p->jobs && i < p->o.queues; i++) {
		free(p->jobs[i].sqe);
		free(p->jobs[i].start);
		free(p->jobs[i].free_cids);
		verify_destroy(p->jobs[i].verify);
	}
	for (unsigned i = 0; p->eventfds && i < p->o.queues; i++)
		if (p->eventfds[i] >= 0)
			close(p->eventfds[i]);
	free(p->jobs);
	free(p->eventfds);
	free(p->workers);
	free(p->job_ptrs);
}
